"""Several training seeds of answering arms, on made-up answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustness.reports.tables.columns import COLUMNS, Table
from robustness.reports.tables.pairs import build_pairs
from robustness.runs.record import RunRecord
from robustness.stats import detectable_by_estimate, difference_over_seeds, rarer_share
from robustness.stats.grouped import worst_altered_rows

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
                "label": 1,
                "clean_prediction": 1 if number % 2 else None,
                "adversarial_prediction": int(f1 == 1),
                "clean_score": 0.9 if number % 2 else None,
                "score": f1,
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
        kept = kept[kept["clean_score"].notna()]
    if aggregation == "official":
        kept = kept[kept["group_id"] != "q3"]
    arms = {name: part.reset_index(drop=True) for name, part in kept.groupby("checkpoint")}
    names = arms["full-0"]["group_id"].to_numpy(dtype=str)
    column = {"f1": "score", "exact_match": "adversarial_prediction"}[metric]
    values = {name: part[column].to_numpy(dtype=float) for name, part in arms.items()}
    if aggregation == "official":
        chosen = {
            name: worst_altered_rows(part["score"].astype(float), names, part["clean_score"].notna())
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
