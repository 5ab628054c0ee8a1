from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from robustness.definitions.tasks import find_task
from robustness.reports.tables.attacks import build_attacks
from robustness.reports.tables.curves import build_curves, build_path_curves
from robustness.reports.tables.examples import build_examples
from robustness.reports.tables.pairs import build_pairs
from robustness.reports.tables.testsets import build_testsets
from robustness.reports.tables.transfer import build_transfer
from robustness.runs.cells import UNTUNED
from robustness.runs.storage.record import AttackRecord, CheckpointRecord, PairRecord, RunRecord, TestsetRecord

ADVGLUE = {"sst2": "sst2", "qqp": "qqp", "mnli": "mnli", "mnli-mm": "mnli", "qnli": "qnli", "rte": "rte"}


@dataclass
class World:
    """A record and its outcome rows, as a store would give them."""

    record: RunRecord
    outcomes: pd.DataFrame

    @property
    def examples(self) -> pd.DataFrame:
        return build_examples(self.outcomes, self.record)


def checkpoint(name: str, adaptation: str, task: str = "sst2") -> CheckpointRecord:
    return CheckpointRecord(
        name=name,
        adaptation=adaptation,
        task=task,
        base="base",
        train_seed=0,
        weights_digest="",
        clean_accuracy=0.9,
        majority_share=0.5,
        n_clean=10,
        merge_difference=None,
    )


def testset(name: str, task: str = "sst2", kind: str = "clean", *, scores_f1: bool = False) -> TestsetRecord:
    return TestsetRecord(
        name=name, task=task, kind=kind, provenance="official", n=10, n_used=10, digest="", scores_f1=scores_f1,
        labels=find_task(task).labels,
    )  # fmt: skip


testset.__test__ = False  # type: ignore[attr-defined]


def record(
    checkpoints: Sequence[CheckpointRecord],
    testsets: Sequence[TestsetRecord],
    attacks: Sequence[str] = (),
    keeping: Sequence[str] = (),
) -> RunRecord:
    full, peft = checkpoints[:2] if len(checkpoints) > 1 else (checkpoints[0],) * 2
    return RunRecord(
        suite="test",
        seed=0,
        limit=None,
        device="cpu",
        dtype="float32",
        fingerprint={},
        pairs=(PairRecord(name="p", task=full.task, base="base", reference=full.name, candidate=peft.name, seed=0),),
        checkpoints=tuple(checkpoints),
        testsets=tuple(testsets),
        attacks=tuple(
            AttackRecord(
                name=name,
                family="custom",
                digest="d",
                goal="keep-prediction" if name in keeping else "change-prediction",
            )
            for name in attacks
        ),
        warnings=(),
        started="",
        machine="",
        versions={},
    )


def row(name: str, testset_name: str, attack: str, index: int, **values: object) -> dict[str, object]:
    return {
        "checkpoint": name,
        "testset": testset_name,
        "attack": attack,
        "example_id": f"e{index}",
        "group_id": f"e{index}",
        "clean_correct": 1,
        "correct": 1,
        "response": "positive",
        "gold": "positive",
        "status": "failed",
        "queries": 5,
        "forwards": 6,
        "seconds": 0.1,
        "modified_share": 0.2,
        "similarity": 0.9,
        "distance": None,
        "original_text": '["a film"]',
        "adversarial_text": '["a fulm"]',
    } | values


def attacked(statuses: dict[str, str], keeping: Sequence[str] = ()) -> World:
    """Checkpoints whose examples end as the letters say: s(kipped), b(roken), r(obust), e(rrored)."""
    words = {"s": "skipped", "b": "succeeded", "r": "failed", "e": "errored"}
    rows = [
        row(name, "t", attack, i, status=words[letter], clean_correct=0 if letter == "s" else 1)
        for (name, attack), letters in ((key.split("/"), value) for key, value in statuses.items())
        for i, letter in enumerate(letters)
    ]
    attacks = list(dict.fromkeys(key.split("/")[1] for key in statuses))
    made = record([checkpoint("f", "full"), checkpoint("l", "lora")], [testset("t")], attacks, keeping)
    return World(made, pd.DataFrame(rows))


