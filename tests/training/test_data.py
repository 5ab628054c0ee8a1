from __future__ import annotations

from pathlib import Path

import pytest

from robustness.errors import CheckpointError, UsageError
from robustness.testsets.example import Example
from robustness.training.data import draw, encode_rows, load_rows, spread, trainable

EXAMPLES = [Example(str(number), (f"text {number}",), label=number % 2) for number in range(50)]


def test_a_smaller_limit_draws_a_part_of_what_a_larger_one_draws() -> None:
    assert draw(EXAMPLES, 20)[:5] == draw(EXAMPLES, 5)
    assert len({example.id for example in draw(EXAMPLES, 20)}) == 20


def test_a_limit_beyond_the_rows_keeps_all_of_them() -> None:
    assert draw(EXAMPLES, 51) == draw(EXAMPLES, None) == tuple(EXAMPLES)


def test_spread_examples_reach_over_the_whole_list() -> None:
    assert [example.id for example in spread(EXAMPLES, 5)] == ["0", "10", "20", "30", "40"]


def test_the_sets_with_a_training_split_are_known() -> None:
    assert {"sst2", "qqp", "mnli", "qnli", "rte", "demo-sentiment"} <= set(trainable())


def test_a_set_without_a_training_split_is_refused_with_those_that_have_one() -> None:
    with pytest.raises(UsageError, match=r"no training split; expected one of .*sst2"):
        load_rows("advglue-sst2", None, None, 10)


def test_inputs_are_cut_to_the_shorter_of_setting_and_tokenizer(testset: str, data: Path, tiny_base: Path) -> None:
    rows = load_rows(testset, data, 4, 4)

    assert max(len(row["input_ids"]) for row in encode_rows(rows, tiny_base, 5).train) == 5
    assert {row["labels"] for row in encode_rows(rows, tiny_base, 128).dev} <= {0, 1}


def test_a_base_without_a_tokenizer_is_refused(testset: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="tokenizer cannot be loaded"):
        encode_rows(load_rows(testset, data, 4, 4), tmp_path, 16)
