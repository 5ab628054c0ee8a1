from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from robustness.errors import CheckpointError, DataError, DefinitionError, UsageError
from robustness.testsets.example import Example
from robustness.training.examples.encoding import encode_rows
from robustness.training.examples.loading import draw, load_rows, spread, trainable

EXAMPLES = [Example(str(number), (f"text {number}",), label=number % 2) for number in range(50)]


def test_a_smaller_limit_draws_a_part_of_what_a_larger_one_draws() -> None:
    assert draw(EXAMPLES, 20)[:5] == draw(EXAMPLES, 5)
    assert len({example.id for example in draw(EXAMPLES, 20)}) == 20


def test_a_limit_beyond_the_rows_keeps_all_of_them() -> None:
    assert draw(EXAMPLES, 51) == draw(EXAMPLES, None) == tuple(EXAMPLES)


def test_spread_examples_reach_over_the_whole_list() -> None:
    assert [example.id for example in spread(EXAMPLES, 5)] == ["0", "10", "20", "30", "40"]


def test_the_sets_with_a_training_split_are_known() -> None:
    assert {"sst2", "qqp", "mnli", "qnli", "rte", "demo-sentiment", "viggo", "gsm8k"} <= set(trainable())
    assert not {"gsm-plus", "advglue-sst2"} & set(trainable())


def test_a_set_without_a_training_split_is_refused_with_those_that_have_one() -> None:
    with pytest.raises(UsageError, match=r"no training split; expected one of .*sst2"):
        load_rows("advglue-sst2", None, None, 10)


def test_inputs_are_cut_to_the_shorter_of_setting_and_tokenizer(testset: str, data: Path, tiny_base: Path) -> None:
    rows = load_rows(testset, data, 4, 4)

    assert max(len(row["input_ids"]) for row in encode_rows(rows, tiny_base, 5).train) == 5
    assert {row["labels"] for row in encode_rows(rows, tiny_base, 128).selecting.rows} <= {0, 1}


def test_development_rows_that_are_training_rows_are_refused_with_their_count(
    testset: str, data: Path, tmp_path: Path
) -> None:
    lines = (data / "dev.tsv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "dev.tsv").write_text("\n".join(lines), encoding="utf-8")
    train = (data / "train.tsv").read_text(encoding="utf-8").splitlines()
    stolen = [line.replace("\t", " \t") for line in lines[5:8]]
    (tmp_path / "train.tsv").write_text("\n".join([*train, *stolen]), encoding="utf-8")

    with pytest.raises(DataError, match="3 of 60 development rows are training rows too, the first 'tiny:4'"):
        load_rows(testset, tmp_path, 10, 10)


def test_texts_that_leave_no_room_for_learnt_tokens_are_refused(testset: str, data: Path, tiny_base: Path) -> None:
    rows = load_rows(testset, data, 4, 4)

    assert encode_rows(rows, tiny_base, 28, virtual_tokens=20).train
    with pytest.raises(UsageError, match="20 learnt tokens leave room for 28 tokens of text, .* cut to 29"):
        encode_rows(rows, tiny_base, 29, virtual_tokens=20)


def test_a_base_whose_tokenizer_knows_no_word_is_refused(
    testset: str, data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """Trained on it, a model reads the same in every text."""
    shutil.copytree(tiny_base, tmp_path / "base")
    for name in ("tokenizer.json", "vocab.txt"):
        (tmp_path / "base" / name).unlink(missing_ok=True)

    with pytest.raises(CheckpointError, match="tokenizer cannot be loaded"):
        encode_rows(load_rows(testset, data, None, 8), tmp_path / "base", 128)


def test_a_base_without_a_tokenizer_is_refused(testset: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="tokenizer cannot be loaded"):
        encode_rows(load_rows(testset, data, 4, 4), tmp_path, 16)


@pytest.mark.parametrize(
    ("text", "lines", "expected"),
    [
        (
            'reader = "table"\nfile = "a.csv"',
            "text,label\nfine,1\n",
            "a.csv: the definition names no column for label",
        ),
        ('reader = "tsv"\nfile = "a.csv"\nlabel = "label"', "text\nfine\n", "line 1: column 'label' is missing"),
    ],
)
def test_rows_without_labels_are_refused(tmp_path: Path, text: str, lines: str, expected: str) -> None:
    (tmp_path / "a.csv").write_text(lines)
    definition = tmp_path / "mine.toml"
    head = 'summary = "s"\nlicence = "l"\ntask = "sst2"\nkind = "clean"\n'
    splits = (f'[[{split}.local]]\n{text}\ncolumns = ["text"]\n' for split in ("test", "train"))
    definition.write_text(head + "\n".join(splits))

    with pytest.raises((DataError, DefinitionError), match=expected):
        load_rows(str(definition), tmp_path, None, 10)


def one_label(folder: Path, train: list[int], dev: list[int]) -> str:
    """The path of a definition whose rows have such labels."""
    for name, labels in (("train", train), ("dev", dev)):
        lines = ["text,label", *(f"{name} {number},{label}" for number, label in enumerate(labels))]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    head = 'summary = "s"\nlicence = "l"\ntask = "sst2"\nkind = "clean"\n'
    part = '[[{0}.local]]\nreader = "table"\nfile = "{1}.csv"\ncolumns = ["text"]\nlabel = "label"\n'
    (folder / "mine.toml").write_text(head + part.format("test", "dev") + part.format("train", "train"))
    return str(folder / "mine.toml")


@pytest.mark.parametrize(
    ("train", "dev", "limit", "expected"),
    [
        ([1] * 9, [0, 1] * 9, None, r"all 9 training rows have the label 'positive', .*; add rows of the others"),
        ([0, 1] * 9, [0] * 18, None, r"all 9 selecting development rows have the label 'negative', .*; add rows"),
        ([0] + [1] * 99, [0, 1] * 9, 4, r"all 4 training rows .*; raise the limit: the file has others"),
        ([1, 2] * 9, [0, 1] * 9, None, r"9 of 18 rows have a label that sst2 does not have, .* count from 1"),
        ([0, 1] * 9, [0, 1, 7] * 6, None, r"6 of 18 rows have a label that sst2 does not have, first the row '3'"),
    ],
)
def test_labels_that_teach_or_tell_nothing_are_refused_for_their_reason(
    tmp_path: Path, train: list[int], dev: list[int], limit: int | None, expected: str
) -> None:
    with pytest.raises(DataError, match=expected):
        load_rows(one_label(tmp_path, train, dev), tmp_path, limit, 100)


@pytest.mark.parametrize("limit", [16, 64])
def test_a_training_file_sorted_by_label_gives_both_labels_under_a_limit(tmp_path: Path, limit: int) -> None:
    rows = load_rows(one_label(tmp_path, [0] * 500 + [1] * 500, [0] * 20 + [1] * 20), tmp_path, limit, 10)

    assert {example.label for example in rows.train} == {0, 1}
    assert sorted(example.label for example in rows.selecting) == [0] * 5 + [1] * 5