def test_attack_metrics_are_their_definitions() -> None:
    world = attacked({"f/a": "ssbbbrrrre", "l/a": "sbbbbbbbrr"})

    full = build_attacks(world.examples, world.record).iloc[0]

    assert (full["n"], full["n_skipped"], full["n_errored"]) == (10, 2, 1)
    assert full["clean_accuracy"] == pytest.approx(7 / 9)
    assert full["robust_accuracy"] == pytest.approx(4 / 9)
    assert full["attack_success_rate"] == pytest.approx(3 / 7)
    assert full["attack_success_rate_low"] < 3 / 7 < full["attack_success_rate_high"]
    assert full["mean_queries"] == 5


def test_the_worst_case_is_robust_only_where_no_attack_succeeded() -> None:
    world = attacked({"f/a": "sbrre", "f/b": "srbrr", "l/a": "rrrrr", "l/b": "rrrrr"})

    attacks = build_attacks(world.examples, world.record).set_index(["checkpoint", "attack"])

    worst = attacks.loc[("f", "worst-case")]
    assert (worst["n"], worst["n_skipped"], worst["n_errored"], worst["n_left_out"]) == (4, 1, 0, 1)
    assert worst["robust_accuracy"] == pytest.approx(1 / 4)
    assert worst["mean_queries"] == 10  # of both attacks
    assert pd.isna(worst["mean_similarity"])


def test_pairs_compare_the_same_examples_with_reference_minus_candidate() -> None:
    world = attacked({"f/a": "rrrrrrrrbbs", "l/a": "rbbbbbbbbrb"})

    pairs = build_pairs(world.examples, world.record).set_index("metric")

    everything = pairs.loc["robust_accuracy"]
    assert everything["n"] == 11
    assert everything["reference_value"] == pytest.approx(8 / 11)
    assert everything["candidate_value"] == pytest.approx(2 / 11)
    assert everything["difference"] == pytest.approx(6 / 11)
    assert everything["p_value"] == pytest.approx(binomtest(7, 8).pvalue)
    assert everything["low"] <= everything["difference"] <= everything["high"]
    # (11/11 - 2/11) - (10/11 - 8/11): the candidate drops more
    assert everything["drop_difference"] == pytest.approx(7 / 11)
    success = pairs.loc["attack_success_rate"]
    assert (success["population"], success["n"]) == ("both_correct", 10)
    assert success["difference"] == pytest.approx(8 / 10 - 2 / 10)


def test_swapping_the_arms_swaps_the_sign_and_the_verdict() -> None:
    first = attacked({"f/a": "r" * 30 + "b" * 10, "l/a": "b" * 30 + "r" * 10})
    second = attacked({"f/a": "b" * 30 + "r" * 10, "l/a": "r" * 30 + "b" * 10})

    one, two = (build_pairs(world.examples, world.record).iloc[0] for world in (first, second))

    assert (one["verdict"], two["verdict"]) == ("peft-more-fragile", "full-more-fragile")
    assert one["difference"] == pytest.approx(-two["difference"])
    assert one["p_value"] == pytest.approx(two["p_value"])


def test_alike_arms_are_equivalent_only_with_enough_examples() -> None:
    few = attacked({"f/a": "rb" * 10, "l/a": "rb" * 10})
    many = attacked({"f/a": "rb" * 300, "l/a": "rb" * 300})

    verdicts = [build_pairs(world.examples, world.record).iloc[0]["verdict"] for world in (few, many)]

    assert verdicts == ["inconclusive", "equivalent"]


def test_examples_that_errored_in_one_arm_are_left_out_of_the_comparison() -> None:
    world = attacked({"f/a": "rrre", "l/a": "erbr"})

    pair = build_pairs(world.examples, world.record).iloc[0]

    assert (pair["n"], pair["difference"]) == (2, 0.5)


