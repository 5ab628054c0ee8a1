from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from robustness.definitions.tasks import find_task
from robustness.definitions.testsets import AdvGlueFile, HubDataset, TsvFile
from robustness.errors import DataError
from robustness.tasks.task import Task
from robustness.testsets.rows import Row, digest_rows, read_advglue, read_hub, read_tsv

SST2 = find_task("sst2")
QQP = find_task("qqp")
TSV = TsvFile(reader="tsv", file="dev.tsv", columns=("sentence",), label="label")
PAIRS_TSV = TsvFile(reader="tsv", file="dev.tsv", columns=("question1", "question2"), label="is_duplicate")
ADVGLUE = AdvGlueFile(
    reader="advglue", file="dev.json", annotations="ann.json", section="sst2", rows=1, digest="0" * 64
)
HUB = HubDataset(dataset="owner/name", config="sst2", split="validation", revision="a" * 40, rows=1)


def tsv(folder: Path, content: bytes | str) -> Path:
    path = folder / "dev.tsv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refused(path: Path, source: TsvFile = TSV, task: Task = SST2) -> str:
    with pytest.raises(DataError) as caught:
        read_tsv(path, source, task)
    message = str(caught.value)
    assert message.startswith(str(path)), message
    assert "\n" not in message
    return message.removeprefix(str(path))


def test_rows_have_their_texts_labels_and_positions(tmp_path: Path) -> None:
    path = tsv(tmp_path, "sentence\tlabel\na fine film\t1\n dull . \t0\n")

    assert read_tsv(path, TSV, SST2) == [Row("0", ("a fine film",), 1), Row("1", ("dull .",), 0)]


def test_labels_may_be_names_and_an_index_column_names_the_rows(tmp_path: Path) -> None:
    path = tsv(tmp_path, "index\tlabel\tsentence\n12\tpositive\tfine\n7\tnegative\tdull\n")

    assert read_tsv(path, TSV, SST2) == [Row("12", ("fine",), 1), Row("7", ("dull",), 0)]


def test_quotes_are_text(tmp_path: Path) -> None:
    path = tsv(tmp_path, 'sentence\tlabel\n"a\t1\n"b" c"\t0\n')

    assert [row.texts[0] for row in read_tsv(path, TSV, SST2)] == ['"a', '"b" c"']


def test_line_ends_of_windows_and_its_signature_are_no_text(tmp_path: Path) -> None:
    path = tsv(tmp_path, "\ufeffsentence\tlabel\r\nfine\t1\r\n\r\n")

    assert read_tsv(path, TSV, SST2) == [Row("0", ("fine",), 1)]


def test_line_separators_of_unicode_do_not_end_a_row(tmp_path: Path) -> None:
    path = tsv(tmp_path, "sentence\tlabel\na\u2028b\x85c\x0bd\x1ce\t1\n")

    assert read_tsv(path, TSV, SST2)[0].texts == ("a\u2028b\x85c\x0bd\x1ce",)


def test_pairs_keep_the_order_of_the_columns(tmp_path: Path) -> None:
    path = tsv(tmp_path, "id\tquestion2\tquestion1\tis_duplicate\n9\tb\ta\t1\n")

    assert read_tsv(path, PAIRS_TSV, QQP) == [Row("9", ("a", "b"), 1)]


def test_a_missing_column_names_file_line_and_header(tmp_path: Path) -> None:
    message = refused(tsv(tmp_path, "text\tlabel\nfine\t1\n"))

    assert message == " line 1: column 'sentence' is missing; the header has text, label"


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_file_of_another_separator_is_refused_with_who_reads_it(tmp_path: Path, separator: str) -> None:
    message = refused(tsv(tmp_path, "sentence,label\nfine,1\n".replace(",", separator)))

    assert "column 'label' is missing" in message
    assert f'it is separated by {separator!r}, which reader = "table" reads' in message


