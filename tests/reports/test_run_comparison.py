"""`robustness compare`: which examples of two runs are the same."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from robustness import api
from robustness.errors import RunError
from robustness.reports.run_comparison import compare_runs
from robustness.reports.summaries.terminal import render_comparison
from robustness.reports.tables.examples import build_examples
from robustness.runs.storage.store import read_outcomes


def test_ids_that_have_another_text_in_the_second_run_are_counted_and_not_compared(
    run_writer: Any, tmp_path: Path
) -> None:
    record = run_writer.record()
    first = run_writer.write(tmp_path / "a", record, text=lambda i: f"text {i}")
    second = run_writer.write(tmp_path / "b", record, text=lambda i: f"text {i if i < 30 else 69 - i}")

    found = api.compare(first, second)

    swap = read_outcomes(first).query("checkpoint == 'lora-0' and testset == 'clean-set' and attack == 'swap'")
    same = swap[swap["example_id"].str[1:].astype(int) < 30]
    cell = found.cells.set_index(["checkpoint", "testset", "attack"]).loc["lora-0", "clean-set", "swap"]
    assert set(found.cells["n"]) == {30}
    assert cell["value_a"] == cell["value_b"] == (same["status"] == "failed").mean()
    assert len(found.other_examples) == 12 and found.other_examples[0] == ("full-0 | clean-set | none", 10)
    written = StringIO()
    for part in render_comparison(found):
        Console(width=80, file=written).print(part, soft_wrap=isinstance(part, str))
    assert (
        "left out, for their id has another text or gold in B: full-0 | clean-set | none: 10; " in written.getvalue()
    )


def test_two_runs_of_one_table_in_another_order_share_no_example(run_writer: Any, tmp_path: Path) -> None:
    record = run_writer.record()
    first = run_writer.write(tmp_path / "a", record, text=lambda i: f"text {i}")
    second = run_writer.write(tmp_path / "b", record, text=lambda i: f"text {39 - i}")

    with pytest.raises(RunError, match="share no example.* of 40 ids .* text or gold differ"):
        api.compare(first, second)


def test_a_row_is_told_by_its_own_text_but_one_made_against_each_checkpoint_by_its_original(
    run_writer: Any, tmp_path: Path
) -> None:
    """Rows of AdvGLUE share originals; a distractor searched against other weights is another, of one question."""
    record = run_writer.record()
    folder = run_writer.write(tmp_path / "a", record, text=lambda i: f"text {i // 4}")
    first = build_examples(read_outcomes(folder), record)
    static = first["attack"] == "none"
    second = first.assign(adversarial_text=first["adversarial_text"].where(~static, first["example_id"] + " other"))
    made = [frame.assign(provenance=frame["provenance"].where(~static, "generated")) for frame in (first, second)]

    shipped = compare_runs(first, second, (record, record))
    generated = compare_runs(*made, (record, record))

    assert set(shipped.cells["attack"]) == {"swap", "synonym"} and [n for _, n in shipped.other_examples] == [40] * 4
    assert set(generated.cells["attack"]) == {"none", "swap", "synonym"} and not generated.other_examples


def test_a_row_with_another_gold_is_another_example(run_writer: Any, tmp_path: Path) -> None:
    record = run_writer.record()
    first = build_examples(read_outcomes(run_writer.write(tmp_path / "a", record)), record)
    second = first.assign(gold=first["gold"].mask(first["example_id"] == "e7", "negative"))

    found = compare_runs(first, second, (record, record))

    assert set(found.cells["n"]) == {39} and {n for _, n in found.other_examples} == {1}


def test_rows_that_lack_a_gold_in_both_runs_are_the_same_rows(run_writer: Any, tmp_path: Path) -> None:
    record = run_writer.record(n=4)
    folder = run_writer.write(tmp_path / "run", record)
    examples = build_examples(read_outcomes(folder), record)
    some = examples.assign(gold=examples["gold"].where(examples["example_id"] != "e1"))

    found = compare_runs(some, some, (record, record))

    assert found.other_examples == ()
    assert (found.cells["n"] == compare_runs(examples, examples, (record, record)).cells["n"]).all()