def test_p_values_are_adjusted_behind_the_worst_case() -> None:
    world = attacked({"f/a": "r" * 12, "l/a": "b" * 12, "f/b": "r" * 12, "l/b": "r" * 12})

    pairs = build_pairs(world.examples, world.record)
    planned = pairs[pairs["family"] == "planned"].set_index("attack")

    # The worst case has the whole level; rejected, it leaves half of it to each attack, then all to the last one.
    alone = 2 * 0.5**12
    assert planned["p_adjusted"].to_dict() == pytest.approx({"worst-case": alone, "a": 2 * alone, "b": 1.0})


def test_a_test_set_with_originals_shows_the_drop_on_the_same_rows() -> None:
    rows = [
        row("f", "adv", "none", 0, clean_correct=1, correct=0, status="succeeded"),
        row("f", "adv", "none", 1, clean_correct=1, correct=1),
        row("f", "adv", "none", 2, clean_correct=0, correct=1, status="skipped"),
        row("f", "adv", "none", 3, clean_correct=None, correct=1),
    ]
    made = record([checkpoint("f", "full")], [testset("adv", kind="adversarial")])

    table = build_testsets(build_examples(pd.DataFrame(rows), made), made).set_index("metric")

    assert (table.loc["accuracy", "value"], table.loc["accuracy", "n"]) == (3 / 4, 4)
    assert table.loc["benign_accuracy", "value"] == pytest.approx(2 / 3)
    assert table.loc["accuracy_with_benign", "value"] == pytest.approx(2 / 3)
    assert (table.loc["accuracy_drop", "value"], table.loc["accuracy_drop", "n"]) == (pytest.approx(0), 3)


def test_the_advglue_macro_is_the_official_one() -> None:
    rng = np.random.default_rng(0)
    checkpoints = [checkpoint(f"c-{task}", "full", task) for task in dict.fromkeys(ADVGLUE.values())]
    testsets = [testset(f"advglue-{s}", task, "adversarial", scores_f1=task == "qqp") for s, task in ADVGLUE.items()]
    rows, accuracies = [], {}
    for name, task in ADVGLUE.items():
        labels, guesses = rng.integers(2, size=10), rng.integers(2, size=10)
        names = find_task(task).labels
        accuracies[name] = float((labels == guesses).mean())
        if name == "qqp":
            accuracies["f1"] = f1_score(labels, guesses)
        rows += [
            row(
                f"c-{task}",
                f"advglue-{name}",
                "none",
                i,
                gold=names[y],
                response=names[p],
                correct=y == p,
                clean_correct=None,
            )
            for i, (y, p) in enumerate(zip(labels, guesses, strict=True))
        ]
    lost = [row(f"c-{ADVGLUE[name]}", f"advglue-{name}", "none", 10, status="errored") for name in ("qqp", "mnli-mm")]
    rows += lost
    made = record(checkpoints, testsets)

    table = build_testsets(build_examples(pd.DataFrame(rows), made), made)

    macro = table[table["metric"] == "macro"].iloc[0]
    a = accuracies
    expected = (a["sst2"] + (a["qqp"] + a["f1"]) / 2 + (a["mnli"] + a["mnli-mm"]) / 2 + a["qnli"] + a["rte"]) / 5
    assert macro["testset"] == "advglue"
    assert macro["value"] == pytest.approx(expected)
    assert macro["low"] <= macro["value"] <= macro["high"]
    assert (macro["n"], macro["n_errored"]) == (60, len(lost))


def test_without_all_six_sets_there_is_no_macro() -> None:
    made = record([checkpoint("f", "full")], [testset("advglue-sst2", kind="adversarial")])
    examples = build_examples(pd.DataFrame([row("f", "advglue-sst2", "none", 0)]), made)

    assert "macro" not in set(build_testsets(examples, made)["metric"])


