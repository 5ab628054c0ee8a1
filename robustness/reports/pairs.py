"""pairs.csv: full against PEFT on the same examples, with paired statistics and a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.engine.evaluation import NO_ATTACK
from robustness.reports.attacks import WORST_CASE
from robustness.reports.columns import Table, arrange
from robustness.reports.examples import RIGHT, UNKNOWN, add_judgements, keeps_prediction
from robustness.reports.grid import STATUS_RANKS, OutcomeGrid, Places, build_grid, is_attack, worst_places
from robustness.reports.questions import answer_pair_rows
from robustness.reports.seeds import seed_rows
from robustness.runs.record import PairRecord, RunRecord, StatisticsRecord
from robustness.stats import (
    Correction,
    Interval,
    adjust,
    design_effect,
    detectable_difference,
    mcnemar_exact,
    mcnemar_mid_p,
    paired_difference_interval,
    paired_drop,
    paired_permutation,
    tost,
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
    groups: NDArray[Any]

    def where(self, mask: NDArray[np.bool_]) -> PairedOutcomes:
        """The examples that the mask keeps."""
        columns = (getattr(self, name)[mask] for name in self.__slots__)
        return PairedOutcomes(*columns)


def build_pairs(examples: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns pairs.csv's rows: each pair, test set and attack, for all examples and for those both arms get right.

    `difference` and `drop_difference` are full minus PEFT. P-values are adjusted within the rows of one population,
    which are this run's family of comparisons; of questions, within one metric and aggregation of it. Where a method
    was trained with several seeds, rows over all of them follow, families of their own, with what seeds and examples
    each add to the uncertainty.
    An attack that keeps the prediction is compared by the share of texts it could not reduce, of those that both
    arms get right.
    """
    grid = build_grid(examples)
    worst = _worst_cases(grid)
    questions = {testset.name for testset in record.testsets if testset.answers}
    rows: list[dict[str, object]] = []
    for pair in record.pairs:
        full, peft = (grid.cells.get(name, {}) | worst.get(name, {}) for name in (pair.reference, pair.candidate))
        for (testset, attack), places in full.items():
            partner = peft.get((testset, attack), np.full_like(places, -1))
            names = _names(pair, record) | {"testset": testset, "attack": attack, "aggregation": "mean"}
            if attack == NO_ATTACK and testset in questions:
                given, partners = (grid.frame.iloc[arm[arm >= 0]] for arm in (places, partner))
                rows += [names | row for row in answer_pair_rows(given, partners, record.seed)]
                continue
            matched = pair_up(grid, *grid.match(places, partner))
            if attack in grid.keeping:
                rows += [names | row for row in _reduction_rows(matched, record.seed)]
            else:
                rows += [names | row for row in _population_rows(matched, attack, record.seed)]
    rows = [{"family": row["population"], "n_seeds": 1} | row for row in rows]
    judged = _judged(grid, worst)
    changing = judged[~keeps_prediction(judged)]  # a kept prediction is no accuracy
    return arrange(Table.PAIRS, give_verdicts([*rows, *seed_rows(changing, record)], record.statistics))


def _worst_cases(grid: OutcomeGrid) -> dict[str, dict[tuple[str, str], Places]]:
    """By checkpoint the cells over all attacks of a test set, where the run has several."""
    changing = {
        checkpoint: {key: places for key, places in cells.items() if is_attack(key[1]) and key[1] not in grid.keeping}
        for checkpoint, cells in grid.cells.items()
    }
    if len({attack for cells in changing.values() for _, attack in cells}) < 2:
        return {}
    ranks = range(len(STATUS_RANKS))
    return {
        checkpoint: {
            (testset, WORST_CASE): worst_places(
                [places for (name, _), places in cells.items() if name == testset], grid.statuses, ranks
            )
            for testset in dict.fromkeys(testset for testset, _ in cells)
        }
        for checkpoint, cells in changing.items()
    }


def _judged(grid: OutcomeGrid, worst: dict[str, dict[tuple[str, str], Places]]) -> pd.DataFrame:
    """The outcomes without their texts, judged, and those of the worst cases."""
    frame = add_judgements(grid.frame.drop(columns=["original_text", "adversarial_text", "error"]))
    found = [places[places >= 0] for cells in worst.values() for places in cells.values()]
    if not found:
        return frame
    return pd.concat([frame, frame.iloc[np.concatenate(found)].assign(attack=WORST_CASE)], ignore_index=True)


def _names(pair: PairRecord, record: RunRecord) -> dict[str, object]:
    reference, candidate = (record.find_checkpoint(name) for name in (pair.reference, pair.candidate))
    return {
        "pair": pair.name,
        "contrast": name_contrast(reference.adaptation, candidate.adaptation),
        "base": pair.base,
        "reference": pair.reference,
        "candidate": pair.candidate,
        "method": candidate.adaptation,
        "task": pair.task,
        "method_digest": candidate.method_digest,
        "trainable_parameters": candidate.trainable_parameters,
    }


def name_contrast(reference: str, candidate: str) -> str:
    """Returns what a pair of adaptations compares.

    >>> name_contrast("full", "lora")
    'full-vs-peft'
    """
    return "-vs-".join("full" if adaptation == "full" else "peft" for adaptation in (reference, candidate))


