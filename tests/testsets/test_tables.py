from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from robustness.definitions.catalog import TESTSETS
from robustness.errors import DataError, RobustnessError
from robustness.testsets.loading import Testset, load_testset

ROWS = [
    {"key": "a", "text": 'a fine, "good" film', "mood": "glad", "before": "a fine film", "source": "s1"},
    {"key": "b", "text": "a dull film", "mood": "sad", "before": "", "source": "s1"},
    {"key": "c", "text": "two\nlines", "mood": "sad", "before": "", "source": "s2"},
]
DEFINITION = """summary = "Mine."
licence = "mine"
task = "{task}"
kind = "adversarial"

[[test.local]]
reader = "table"
file = "{file}"
{keys}
"""
KEYS = """columns = ["text"]
label = "mood"
labels = { glad = "positive", sad = "negative" }
id = "key"
original = ["before"]
group = "source"
"""
QUESTIONS = [
    {"q": "Where?", "c": " in Rome", "a": [{"text": "Rome", "answer_start": 4}]},
    {"q": "Who?", "c": "Anna is", "a": {"text": ["Anna"], "answer_start": [0]}},
]


def write(path: Path, rows: list[dict]) -> None:
    match path.suffix:
        case ".csv" | ".tsv":
            with path.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, list(rows[0]), delimiter="," if path.suffix == ".csv" else "\t")
                writer.writeheader()
                cell = lambda v: v if isinstance(v, str) else json.dumps(v)  # noqa: E731
                writer.writerows({k: cell(v) for k, v in row.items()} for row in rows)
        case ".json":
            path.write_text(json.dumps(rows))
        case ".jsonl":
            path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
        case ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def load(folder: Path, file: str, keys: str = KEYS, task: str = "sst2") -> Testset:
    (folder / "mine.toml").write_text(DEFINITION.format(task=task, file=file, keys=keys))
    return load_testset(TESTSETS.find(str(folder / "mine.toml")), folder)


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_a_file_of_each_kind_gives_the_same_examples(tmp_path: Path, kind: str) -> None:
    write(tmp_path / f"mine.{kind}", ROWS)

    testset = load(tmp_path, f"mine.{kind}")

    first, second, third = testset.examples
    assert [e.texts for e in testset.examples] == [('a fine, "good" film',), ("a dull film",), ("two\nlines",)]
    assert [e.label for e in testset.examples] == [1, 0, 0]
    assert (first.id, first.original, second.original) == ("mine:a", ("a fine film",), None)
    assert first.group == second.group != third.group


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl"])
def test_questions_come_from_tables_too(tmp_path: Path, kind: str) -> None:
    write(tmp_path / f"q.{kind}", QUESTIONS)

    testset = load(tmp_path, f"q.{kind}", 'columns = ["q", "c"]\nanswers = "a"\n', "squad")

    assert [example.answers[0].text for example in testset.examples] == ["Rome", "Anna"]
    assert testset.examples[0].texts == ("Where?", " in Rome")


@pytest.mark.parametrize(
    ("change", "keys", "expected"),
    [
        ({"mood": "angry"}, KEYS, r"mine.jsonl row 2: label 'angry'; expected one of negative, positive"),
        ({"text": " "}, KEYS, r"mine.jsonl row 2: column 'text' is empty or not text"),
        ({"text": 3}, KEYS, r"mine.jsonl row 2: column 'text' is empty or not text"),
        ({"key": "a"}, KEYS, r"2 rows with the id 'a'"),
        (
            {},
            KEYS.replace('"mood"', '"moods"'),
            r"row 1: column 'moods' is missing; there are 'key', 'text'",
        ),
        ({}, KEYS.replace('label = "mood"\n', ""), r"the definition names no column for label"),
        ({}, KEYS.replace('["text"]', '["text", "mood"]'), r"columns names 2 columns; sst2 has 1 texts"),
        ({"mood": -1}, KEYS, r"row 2: the label is hidden \(-1\)"),
    ],
)
def test_a_row_that_is_not_as_described_is_named(tmp_path: Path, change: dict, keys: str, expected: str) -> None:
    write(tmp_path / "mine.jsonl", [ROWS[0], ROWS[1] | change, ROWS[2]])

    with pytest.raises(RobustnessError, match=expected):
        load(tmp_path, "mine.jsonl", keys)


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("mine.csv", 'text,mood\n"never closed', r"mine.csv row 1: .*cut short"),
        ("mine.csv", "text,mood\nfine\n", r"mine.csv row 1: another number of fields"),
        ("mine.json", '[{"text": "fi', r"mine.json: not JSON"),
        ("mine.json", '{"text": "fine"}', r"expected a JSON list of objects"),
        ("mine.json", "[3]", r"mine.json row 1: expected an object"),
        ("mine.jsonl", '{"text": "fine", "mood": "positive"}\n{"te', r"mine.jsonl line 2: not JSON"),
        ("mine.parquet", "PAR1 no", r"mine.parquet: not a readable Parquet file"),
        ("mine.xlsx", "x", r"a table's file ends in .csv, .tsv"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, file: str, content: str, expected: str) -> None:
    (tmp_path / file).write_text(content)

    with pytest.raises(RobustnessError, match=expected):
        load(tmp_path, file, 'columns = ["text"]\nlabel = "mood"\n')