def test_query_curves_fall_to_the_robust_accuracy_at_the_queries_of_each_success() -> None:
    world = attacked({"f/a": "sbbbrrre", "l/a": "rrrrrrrr"})
    outcomes = world.outcomes.assign(queries=range(10, 10 + len(world.outcomes)))
    examples = build_examples(outcomes, world.record)

    curves = build_curves(examples)

    full = curves[(curves["checkpoint"] == "f") & (curves["budget_kind"] == "queries")]
    assert full["budget"].tolist() == [0, 11, 12, 13]
    assert full["robust_accuracy"].tolist() == pytest.approx([6 / 7, 5 / 7, 4 / 7, 3 / 7])
    assert full["robust_accuracy"].iloc[-1] == pytest.approx(
        build_attacks(examples, world.record).iloc[0]["robust_accuracy"]
    )


def test_a_query_curve_never_rises_and_has_a_bounded_number_of_points() -> None:
    world = attacked({"f/a": "b" * 500 + "r" * 100, "l/a": "r" * 600})
    outcomes = world.outcomes.assign(queries=np.random.default_rng(0).permutation(len(world.outcomes)))

    curves = build_curves(build_examples(outcomes, world.record))

    full = curves[(curves["checkpoint"] == "f") & (curves["budget_kind"] == "queries")]
    assert 40 <= len(full) <= 51
    assert (np.diff(full["robust_accuracy"]) <= 0).all()
    assert full["robust_accuracy"].iloc[-1] == pytest.approx(1 / 6)


def test_the_curve_over_changed_words_counts_texts_within_the_share() -> None:
    world = attacked({"f/a": "bbrr", "l/a": "rrrr"})
    outcomes = world.outcomes.assign(modified_share=[0.1, 0.5] * 4)

    curves = build_curves(build_examples(outcomes, world.record))

    full = curves[(curves["checkpoint"] == "f") & (curves["budget_kind"] == "modified_share")].set_index("budget")
    assert full.loc[0.0, "robust_accuracy"] == 1
    assert full["robust_accuracy"].iloc[[2, 9, 10]].tolist() == [0.75, 0.75, 0.5]


def test_an_attack_on_embeddings_has_epsilon_curves_also_on_an_arm_that_it_breaks_nowhere() -> None:
    world = attacked({"f/a": "rrrrs", "l/a": "bbrrs", "f/b": "rrrrr", "l/b": "rrrrr"})
    distances = [0.5 if status == "succeeded" else None for status in world.outcomes["status"]]
    examples = build_examples(world.outcomes.assign(distance=distances, norm="l2"), world.record)

    curves = build_curves(examples)

    assert set(curves["budget_kind"]) == {"epsilon"}
    points = {
        cell: list(zip(part["budget"], part["robust_accuracy"], strict=True))
        for cell, part in curves.groupby(["checkpoint", "attack"])
    }
    assert points == {
        ("f", "a"): [(0, 0.8)],
        ("l", "a"): [(0, 0.8), (0.5, 0.4)],
        ("f", "b"): [(0, 1)],
        ("l", "b"): [(0, 1)],
    }


def test_transfer_counts_only_texts_whose_clean_form_the_target_gets_right() -> None:
    world = attacked({"f/a": "bbbb", "l/a": "rrrs"})
    replays = pd.DataFrame(
        [
            {"source": "f", "target": "l", "testset": "t", "attack": "a", "example_id": f"e{i}", "correct": p}
            for i, p in enumerate([0, 1, 0, 0])
        ]
    )

    table = build_transfer(replays, world.examples)

    assert table[["source", "target", "n", "transfer_rate"]].to_numpy().tolist() == [
        ["f", "l", 3, pytest.approx(2 / 3)]
    ]
    assert build_transfer(replays.iloc[:0], world.examples).empty


def test_transfer_to_the_base_counts_only_texts_whose_clean_form_the_base_gets_right() -> None:
    world = attacked({"f/a": "bbbb", "l/a": "rrrs"})
    answers = {"none": [1, 1, 0, 1], "a": [0, 1, 0, 0]}  # right or wrong
    replays = pd.DataFrame(
        [
            {"source": "f", "target": UNTUNED, "testset": "t", "attack": a, "example_id": f"e{i}", "correct": p}
            for a, predictions in answers.items()
            for i, p in enumerate(predictions)
        ]
    )

    table = build_transfer(replays, world.examples)

    assert table[["source", "target", "attack", "n", "transfer_rate"]].to_numpy().tolist() == [
        ["f", UNTUNED, "a", 3, pytest.approx(2 / 3)]
    ]


