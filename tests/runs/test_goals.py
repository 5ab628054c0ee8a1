"""A run with an attack that keeps the prediction, and one that names others, beside one that changes it."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from robustness import RunSettings, api
from robustness.reports.report import Report
from robustness.reports.summaries.terminal import render_summary
from robustness.reports.tables.columns import Table

CASCADE = """summary = "Two."
family = "ensemble"
access = "scores"

[search]
kind = "cascade"
members = ["random-chars", "deepwordbug"]
"""


@pytest.fixture(scope="module")
def finished(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("goals")
    (folder / "two.toml").write_text(CASCADE)
    attacks = ["deepwordbug", "input-reduction", str(folder / "two.toml")]
    return api.run(
        "smoke",
        tiny.pairs,
        folder / "run",
        RunSettings(data=tiny.data, testsets=[str(tiny.testset)], attacks=attacks, limit=12),
    )


def test_the_record_names_goals(finished: Report) -> None:
    attacks = json.loads((finished.folder / "run.json").read_text())["attacks"]

    assert [attack["goal"] for attack in attacks] == ["change-prediction", "keep-prediction", "change-prediction"]


def test_reductions_are_judged_and_leave_the_answer_right(finished: Report) -> None:
    examples = finished.tables[Table.EXAMPLES]
    reduced = examples[(examples["attack"] == "input-reduction") & (examples["status"] == "succeeded")]

    assert finished.n_errored == 0
    assert len(reduced) > 0
    assert (reduced["correct"] == 1).all() and (reduced["response"] == reduced["gold"]).all()
    assert all(len(text.split()) <= 2 for text in reduced["adversarial_text"])  # a word, perhaps a full stop


def test_reductions_enter_no_accuracy(finished: Report) -> None:
    attacks = finished.tables[Table.ATTACKS].set_index(["adaptation", "attack"])
    worst = attacks.xs("worst-case", level="attack")["robust_accuracy"]
    flips = attacks.loc[(slice(None), ["deepwordbug", "two"]), "robust_accuracy"]

    assert attacks.xs("input-reduction", level="attack")["robust_accuracy"].isna().all()
    assert (attacks.xs("input-reduction", level="attack")["attack_success_rate"] > 0).all()
    assert (worst <= flips.groupby(level="adaptation").min()).all()
    for table in (Table.TRANSFER, Table.CURVES):
        assert "input-reduction" not in set(finished.tables[table]["attack"])
    pairs = finished.tables[Table.PAIRS]
    assert set(pairs[pairs["attack"] == "input-reduction"]["metric"]) == {"irreducible_share"}
    assert set(pairs[pairs["metric"] == "irreducible_share"]["attack"]) == {"input-reduction"}


def test_the_terminal_says_what_the_share_is(finished: Report) -> None:
    lines = [str(part) for part in render_summary(finished)]

    assert [line for line in lines if line.startswith("input-reduction: share of texts that could not be reduced")]


def test_a_cascade_asks_at_least_what_its_first_member_needs(finished: Report) -> None:
    examples = finished.tables[Table.EXAMPLES]
    two = examples[examples["attack"] == "two"]

    assert set(two["status"]) <= {"succeeded", "failed", "skipped"}
    assert (two[two["status"] != "skipped"]["queries"] > 0).all()
    pd.testing.assert_frame_equal(api.report(finished.folder).tables[Table.ATTACKS], finished.tables[Table.ATTACKS])