def test_two_columns_of_one_name_are_refused_and_not_the_last_one_taken(tmp_path: Path) -> None:
    message = refused(tsv(tmp_path, "label\tsentence\tlabel\n1\tfine\t0\n"))

    assert message == ": 2 columns are named 'label'; rename one"
    other = tsv(tmp_path, "note\tsentence\tlabel\tnote\na\tfine\t1\tb\n")  # of which none is asked for
    assert read_tsv(other, TSV, SST2)[0].label == 1


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert "line 1: column 'label' is missing; the header has nothing" in refused(tsv(tmp_path, ""))


def test_a_short_line_is_named(tmp_path: Path) -> None:
    message = refused(tsv(tmp_path, "sentence\tlabel\nfine\t1\ndull\n"))

    assert message == " line 3: fewer fields than the header has"


def test_a_tab_in_a_text_is_no_silent_cut(tmp_path: Path) -> None:
    message = refused(tsv(tmp_path, "label\tsentence\n1\tfine\n0\tdull\tand more\n"))

    assert message == " line 3: more fields than the header has; a tab in a text?"


@pytest.mark.parametrize("before", [0, 3, 5_000])
def test_what_is_not_utf8_is_named_with_its_line(tmp_path: Path, before: int) -> None:
    message = refused(tsv(tmp_path, b"sentence\tlabel\n" + b"a fine film\t1\n" * before + b"caf\xe9\t1\n"))

    assert f" line {before + 2}: not UTF-8" in message


def test_a_header_that_is_not_utf8_is_named_too(tmp_path: Path) -> None:
    assert " line 1: not UTF-8" in refused(tsv(tmp_path, "caf\xe9\tlabel\n".encode("latin-1")))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_what_editors_save_as_unicode_is_read(tmp_path: Path, encoding: str) -> None:
    rows = read_tsv(tsv(tmp_path, "sentence\tlabel\r\na caf\xe9 \u4e2d\t1\r\n".encode(encoding)), TSV, SST2)

    assert rows == [Row("0", ("a caf\xe9 \u4e2d",), 1)]


def test_utf16_that_breaks_off_is_named_as_such(tmp_path: Path) -> None:
    message = refused(tsv(tmp_path, "sentence\tlabel\nfine\t1".encode("utf-16")[:-1]))

    assert "not UTF-16, as its first bytes claim" in message


def test_line_ends_of_old_macs_end_rows(tmp_path: Path) -> None:
    assert len(read_tsv(tsv(tmp_path, "sentence\tlabel\rfine\t1\rdull\t0\r"), TSV, SST2)) == 2


def test_a_workbook_under_another_name_is_told(tmp_path: Path) -> None:
    assert ": a zip archive, as Excel's workbooks are" in refused(tsv(tmp_path, b"PK\x03\x04" + b"\xff" * 50))


def test_a_compressed_file_is_read_whatever_its_name(tmp_path: Path) -> None:
    assert len(read_tsv(tsv(tmp_path, gzip.compress(b"sentence\tlabel\nfine\t1\n")), TSV, SST2)) == 1


@pytest.mark.parametrize(
    ("label", "expected"), [("1.0", 1), (" 1 ", 1), ("0.00", 0), ("Positive", 1), (" NEGATIVE ", 0)]
)
def test_a_label_may_have_decimals_of_nothing_spaces_and_capitals(tmp_path: Path, label: str, expected: int) -> None:
    assert read_tsv(tsv(tmp_path, f"sentence\tlabel\nfine\t{label}\n"), TSV, SST2)[0].label == expected


@pytest.mark.parametrize("label", ["true", "False"])
def test_a_truth_value_is_no_label_until_the_definition_says_of_what(tmp_path: Path, label: str) -> None:
    message = refused(tsv(tmp_path, f"sentence\tlabel\nfine\t{label}\n"))

    assert f"label {label!r}; expected one of negative, positive; map it to a label" in message
    assert f'labels = {{ {label} = ... }} of reader = "table"' in message


