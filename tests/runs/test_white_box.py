from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import robustness
from robustness import Access, RunSettings, api
from robustness.definitions.catalog import ATTACKS
from robustness.errors import AttackError
from robustness.reports.tables.columns import Table

WHITE_BOX = [name for name in ATTACKS.names() if ATTACKS.find(name).definition.family == "embedding"]
IN_TEXT = ["hotflip-vocabulary", "gbda"]
"""White-box attacks whose finds are texts, and which need no word lists."""


@pytest.fixture(scope="module")
def report(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("white-box") / "run"
    return api.run(
        "smoke",
        tiny.pairs,
        out,
        RunSettings(data=tiny.data, testsets=[str(tiny.testset)], attacks=WHITE_BOX, limit=8),
    )


def test_every_white_box_recipe_runs_on_both_arms(report: Any) -> None:
    attacks = report.tables[Table.ATTACKS]

    assert report.n_errored == 0
    assert set(attacks["attack"]) == {*WHITE_BOX, "worst-case"}
    assert (attacks.groupby("attack")["attack_success_rate"].max() > 0).all()


def test_a_success_has_a_distance_within_the_largest_radius_and_no_text(report: Any) -> None:
    examples = report.tables[Table.EXAMPLES]
    pgd = examples[(examples["attack"] == "pgd") & (examples["status"] == "succeeded")]

    assert len(pgd)
    assert pgd["distance"].between(0, 0.8).all()
    assert set(pgd["norm"]) == {"l2"}
    assert pgd["adversarial_text"].isna().all()
    assert report.tables[Table.TRANSFER].empty


def test_minimal_norm_attacks_find_shorter_perturbations_than_balls(report: Any) -> None:
    examples = report.tables[Table.EXAMPLES]
    distances = examples.pivot_table(index=["checkpoint", "example_id"], columns="attack", values="distance")
    both = distances[["ddn", "pgd"]].dropna()

    assert len(both)
    assert (both["ddn"] <= both["pgd"] + 1e-6).all()


def test_epsilon_curves_fall_to_the_robust_accuracy(report: Any) -> None:
    curves, attacks = report.tables[Table.CURVES], report.tables[Table.ATTACKS]
    ddn = curves[
        (curves["attack"] == "ddn") & (curves["budget_kind"] == "epsilon") & (curves["checkpoint"] == "lora")
    ]
    robust = attacks[(attacks["attack"] == "ddn") & (attacks["checkpoint"] == "lora")]["robust_accuracy"].item()

    assert ddn["robust_accuracy"].is_monotonic_decreasing
    assert ddn["robust_accuracy"].iloc[-1] == pytest.approx(robust)


def test_a_users_own_white_box_attack_runs_and_one_that_always_fails_ends_the_run(tiny: Any, tmp_path: Path) -> None:
    from robustness.recipes.embedding.attack import Smallest
    from robustness.recipes.embedding.minimal_norm import Ddn

    class Mine:
        access = Access.GRADIENTS
        norm = "l2"

        def perturb(self, victim: Any, examples: Any, generators: Any) -> Any:
            return Smallest(Ddn(steps=30)).perturb(victim, examples, generators)

    class Broken(Mine):
        def perturb(self, victim: Any, examples: Any, generators: Any) -> Any:
            raise ValueError("my own bug")

    def run(attack: type) -> Any:
        return robustness.run(
            "smoke",
            tiny.pairs,
            tmp_path / attack.__name__,
            RunSettings(data=tiny.data, testsets=[str(tiny.testset)], attacks=[attack], limit=4),
        )

    report = run(Mine)
    with pytest.raises(AttackError, match="3 examples in a row.*ValueError: my own bug"):
        run(Broken)

    examples = report.tables[Table.EXAMPLES].set_index("attack")
    names = sorted(set(examples.index) - {"none"})
    assert len(names) == 1 and report.n_errored == 0


def test_white_box_attacks_on_texts_run_on_both_arms_and_their_texts_are_replayed(tiny: Any, tmp_path: Path) -> None:
    found = api.run(
        "smoke",
        tiny.pairs,
        tmp_path / "run",
        RunSettings(data=tiny.data, testsets=[str(tiny.testset)], attacks=IN_TEXT, limit=4),
    )

    examples, transfer = found.tables[Table.EXAMPLES], found.tables[Table.TRANSFER]
    broken = examples[(examples["status"] == "succeeded") & examples["attack"].isin(IN_TEXT)]
    assert found.n_errored == 0
    assert set(broken["attack"]) == set(IN_TEXT) and set(broken["checkpoint"]) == {"full", "lora"}
    assert broken["adversarial_text"].notna().all() and broken["distance"].isna().all()
    assert (broken["backwards"] > 0).all()
    assert set(transfer["attack"]) == set(IN_TEXT)
