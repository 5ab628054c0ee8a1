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
        ({}, KEYS.replace('"mood"', '"moods"'), r"mine.jsonl row 1: column 'moods' is missing; there are key, text"),
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