@pytest.mark.parametrize("file", ["mine.csv", "mine.tsv", "mine.json", "mine.jsonl", "mine.parquet", "mine.csv.gz"])
def test_a_file_that_git_did_not_fetch_is_told_with_the_command_that_fetches_it(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 133466304\n")

    with pytest.raises(
        DataError, match=rf"{file} is Git LFS's pointer to the file, not the file: run git lfs pull in {tmp_path}"
    ):
        load(tmp_path, file, 'columns = ["text"]\nlabel = "mood"\n')


def test_an_answer_that_is_not_in_its_context_is_named(tmp_path: Path) -> None:
    write(tmp_path / "q.jsonl", [QUESTIONS[0], QUESTIONS[1] | {"a": {"text": "Anna", "answer_start": 2}}])

    with pytest.raises(DataError, match=r"q.jsonl row 2: the answer 'Anna' is not at character 2"):
        load(tmp_path, "q.jsonl", 'columns = ["q", "c"]\nanswers = "a"\n', "squad")


CONTRAST = [
    {"key": "a", "text": "a dull film", "mood": "sad", "before": "a fine film", "was": "glad"},
    {"key": "b", "text": "a dull play", "mood": "sad", "before": "a drab play", "was": ""},
    {"key": "c", "text": "a dull song", "mood": "sad", "before": "", "was": ""},
]
CONTRAST_KEYS = KEYS.replace('group = "source"\n', 'original_label = "was"\n')


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_originals_of_a_contrast_set_have_labels_of_their_own(tmp_path: Path, kind: str) -> None:
    write(tmp_path / f"mine.{kind}", CONTRAST)

    testset = load(tmp_path, f"mine.{kind}", CONTRAST_KEYS)

    assert [example.label for example in testset.examples] == [0, 0, 0]
    assert [example.original_label for example in testset.examples] == [1, 0, None]


def test_the_digest_of_a_test_set_has_the_labels_of_its_originals(tmp_path: Path) -> None:
    write(tmp_path / "mine.csv", CONTRAST)
    before = load(tmp_path, "mine.csv", CONTRAST_KEYS).digest
    write(tmp_path / "mine.csv", [CONTRAST[0] | {"was": "sad"}, *CONTRAST[1:]])

    assert load(tmp_path, "mine.csv", CONTRAST_KEYS).digest != before


@pytest.mark.parametrize(
    ("change", "keys", "expected"),
    [
        ({"was": "angry"}, CONTRAST_KEYS, r"row 1: was: label 'angry'; expected one of negative, positive"),
        ({}, CONTRAST_KEYS.replace('"was"', '"were"'), r"row 1: column 'were' is missing"),
        ({}, CONTRAST_KEYS.replace('original = ["before"]\n', ""), r"original_label names the column 'was'"),
    ],
)
def test_labels_of_originals_that_are_not_as_described_are_named(
    tmp_path: Path, change: dict, keys: str, expected: str
) -> None:
    write(tmp_path / "mine.csv", [CONTRAST[0] | change, *CONTRAST[1:]])

    with pytest.raises(RobustnessError, match=expected):
        load(tmp_path, "mine.csv", keys)


PLAIN = 'columns = ["text"]\nlabel = "mood"\n'
TWO = [{"text": "a fine, long film", "mood": "positive"}, {"text": "a dull film", "mood": "negative"}]


def lines(rows: list[dict], separator: str, end: str = "\n") -> str:
    cells = [[*rows[0]], *(list(map(str, row.values())) for row in rows)]
    return end.join(separator.join(f'"{cell}"' for cell in each) for each in cells) + end


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("semicolons.csv", lines(TWO, ";")),
        ("tabs.csv", lines(TWO, "\t")),
        ("pipes.csv", lines(TWO, "|")),
        ("commas.tsv", lines(TWO, ",")),
        ("signed.csv", "\ufeff" + lines(TWO, ",", "\r\n")),
        ("old-mac.csv", lines(TWO, ",", "\r")),
        ("blank-lines.csv", lines(TWO, ",", "\n\n")),
        ("UPPER.CSV", lines(TWO, ",")),
        ("lines.json", "\n".join(map(json.dumps, TWO))),
        ("old-mac.jsonl", "\r".join(map(json.dumps, TWO))),
        ("list.jsonl", json.dumps(TWO)),
        ("pretty.jsonl", json.dumps(TWO, indent=2)),
        ("signed.jsonl", "\ufeff" + "\n".join(map(json.dumps, TWO))),
        ("data.json", json.dumps({"version": 1, "data": TWO})),
    ],
)
def test_what_other_programs_save_under_such_names_is_read(tmp_path: Path, file: str, content: str) -> None:
    (tmp_path / file).write_bytes(content.encode())

    testset = load(tmp_path, file, PLAIN)

    assert [(e.texts, e.label) for e in testset.examples] == [(("a fine, long film",), 1), (("a dull film",), 0)]


