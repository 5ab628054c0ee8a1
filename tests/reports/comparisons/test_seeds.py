"""Several training seeds of answering arms, on made-up answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from robustness.reports.comparisons.methods import fragile_verdicts
from robustness.reports.tables.columns import COLUMNS, Table
from robustness.reports.tables.pairs import build_pairs
from robustness.runs.storage.record import RunRecord
from robustness.stats import detectable_by_estimate, difference_over_seeds, mean_difference, rarer_share
from robustness.stats.grouped import worst_altered_rows
from robustness.stats.verdicts import Evidence, judge

QUESTIONS = 40


def answers_of(checkpoint: str, rng: np.random.Generator, mean: float, *, errored: int) -> list[dict[str, object]]:
    """Two rows a question: as it is, and altered."""
    rows = []
    for number in range(2 * QUESTIONS):
        f1 = float(np.round(np.clip(rng.normal(mean, 0.3), 0, 1), 1))
        rows.append(
            {
                "checkpoint": checkpoint,
                "testset": "altered",
                "attack": "none",
                "example_id": f"q{number // 2}" + ("-a" if number % 2 else ""),
                "group_id": f"q{number // 2}",
                "gold": "text",
                "clean_correct": int(f1 > 0.2) if number % 2 else None,
                "correct": int(f1 == 1),
                "clean_quality": (0.9 if number % 4 == 1 else mean) if number % 2 else None,
                "quality": f1,
                "status": "errored" if number == errored else "failed" if f1 == 1 else "skipped",
            }
        )
    return rows


@pytest.fixture(scope="module")
def record(run_writer: Any) -> RunRecord:
    made: RunRecord = run_writer.record(seeds=3)
    testset = made.testsets[0].model_copy(
        update={"name": "altered", "task": "squad", "kind": "adversarial", "answers": True}
    )
    return made.model_copy(update={"testsets": (testset,), "attacks": ()})


@pytest.fixture(scope="module")
def examples(record: RunRecord) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for number, checkpoint in enumerate(record.checkpoints):
        mean = 0.9 if checkpoint.adaptation == "full" else 0.5 + 0.1 * (number // 2)
        rows += answers_of(checkpoint.name, rng, mean, errored=7 if checkpoint.name == "lora-1" else -1)
    return pd.DataFrame(rows).reindex(columns=[c.name for c in COLUMNS[Table.EXAMPLES]])


@pytest.fixture(scope="module")
def seeds(examples: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    pairs = build_pairs(examples, record)
    return pairs[pairs["n_seeds"] > 1].set_index(["metric", "population", "aggregation"]).sort_index()


def test_answers_are_compared_over_seeds_by_both_metrics_and_in_every_way(seeds: pd.DataFrame) -> None:
    ways = {("altered", "mean"), ("all", "mean"), ("all", "official")}
    assert set(seeds.index) == {(m, *way) for m in ("f1", "exact_match") for way in ways}
    assert set(seeds["n_seeds"]) == {3}
    # q3-a errored under one checkpoint: that row is left out.
    assert seeds.loc[("f1", "all", "mean"), "n"] == 2 * QUESTIONS - 1
    assert seeds.loc[("f1", "altered", "mean"), "n"] == QUESTIONS - 1
    # Of that question nobody knows the worst row under that checkpoint.
    assert seeds.loc[("f1", "all", "official"), "n"] == QUESTIONS - 1
    assert (seeds["n_left_out"] == 1).all()
    # The headline is F1 over altered rows; other ways have no verdict of their own.
    planned = seeds[seeds["family"] == "planned"]
    assert planned.index.tolist() == [("f1", "altered", "mean")]
    assert seeds[seeds["family"] != "planned"]["verdict"].isna().all()


@pytest.mark.parametrize("metric", ["f1", "exact_match"])
@pytest.mark.parametrize(("population", "aggregation"), [("altered", "mean"), ("all", "mean"), ("all", "official")])
def test_the_rows_are_the_estimate_of_the_answers_themselves(
    seeds: pd.DataFrame, examples: pd.DataFrame, metric: str, population: str, aggregation: str
) -> None:
    kept = examples[examples["example_id"] != "q3-a"]
    if population == "altered":
        kept = kept[kept["clean_quality"].notna()]
    if aggregation == "official":
        kept = kept[kept["group_id"] != "q3"]
    arms = {name: part.reset_index(drop=True) for name, part in kept.groupby("checkpoint")}
    names = arms["full-0"]["group_id"].to_numpy(dtype=str)
    column = {"f1": "quality", "exact_match": "correct"}[metric]
    values = {name: part[column].to_numpy(dtype=float) for name, part in arms.items()}
    if aggregation == "official":
        chosen = {
            name: worst_altered_rows(part["quality"].astype(float), names, part["clean_quality"].notna())
            for name, part in arms.items()
        }
        values = {name: values[name][rows] for name, rows in chosen.items()}
        names = np.unique(names)
    differences = np.stack([values[f"full-{seed}"] - values[f"lora-{seed}"] for seed in range(3)])
    expected = difference_over_seeds(differences, names)

    row = seeds.loc[(metric, population, aggregation)]

    assert row["difference"] == pytest.approx(expected.difference)
    interval = expected.interval()
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    planned = (metric, population) == ("f1", "altered")  # the other five share the level of a family of their own
    share = rarer_share(differences) if metric == "exact_match" else None  # F1 is no matter of right and wrong
    assert row["detectable"] == pytest.approx(
        detectable_by_estimate(
            expected, n=differences.shape[1], rarer_share=share, alpha=0.05 if planned else 0.05 / 5
        ),
        nan_ok=True,
    )
    assert row["seed_sd_low"] <= row["seed_sd"] <= row["seed_sd_high"] and 0 <= row["seed_share"] <= 1


@pytest.fixture(scope="module")
def pair(examples: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """The rows of the first pair, of which nothing errored."""
    pairs = build_pairs(examples, record)
    return pairs[pairs["pair"] == "pair-0"].set_index(["metric", "population", "aggregation"]).sort_index()


def arms_of(examples: pd.DataFrame, column: str) -> tuple[Any, Any]:
    """A column of both arms of the first pair."""
    full, lora = (examples[examples["checkpoint"] == f"{name}-0"][column] for name in ("full", "lora"))
    return full.to_numpy(dtype=float), lora.to_numpy(dtype=float)


@pytest.mark.parametrize(("metric", "column"), [("f1", "quality"), ("exact_match", "correct")])
def test_one_pair_has_each_population_by_its_own_test_and_interval(
    pair: pd.DataFrame, examples: pd.DataFrame, metric: str, column: str
) -> None:
    """Questions have two rows each; of altered rows, and of those that count, there is one a question."""
    full, lora = arms_of(examples, column)
    altered = np.arange(2 * QUESTIONS) % 2 == 1
    asked = np.arange(2 * QUESTIONS) // 2
    right = np.logical_and(*(each == 1 for each in arms_of(examples, "clean_correct")))
    single = "permutation" if metric == "f1" else "mcnemar-exact"
    for population, aggregation, rows, groups, test in (
        ("altered", "mean", altered, None, single),
        ("all", "mean", altered | True, asked, "permutation-of-groups"),
        ("all", "official", altered, None, single),
        ("both_correct", "mean", right, None, single),
    ):
        row = pair.loc[(metric, population, aggregation)]
        expected = mean_difference((full - lora)[rows], groups)
        assert (row["n"], row["test"]) == (rows.sum(), test)
        assert (row["reference_value"], row["candidate_value"]) == pytest.approx(
            (full[rows].mean(), lora[rows].mean())
        )
        assert (row["difference"], row["low"], row["high"]) == pytest.approx(
            (expected.difference, expected.interval().low, expected.interval().high)
        )
        if test == "mcnemar-exact":
            only = [int((one[rows] > other[rows]).sum()) for one, other in ((full, lora), (lora, full))]
            assert row["p_value"] == pytest.approx(binomtest(only[0], sum(only)).pvalue)


def test_what_one_pair_loses_from_the_originals_is_of_the_altered_rows(
    pair: pd.DataFrame, examples: pd.DataFrame
) -> None:
    altered = np.arange(2 * QUESTIONS) % 2 == 1
    (full, lora), (clean_full, clean_lora) = (arms_of(examples, name) for name in ("quality", "clean_quality"))
    right = np.logical_and(*(each == 1 for each in arms_of(examples, "clean_correct")))
    gap = (clean_full - clean_lora)[altered]
    drop = mean_difference((full - lora)[altered] - gap)

    row = pair.loc[("f1", "altered", "mean")]

    assert (row["drop_difference"], row["drop_low"], row["drop_high"]) == pytest.approx(
        (drop.difference, drop.interval().low, drop.interval().high)
    )
    expected = judge(
        Evidence(
            row["reference_value"],
            row["candidate_value"],
            mean_difference((full - lora)[altered]).interval(),
            row["p_value"],
            clean=mean_difference(gap).interval(),
            success=mean_difference((full - lora)[right]).interval(),
        )
    )
    assert (row["family"], row["p_adjusted"]) == ("planned", row["p_value"])
    words = dict(zip(fragile_verdicts(""), fragile_verdicts("full-vs-peft"), strict=True))
    assert row["verdict"] == words.get(expected.verdict, expected.verdict) and (row["reason"] or None) == (
        expected.reason or None
    )
    assert pair.loc[("f1", "both_correct", "mean"), ["drop_difference", "drop_low"]].isna().all()