def pair_up(grid: OutcomeGrid, full: Places, peft: Places) -> PairedOutcomes:
    """Returns the matched rows of both arms as outcomes."""
    return PairedOutcomes(
        full_robust=grid.robust[full] == RIGHT,
        peft_robust=grid.robust[peft] == RIGHT,
        full_clean=grid.clean[full] == RIGHT,
        peft_clean=grid.clean[peft] == RIGHT,
        clean_known=(grid.clean[full] != UNKNOWN) & (grid.clean[peft] != UNKNOWN),
        groups=grid.groups[full],
    )


def _population_rows(outcomes: PairedOutcomes, attack: str, seed: int) -> list[dict[str, object]]:
    metric = "accuracy" if attack == NO_ATTACK else "robust_accuracy"
    populations = {"all": outcomes}
    if outcomes.clean_known.any():
        populations["both_correct"] = outcomes.where(outcomes.full_clean & outcomes.peft_clean)
    return [
        {"metric": metric, "population": population} | compare_arms(part, seed)
        for population, part in populations.items()
        if len(part.groups)
    ]


def _reduction_rows(outcomes: PairedOutcomes, seed: int) -> list[dict[str, object]]:
    """The share that could not be reduced, of those both arms get right; a reduction is no drop of accuracy."""
    part = outcomes.where(outcomes.full_clean & outcomes.peft_clean)
    if not len(part.groups):
        return []
    no_drop = dict.fromkeys(("drop_difference", "drop_low", "drop_high"))
    return [{"metric": IRREDUCIBLE_SHARE, "population": "both_correct"} | compare_arms(part, seed) | no_drop]


def compare_arms(outcomes: PairedOutcomes, seed: int) -> dict[str, object]:
    """Returns the paired statistics of one comparison, unadjusted; rows of a group are taken as one unit.

    Beside the table's columns: `p_mid`, the mid-p value of McNemar's test, and what `give_verdicts` needs to say what
    the sample could have shown. Where groups have several rows the test is the paired permutation of whole groups.
    """
    rng = np.random.default_rng(seed)
    full, peft = outcomes.full_robust, outcomes.peft_robust
    n, differences = len(full), full.astype(np.int8) - peft.astype(np.int8)
    grouped = has_repeats(outcomes.groups)
    groups = np.unique(outcomes.groups, return_inverse=True)[1] if grouped else None
    interval = paired_difference_interval(differences, groups, rng=rng)
    test = mcnemar_exact(full, peft)
    discordant = (test.only_full_right + test.only_peft_right) / n
    return {
        "n": n,
        "reference_value": full.mean(),
        "candidate_value": peft.mean(),
        "difference": differences.mean(),
        "low": interval.low,
        "high": interval.high,
        "test": "permutation-of-groups" if grouped else test.name,
        "p_value": paired_permutation(differences, groups, rng=rng) if grouped else test.p_value,
        "p_mid": math.nan if grouped else mcnemar_mid_p(full, peft).p_value,
        "discordant_share": discordant,
        "design_effect": 1.0 if groups is None else design_effect(differences, groups),
        "differences": differences,
        "groups": groups,
    } | _drop(outcomes.where(outcomes.clean_known), rng, grouped=grouped)


def _drop(known: PairedOutcomes, rng: np.random.Generator, *, grouped: bool) -> dict[str, object]:
    if not len(known.groups):
        return {"drop_difference": None, "drop_low": math.nan, "drop_high": math.nan}
    drop = paired_drop(known.full_clean, known.full_robust, known.peft_clean, known.peft_robust)
    interval = paired_difference_interval(drop, known.groups if grouped else None, rng=rng)
    return {"drop_difference": drop.mean(), "drop_low": interval.low, "drop_high": interval.high}


def has_repeats(groups: NDArray[Any]) -> bool:
    """Whether a group has several rows."""
    ordered = np.sort(groups)
    return bool((ordered[1:] == ordered[:-1]).any())


def give_verdicts(rows: list[dict[str, object]], statistics: StatisticsRecord) -> pd.DataFrame:
    """Returns the rows with p-values adjusted within each `family`, verdicts, and what the samples could have shown.

    `detectable` is the true difference found with 80 % power at the level of the family's strictest test.
    """
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    if statistics.mcnemar == "mid-p" and "p_mid" in frame:
        mid = frame["p_mid"].notna()
        frame.loc[mid, "p_value"] = frame.loc[mid, "p_mid"]
        frame.loc[mid, "test"] = "mcnemar-mid-p"
    correction = Correction(statistics.correction)
    frame["p_adjusted"] = frame.groupby("family")["p_value"].transform(lambda p: adjust(p.to_numpy(), correction))
    sizes = frame.groupby("family")["p_value"].transform("count")
    frame["verdict"] = [
        str(
            verdict(
                row.difference,
                Interval(row.low, row.high),
                row.p_adjusted,
                margin=statistics.margin,
                alpha=statistics.alpha,
            )
        )
        for row in frame.itertuples()
    ]
    if "discordant_share" in frame:
        frame["detectable"] = [
            _detectable(row, statistics.alpha / max(1, size))
            for row, size in zip(frame.itertuples(), sizes, strict=True)
        ]
        frame["p_equivalence"] = [_equivalence(row, statistics.margin) for row in frame.itertuples()]
    return frame


def _detectable(row: Any, alpha: float) -> float:
    if pd.isna(row.discordant_share):
        return math.nan
    return detectable_difference(int(row.n), row.discordant_share, alpha=alpha, design_effect=row.design_effect)


def _equivalence(row: Any, margin: float) -> float:
    if margin <= 0 or not isinstance(row.differences, np.ndarray):
        return math.nan
    groups = row.groups if isinstance(row.groups, np.ndarray) else None
    return tost(row.differences, groups, margin=margin, bounded=True)
