"""Several training seeds of answering arms, on made-up answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustness.reports.columns import COLUMNS, Table
from robustness.reports.pairs import build_pairs
from robustness.runs.record import RunRecord
from robustness.stats import bootstrap_over_seeds

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
    testset = made.testsets[0].model_copy(update={"name": "altered", "task": "squad", "answers": True})
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
    return pairs[pairs["n_seeds"] > 1].set_index(["metric", "aggregation"])


def test_answers_are_compared_over_seeds_by_both_metrics_and_both_ways(seeds: pd.DataFrame) -> None:
    assert set(seeds.index) == {(m, a) for m in ("f1", "exact_match") for a in ("mean", "worst-per-group")}
    assert set(seeds["n_seeds"]) == {3} and set(seeds["population"]) == {"all"}
    # q3-a errored under one checkpoint: that row is left out, its question is not.
    assert seeds.loc[("f1", "mean"), "n"] == 2 * QUESTIONS - 1
    assert seeds.loc[("f1", "worst-per-group"), "n"] == QUESTIONS
    assert (seeds["verdict"] == "peft-more-fragile").all()
    # Each is a family of one test.
    assert seeds["p_adjusted"].tolist() == seeds["p_value"].tolist()


@pytest.mark.parametrize("metric", ["f1", "exact_match"])
@pytest.mark.parametrize("aggregation", ["mean", "worst-per-group"])
def test_the_rows_are_the_bootstrap_of_the_answers_themselves(
    seeds: pd.DataFrame, examples: pd.DataFrame, metric: str, aggregation: str
) -> None:
    column = {"f1": "score", "exact_match": "adversarial_prediction"}[metric]
    kept = examples[examples["example_id"] != "q3-a"]
    if aggregation == "mean":
        table = kept.pivot(index="example_id", columns="checkpoint", values=column).astype(float)
    else:
        table = kept.pivot_table(index="group_id", columns="checkpoint", values=column, aggfunc="min").astype(float)
    differences = np.stack([table[f"full-{seed}"] - table[f"lora-{seed}"] for seed in range(3)])
    groups = [name.partition("-")[0] for name in table.index]
    expected = bootstrap_over_seeds(differences, groups, rng=np.random.default_rng(0))

    row = seeds.loc[(metric, aggregation)]

    assert row["difference"] == pytest.approx(expected.difference)
    assert (row["low"], row["high"]) == pytest.approx((expected.interval.low, expected.interval.high))
    assert row["seed_sd_low"] <= row["seed_sd"] <= row["seed_sd_high"] and 0 <= row["seed_share"] <= 1