def test_excels_unicode_text_is_read(tmp_path: Path) -> None:
    """UTF-16, tabs, and the suffix that the user gave it."""
    (tmp_path / "mine.csv").write_bytes(lines(TWO, "\t", "\r\n").encode("utf-16"))

    assert [e.label for e in load(tmp_path, "mine.csv", PLAIN).examples] == [1, 0]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
def test_a_cell_as_long_as_a_book_is_read(tmp_path: Path, kind: str) -> None:
    write(tmp_path / f"mine.{kind}", [{"text": "word " * 40_000, "mood": "positive"}])

    assert len(load(tmp_path, f"mine.{kind}", PLAIN).examples[0].texts[0]) == 199_999


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("mine.csv", "text,mood,mood\nfine,1,0\n", r"mine.csv: 2 columns are named 'mood'; rename one"),
        ("mine.csv", "text;mood;mood\nfine;1;0\n", r"mine.csv: 2 columns are named 'mood'; rename one"),
        (
            "mine.jsonl",
            '{"text": "fine", "mood": 1, "mood": 0}\n',
            r"the key 'mood' twice, and one",
        ),
        (
            "mine.json",
            '[{"text": "fine", "mood": 1, "mood": 0}]',
            r"the key 'mood' twice, and one",
        ),
        ("mine.csv", 'text,mood\n"5" screen",1\n', r"row 1: ',' expected after '\"'.*own are written twice"),
        ("mine.csv", 'text,mood\n"5,1\nfine,0\n', r"row 1: its quote is never closed"),
        (
            "mine.csv",
            "text,mood\nfine, long,1\n",
            r"row 1: another number of fields.*\(3, not 2\)",
        ),
        ("mine.csv", "", r"no rows in .*mine.csv"),
        ("mine.csv", "text,mood\n", r"no rows in .*mine.csv"),
        ("mine.jsonl", "\n\n", r"no rows in .*mine.jsonl"),
        ("mine.json", "[]", r"no rows in .*mine.json"),
        ("mine.json", '{"text": ["fine"], "mood": [1]}', r"got an object with 'text', 'mood'; with pandas: to_json"),
        ("mine.csv", " text, mood\nfine,1\n", r"column 'text' is missing; there are ' text', ' mood'"),
        ("mine.csv", "text,mood\nfine,True\n", r"row 1: label 'True'; .*labels = { True = ... }"),
    ],
)
def test_what_cannot_be_read_is_refused_for_its_true_reason(
    tmp_path: Path, file: str, content: str, expected: str
) -> None:
    (tmp_path / file).write_text(content)

    with pytest.raises(DataError, match=expected):
        load(tmp_path, file, PLAIN)