def test_a_kept_prediction_has_a_success_rate_and_no_robust_accuracy() -> None:
    world = attacked({"f/reduce": "sbbre", "l/reduce": "rrrrr"}, keeping=["reduce"])

    full = build_attacks(world.examples, world.record).iloc[0]

    assert (full["n_skipped"], full["n_errored"], full["goal"]) == (1, 1, "keep-prediction")
    assert full["attack_success_rate"] == pytest.approx(2 / 3)
    assert full["clean_accuracy"] == pytest.approx(3 / 4)
    assert full[["robust_accuracy", "robust_accuracy_low", "robust_accuracy_high"]].isna().all()


def test_accuracies_along_the_update_become_a_curve() -> None:
    measured = pd.DataFrame(
        [
            {"checkpoint": "f", "testset": "t", "quantity": f"{name}-at-t-0.5", "value": float(value)}
            for name, values in {"accuracy": (1, 1, 0), "step-accuracy": (1, 0, 0)}.items()
            for value in values
        ]
    )

    curves = build_path_curves(measured).set_index("attack")

    assert curves["budget_kind"].eq("t").all() and curves["budget"].eq(0.5).all()
    assert curves.loc["none", "robust_accuracy"] == pytest.approx(2 / 3)
    assert curves.loc["gradient-step", "robust_accuracy"] == pytest.approx(1 / 3)
    assert list(curves.loc["none", ["low", "high"]]) == pytest.approx(binomtest(2, 3).proportion_ci(method="wilson"))


def test_a_kept_prediction_enters_neither_worst_case_nor_curves_nor_robust_accuracies() -> None:
    flips = {"f/a": "sbrr", "f/b": "srbr", "l/a": "rrbr", "l/b": "rrrr"}
    without = attacked(flips)
    reduced = attacked({**flips, "f/reduce": "sbbb", "l/reduce": "bbbb"}, keeping=["reduce"])

    for build in (
        lambda world: build_attacks(world.examples, world.record),
        lambda world: build_curves(world.examples),
    ):
        table, other = build(reduced), build(without)
        pd.testing.assert_frame_equal(table[table["attack"] != "reduce"].reset_index(drop=True), other)
    pairs, other = (build_pairs(world.examples, world.record) for world in (reduced, without))
    flipping = pairs[pairs["attack"] != "reduce"].reset_index(drop=True)
    # The reduction is in the secondary family, whose p-values are adjusted together.
    measured = flipping.columns.drop(["p_adjusted", "detectable"])
    pd.testing.assert_frame_equal(flipping[measured], other[measured])
    planned = flipping["family"] == "planned"
    assert flipping.loc[planned, "p_adjusted"].tolist() == other.loc[planned, "p_adjusted"].tolist()


def test_a_kept_prediction_alone_makes_no_worst_case() -> None:
    world = attacked({"f/a": "rb", "l/a": "rb", "f/reduce": "bb", "l/reduce": "bb"}, keeping=["reduce"])

    assert "worst-case" not in set(build_attacks(world.examples, world.record)["attack"])
    assert "worst-case" not in set(build_pairs(world.examples, world.record)["attack"])


def test_pairs_compare_reductions_where_both_arms_are_right_before() -> None:
    world = attacked({"f/reduce": "srrrrrb", "l/reduce": "rbbbbbs"}, keeping=["reduce"])

    (pair,) = build_pairs(world.examples, world.record).itertuples()

    assert (pair.metric, pair.population, pair.n) == ("irreducible_share", "both_correct", 5)
    assert (pair.reference_value, pair.candidate_value) == (1, 0)
    assert pair.p_value == pytest.approx(binomtest(0, 5).pvalue)
    assert pd.isna(pair.drop_difference)