@pytest.mark.parametrize("label", ["good", "", "1.5", "1.", "nan", "1_0", "\u0661"])
def test_an_unknown_label_is_named_with_the_known_ones(tmp_path: Path, label: str) -> None:
    message = refused(tsv(tmp_path, f"sentence\tlabel\nfine\t1\ndull\t{label}\n"))

    assert message == f" line 3: label {label!r}; expected one of negative, positive"


@pytest.mark.parametrize(("label", "expected"), [("-2", "labels 0 to 1"), ("-1", "hidden")])
def test_a_label_out_of_range_is_refused(tmp_path: Path, label: str, expected: str) -> None:
    message = refused(tsv(tmp_path, f"sentence\tlabel\nfine\t{label}\n"))

    assert " line 2: " in message
    assert expected in message


def test_a_field_as_long_as_a_book_is_read(tmp_path: Path) -> None:
    rows = read_tsv(tsv(tmp_path, f"sentence\tlabel\n{'a' * 200_000}\t1\n"), TSV, SST2)

    assert len(rows[0].texts[0]) == 200_000


def test_a_folder_is_not_read(tmp_path: Path) -> None:
    assert ": cannot be read: " in refused(tmp_path)


def advglue(folder: Path, content: str, annotations: str | None = None) -> list[Row]:
    (folder / "dev.json").write_text(content)
    if annotations is not None:
        (folder / "ann.json").write_text(annotations)
    return read_advglue(folder / "dev.json", folder / "ann.json", ADVGLUE, SST2)


