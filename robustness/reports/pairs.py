"""pairs.csv: full against PEFT on the same examples, with paired statistics and a verdict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.engine.evaluation import NO_ATTACK
from robustness.reports.attacks import worst_case
from robustness.reports.columns import Table, arrange
from robustness.reports.examples import add_judgements, keeps_prediction
from robustness.runs.record import PairRecord, RunRecord
from robustness.stats import (
    Interval,
    holm,
    mcnemar_exact,
    paired_difference_interval,
    paired_drop,
    smallest_detectable_difference,
    verdict,
)

IRREDUCIBLE_SHARE = "irreducible_share"
"""The metric of attacks that keep the prediction."""


@dataclass(frozen=True, slots=True)
class PairedOutcomes:
    """The same examples under both arms; errored in either arm is left out."""

    full_robust: NDArray[np.bool_]
    peft_robust: NDArray[np.bool_]
    full_clean: NDArray[np.bool_]
    """Right on the clean text; False where that is not known."""
    peft_clean: NDArray[np.bool_]
    clean_known: NDArray[np.bool_]
    groups: NDArray[np.object_]

    def where(self, mask: NDArray[np.bool_]) -> PairedOutcomes:
        """The examples that the mask keeps."""
        columns = (getattr(self, name)[mask] for name in self.__slots__)
        return PairedOutcomes(*columns)


def build_pairs(examples: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns pairs.csv's rows: each pair, test set and attack, for all examples and for those both arms get right.

    `difference` and `drop_difference` are full minus PEFT. P-values are adjusted by Holm within the rows of one
    population, which are this run's family of comparisons. An attack that keeps the prediction is compared by the
    share of texts it could not reduce, of those that both arms get right.
    """
    judged = add_judgements(_with_worst_case(examples))
    rows: list[dict[str, object]] = []
    for pair in record.pairs:
        full, peft = (judged[judged["checkpoint"] == name] for name in (pair.full, pair.peft))
        for (testset, attack), part in full.groupby(["testset", "attack"], sort=False):
            partner = peft[(peft["testset"] == testset) & (peft["attack"] == attack)]
            names = _names(pair, record) | {"testset": testset, "attack": attack}
            matched = _match(part, partner)
            if keeps_prediction(part).all():
                rows += [names | row for row in _reduction_rows(matched, record.seed)]
            else:
                rows += [names | row for row in _population_rows(matched, str(attack), record.seed)]
    return arrange(Table.PAIRS, _with_verdicts(rows))


def _with_worst_case(examples: pd.DataFrame) -> pd.DataFrame:
    attacked = examples[(examples["attack"] != NO_ATTACK) & ~keeps_prediction(examples)]
    if attacked["attack"].nunique() < 2:
        return examples
    worst = [worst_case(group) for _, group in attacked.groupby(["checkpoint", "testset"], sort=False)]
    return pd.concat([examples, *worst], ignore_index=True)


def _names(pair: PairRecord, record: RunRecord) -> dict[str, object]:
    return {
        "pair": pair.name,
        "full": pair.full,
        "peft": pair.peft,
        "method": record.find_checkpoint(pair.peft).adaptation,
        "task": pair.task,
    }


def _match(full: pd.DataFrame, peft: pd.DataFrame) -> PairedOutcomes:
    both = full.merge(peft, on="example_id", suffixes=("_full", "_peft"))
    both = both[both["robust_right_full"].notna() & both["robust_right_peft"].notna()]
    known = both["clean_right_full"].notna() & both["clean_right_peft"].notna()
    return PairedOutcomes(
        full_robust=both["robust_right_full"].to_numpy(dtype=bool),
        peft_robust=both["robust_right_peft"].to_numpy(dtype=bool),
        full_clean=both["clean_right_full"].fillna(False).to_numpy(dtype=bool),
        peft_clean=both["clean_right_peft"].fillna(False).to_numpy(dtype=bool),
        clean_known=known.to_numpy(dtype=bool),
        groups=both["group_id_full"].to_numpy(dtype=object),
    )


def _population_rows(outcomes: PairedOutcomes, attack: str, seed: int) -> list[dict[str, object]]:
    metric = "accuracy" if attack == NO_ATTACK else "robust_accuracy"
    populations = {"all": outcomes}
    if outcomes.clean_known.any():
        populations["both_correct"] = outcomes.where(outcomes.full_clean & outcomes.peft_clean)
    return [
        {"metric": metric, "population": population} | _comparison(part, seed)
        for population, part in populations.items()
        if len(part.groups)
    ]


def _reduction_rows(outcomes: PairedOutcomes, seed: int) -> list[dict[str, object]]:
    """The share that could not be reduced, of those both arms get right; a reduction is no drop of accuracy."""
    part = outcomes.where(outcomes.full_clean & outcomes.peft_clean)
    if not len(part.groups):
        return []
    no_drop = dict.fromkeys(("drop_difference", "drop_low", "drop_high"))
    return [{"metric": IRREDUCIBLE_SHARE, "population": "both_correct"} | _comparison(part, seed) | no_drop]


def _comparison(outcomes: PairedOutcomes, seed: int) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    full, peft = outcomes.full_robust, outcomes.peft_robust
    differences = full.astype(float) - peft
    interval = paired_difference_interval(differences, outcomes.groups, rng=rng)
    test = mcnemar_exact(full, peft)
    n = len(differences)
    discordant = (test.only_full_right + test.only_peft_right) / n
    known = outcomes.where(outcomes.clean_known)
    drop = paired_drop(known.full_clean, known.full_robust, known.peft_clean, known.peft_robust)
    drop_interval = paired_difference_interval(drop, known.groups, rng=rng)
    return {
        "n": n,
        "full_value": full.mean(),
        "peft_value": peft.mean(),
        "difference": differences.mean(),
        "low": interval.low,
        "high": interval.high,
        "drop_difference": drop.mean() if len(drop) else None,
        "drop_low": drop_interval.low,
        "drop_high": drop_interval.high,
        "test": test.name,
        "p_value": test.p_value,
        "smallest_detectable": smallest_detectable_difference(n, discordant),
    }


def _with_verdicts(rows: list[dict[str, object]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    frame["p_adjusted"] = frame.groupby("population")["p_value"].transform(lambda p: holm(p.to_numpy()))
    frame["verdict"] = [
        str(verdict(row.difference, Interval(row.low, row.high), row.p_adjusted)) for row in frame.itertuples()
    ]
    return frame
