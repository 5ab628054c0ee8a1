"""Comparisons over all training seeds of a method: what is said about the method, not about two checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.engine.evaluation import NO_ATTACK
from robustness.engine.outcome import Status
from robustness.reports.questions import METRICS
from robustness.runs.record import PairRecord, RunRecord
from robustness.stats import bootstrap_over_seeds, separate_seeds
from robustness.stats.grouped import worst_per_group

TEST = "bootstrap-over-seeds"
FAMILY = "seeds"
COLUMNS = [
    *("checkpoint", "testset", "attack", "example_id", "group_id", "status", "robust_right"),
    *(column for column, _ in METRICS.values()),
]
"""Of the judged rows: copying all of them for every method costs seconds."""


@dataclass(frozen=True, slots=True)
class SeededScores:
    """What the arms of several pairs score on the same examples."""

    full: NDArray[np.float64]
    """Shape (seeds, n)."""
    peft: NDArray[np.float64]
    groups: NDArray[Any]
    """Shape (n,)."""

    @property
    def grouped(self) -> bool:
        """Whether a group has several examples."""
        return len(np.unique(self.groups)) < len(self.groups)

    def at_worst(self) -> SeededScores:
        """The lowest score of each group, as Jia and Liang score questions."""
        full, peft = (
            np.stack([worst_per_group(row, self.groups)[0] for row in arm]) for arm in (self.full, self.peft)
        )
        return SeededScores(full, peft, np.unique(self.groups))


def seed_rows(judged: pd.DataFrame, record: RunRecord) -> list[dict[str, object]]:
    """Returns a row for each method with several training seeds, test set, attack and metric, over what all answered.

    Answers to questions as they stand are compared by exact match and F1, over rows and at worst per question; each
    of these is a family of its own, as it is for single pairs.
    """
    questions = {testset.name for testset in record.testsets if testset.answers}
    rows: list[dict[str, object]] = []
    for (task, base, method), pairs in _families(record).items():
        if len({pair.seed for pair in pairs}) < 2:
            continue
        names = {"pair": f"{task} {method}, {len(pairs)} seeds", "method": method, "task": task, "base": base}
        checkpoints = {name for pair in pairs for name in (pair.reference, pair.candidate)}
        mine = judged.loc[judged["checkpoint"].isin(checkpoints), judged.columns.intersection(COLUMNS)]
        for (testset, attack), part in mine.groupby(["testset", "attack"], sort=False):
            place = names | {"testset": testset, "attack": attack}
            answers = attack == NO_ATTACK and testset in questions
            found = _answer_rows(part, pairs, record.seed) if answers else _right_rows(part, pairs, record.seed)
            rows += [place | row for row in found]
    return rows


def _families(record: RunRecord) -> dict[tuple[str, str, str], list[PairRecord]]:
    families: dict[tuple[str, str, str], list[PairRecord]] = {}
    for pair in record.pairs:
        method = record.find_checkpoint(pair.candidate).adaptation
        families.setdefault((pair.task, pair.base, method), []).append(pair)
    return families


def _right_rows(part: pd.DataFrame, pairs: list[PairRecord], seed: int) -> Iterator[dict[str, object]]:
    metric = "accuracy" if part["attack"].iloc[0] == NO_ATTACK else "robust_accuracy"
    scores = _score_arms(part, pairs, "robust_right")
    if scores is not None:
        yield {"metric": metric, "aggregation": "mean", "family": FAMILY} | _compare(scores, seed)


def _answer_rows(part: pd.DataFrame, pairs: list[PairRecord], seed: int) -> Iterator[dict[str, object]]:
    answered = part[part["status"] != Status.ERRORED]
    for metric, (column, _) in METRICS.items():
        scores = _score_arms(answered, pairs, column)
        if scores is None:
            continue
        family = f"{FAMILY} {metric}"
        yield {"metric": metric, "aggregation": "mean", "family": family} | _compare(scores, seed)
        if scores.grouped:
            names = {"metric": metric, "aggregation": "worst-per-group", "family": f"{family} worst-per-group"}
            yield names | _compare(scores.at_worst(), seed)


def _score_arms(part: pd.DataFrame, pairs: list[PairRecord], column: str) -> SeededScores | None:
    """The examples that every checkpoint answered; None where there are none."""
    table = part.pivot(index="example_id", columns="checkpoint", values=column)
    arms = [name for pair in pairs for name in (pair.reference, pair.candidate)]
    if not set(arms) <= set(table.columns):
        return None
    table = table[list(dict.fromkeys(arms))].dropna()
    if table.empty:
        return None
    groups = part.drop_duplicates("example_id").set_index("example_id")["group_id"].reindex(table.index)
    full, peft = (
        np.stack([table[name].to_numpy(dtype=float) for name in names])
        for names in ([pair.reference for pair in pairs], [pair.candidate for pair in pairs])
    )
    return SeededScores(full, peft, groups.to_numpy(dtype=object))


def _compare(scores: SeededScores, seed: int) -> dict[str, object]:
    """The method effect with its interval, and what seeds and examples add to its uncertainty."""
    differences = scores.full - scores.peft
    found = bootstrap_over_seeds(differences, scores.groups, rng=np.random.default_rng(seed))
    parts = separate_seeds(differences, scores.groups)
    return {
        "population": "all",
        "n": differences.shape[1],
        "n_seeds": len(differences),
        "reference_value": scores.full.mean(),
        "candidate_value": scores.peft.mean(),
        "difference": found.difference,
        "low": found.interval.low,
        "high": found.interval.high,
        "test": TEST,
        "p_value": found.p_value,
        "seed_sd": parts.seed,
        "seed_sd_low": parts.seed_interval.low,
        # Two seeds can bound it by more than differences of fractions can spread.
        "seed_sd_high": np.minimum(parts.seed_interval.high, 1.0),
        "example_sd": parts.example,
        "interaction_sd": parts.interaction,
        "seed_share": parts.seed_share,
    }