def test_originals_come_from_the_annotations(tmp_path: Path) -> None:
    rows = advglue(
        tmp_path,
        '{"sst2": [{"idx": 4, "label": 1, "sentence": "fnie"}, {"idx": 5, "label": 0, "sentence": "dull"}]}',
        '{"sst2": [{"sentence": "fnie", "original_sentence": "fine"}, {"sentence": "dull"}]}',
    )

    assert rows == [Row("4", ("fnie",), 1, ("fine",)), Row("5", ("dull",), 0, None)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "not JSON"),
        ("[]", "expected an object with a list 'sst2'"),
        ('{"qqp": []}', "expected an object with a list 'sst2'"),
        ('{"sst2": [1]}', "expected an object with a list 'sst2'"),
        ('{"sst2": [{"label": 1}]}', "sst2 row 0: field 'sentence' is missing or not text"),
        ('{"sst2": [{"label": 1, "sentence": null}]}', "sst2 row 0: field 'sentence' is missing or not text"),
        ('{"sst2": [{"label": 1, "sentence": "\\ud800"}]}', "sst2 row 0: field 'sentence' is missing or not text"),
        ('{"sst2": [{"sentence": "a"}]}', "sst2 row 0: label None; expected one of"),
        ('{"sst2": [{"label": -1, "sentence": "a"}]}', "sst2 row 0: the label is hidden (-1)"),
        ('{"sst2": [{"label": 0.9, "sentence": "a"}]}', "sst2 row 0: label 0.9; expected one of"),
        ('{"sst2": [{"label": true, "sentence": "a"}]}', "sst2 row 0: label True; expected one of"),
        ('{"sst2": [{"label": Infinity, "sentence": "a"}]}', "sst2 row 0: label inf; expected one of"),
        ('{"sst2": [{"label": [1], "sentence": "a"}]}', "sst2 row 0: label [1]; expected one of"),
    ],
)
def test_a_broken_advglue_file_is_named(tmp_path: Path, content: str, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        advglue(tmp_path, content)

    assert str(caught.value).startswith(str(tmp_path / "dev.json"))
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ('{"sst2": []}', "0 rows in sst2"),
        ('{"sst2": [{"sentence": "b"}]}', "sst2 row 0: not the text of"),
        ('{"sst2": [{"original_sentence": "b"}]}', "sst2 row 0: field 'sentence' is missing"),
    ],
)
def test_annotations_that_do_not_fit_are_named(tmp_path: Path, annotations: str, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        advglue(tmp_path, '{"sst2": [{"label": 1, "sentence": "a"}]}', annotations)

    assert str(caught.value).startswith(str(tmp_path / "ann.json"))
    assert expected in str(caught.value)


def test_the_digest_does_not_depend_on_the_order_of_the_rows() -> None:
    rows = [Row(str(number), (f"text {number}", "other"), number % 2) for number in range(50)]
    shuffled = random.Random(0).sample(rows, len(rows))

    assert digest_rows(shuffled) == digest_rows(rows)


@pytest.mark.parametrize(
    "changed",
    [
        [Row("0", ("a", "b"), 0)],
        [Row("0", ("a", "b"), 1), Row("0", ("a", "b"), 1)],
        [Row("0", ("b", "a"), 1)],
        [Row("0", ("ab", ""), 1)],
        [Row("0", ("a b",), 1)],
        [],
    ],
)
def test_the_digest_changes_with_texts_labels_and_their_number(changed: list[Row]) -> None:
    assert digest_rows(changed) != digest_rows([Row("0", ("a", "b"), 1)])


def test_the_hub_is_asked_for_the_pinned_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(*args: object, **options: object) -> list[dict[str, object]]:
        asked.append((args, options))
        return [{"sentence": " fine ", "label": 1, "idx": 8}, {"sentence": "dull", "label": 0}]

    monkeypatch.setattr("datasets.load_dataset", load)

    rows = read_hub(HUB, SST2)

    assert rows == [Row("8", ("fine",), 1), Row("1", ("dull",), 0)]
    assert asked == [(("owner/name", "sst2"), {"split": "validation", "revision": "a" * 40})]


@pytest.mark.parametrize(
    "kind", ["ConnectionError", "ValueError", "DatasetNotFoundError", "DatasetGenerationError", "KeyError"]
)
def test_whatever_the_hub_raises_is_a_data_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    import builtins

    import datasets.exceptions

    error = getattr(datasets.exceptions, kind, None) or getattr(builtins, kind)

    def fail(*args: object, **options: object) -> None:
        raise error("first line\nsecond line")

    monkeypatch.setattr("datasets.load_dataset", fail)

    with pytest.raises(DataError) as caught:
        read_hub(HUB, SST2)

    message = str(caught.value)
    assert "owner/name sst2 validation" in message
    assert kind in message
    assert "give --data" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"sentence": "a", "label": -1}, "row 0: the label is hidden (-1)"),
        ({"text": "a", "label": 1}, "row 0: field 'sentence' is missing"),
    ],
)
def test_a_hub_row_that_is_not_as_described_is_named(
    monkeypatch: pytest.MonkeyPatch, record: dict[str, object], expected: str
) -> None:
    monkeypatch.setattr("datasets.load_dataset", lambda *args, **options: [record])

    with pytest.raises(DataError) as caught:
        read_hub(HUB, SST2)

    assert expected in str(caught.value)


def test_a_file_without_a_header_is_read_by_the_names_that_the_definition_gives(tmp_path: Path) -> None:
    path = tmp_path / "dev.tsv"
    path.write_text('gj04\t1\t\tThe sailors "rode" .\ngj04\t0\t*\tThem rode .\n', encoding="utf-8")
    header = ("source", "label", "mark", "sentence")
    source = TsvFile(reader="tsv", file="dev.tsv", columns=("sentence",), label="label", header=header)

    read = read_tsv(path, source, find_task("cola"))

    assert [(row.texts, row.label) for row in read] == [(('The sailors "rode" .',), 1), (("Them rode .",), 0)]
    path.write_text("gj04\t1\tx\n", encoding="utf-8")
    with pytest.raises(DataError, match="dev.tsv line 1: fewer fields than the header has"):
        read_tsv(path, source, find_task("cola"))