def test_two_columns_of_one_name_in_a_parquet_file_are_refused(tmp_path: Path) -> None:
    table = pyarrow.table([["fine"], [1], [0]], names=["text", "mood", "mood"])
    pyarrow.parquet.write_table(table, tmp_path / "mine.parquet")

    with pytest.raises(DataError, match=r"mine.parquet: 2 columns are named 'mood'; rename one"):
        load(tmp_path, "mine.parquet", PLAIN)


@pytest.mark.parametrize("labels", [[1.0, 0.0], [True, False], ["1.0", "0"], [" Positive", "negative "]])
def test_labels_of_other_types_stand_for_the_same(tmp_path: Path, labels: list[object]) -> None:
    write(tmp_path / "mine.parquet", [row | {"mood": label} for row, label in zip(TWO, labels, strict=True)])
    truth = 'labels = { True = "positive", False = "negative" }\n' if True in labels and labels[0] is True else ""

    assert [e.label for e in load(tmp_path, "mine.parquet", PLAIN + truth).examples] == [1, 0]


@pytest.mark.parametrize("labels", [[2, 1], [2.0, 1.0], ["2", " 1 "]])
def test_a_map_of_labels_holds_whatever_type_the_file_has_them_in(tmp_path: Path, labels: list[object]) -> None:
    """A float that missed the map would be taken for an index, and every label be wrong without a word."""
    write(tmp_path / "mine.parquet", [row | {"mood": label} for row, label in zip(TWO, labels, strict=True)])
    mapped = PLAIN + 'labels = { 1 = "negative", 2 = "positive" }\n'

    assert [e.label for e in load(tmp_path, "mine.parquet", mapped).examples] == [1, 0]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (
            [1, 2, 1, 2],
            r"2 of 4 rows have a label that sst2 does not have, first the row '2' with label 2; .*from 1: ",
        ),
        (
            [0, 2, 1, 5],
            r"2 of 4 rows .* the row '2' with label 2; it has labels 0 to 1 \(negative, positive\); mend",
        ),
    ],
)
def test_labels_beyond_the_tasks_are_refused_with_their_number(
    tmp_path: Path, labels: list[int], expected: str
) -> None:
    write(tmp_path / "mine.csv", [{"text": f"text {i}", "mood": str(label)} for i, label in enumerate(labels)])

    with pytest.raises(DataError, match=expected) as caught:
        load(tmp_path, "mine.csv", PLAIN)

    if "from 1" in expected:
        assert 'labels = { 1 = "negative", 2 = "positive" } of reader = "table"' in str(caught.value)


def test_a_label_of_an_original_beyond_the_tasks_is_refused_too(tmp_path: Path) -> None:
    write(tmp_path / "mine.csv", [CONTRAST[0] | {"was": "3"}, *CONTRAST[1:]])

    with pytest.raises(DataError, match=r"1 of 3 rows .* first the row 'a' with label 3"):
        load(tmp_path, "mine.csv", CONTRAST_KEYS)


NFC, NFD = "caf\xe9", "cafe\u0301"


@pytest.mark.parametrize(("context", "answer"), [(NFC, NFD), (NFD, NFC), (NFC, NFC), (NFD, NFD)])
def test_an_answer_of_another_unicode_form_is_read_as_its_paragraph_writes_it(
    tmp_path: Path, context: str, answer: str
) -> None:
    write(tmp_path / "q.jsonl", [{"q": "Where?", "c": f"In a {context}.", "a": {"text": answer, "answer_start": 5}}])

    (example,) = load(tmp_path, "q.jsonl", 'columns = ["q", "c"]\nanswers = "a"\n', "squad").examples

    assert (example.answers[0].text, example.answers[0].start) == (context, 5)


@pytest.mark.parametrize(
    ("answer", "start", "expected"),
    [
        (NFD, 9, r"there stands '.*'; it stands at 5, in another Unicode form"),
        (NFC, 7, r"there stands 'f\xe9.'; it stands at 5$"),
        ("tea", 5, r"there stands 'caf'$"),
    ],
)
def test_an_answer_elsewhere_is_refused_with_where_it_stands(
    tmp_path: Path, answer: str, start: int, expected: str
) -> None:
    write(tmp_path / "q.jsonl", [{"q": "Where?", "c": f"In a {NFC}.", "a": {"text": answer, "answer_start": start}}])

    with pytest.raises(DataError, match=expected):
        load(tmp_path, "q.jsonl", 'columns = ["q", "c"]\nanswers = "a"\n', "squad")
