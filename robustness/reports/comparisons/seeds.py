"""Comparisons over the training seeds of a method: what is said about the method, not about two checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustness.engine.named_attack import Effort
from robustness.reports.comparisons.comparison import DROP_LIMIT, Comparison, Family, has_repeats
from robustness.reports.comparisons.controls import UNCHANGED, is_control
from robustness.reports.comparisons.efforts import efforts_of
from robustness.reports.comparisons.grid import CLEAN, ROBUST, OutcomeGrid, RowIndex, worst_case
from robustness.reports.comparisons.methods import Method, name_methods
from robustness.reports.comparisons.qa_tables import METRICS, incomplete_groups
from robustness.reports.tables.generated_texts import metric_name
from robustness.runs.cells import NO_ATTACK, WORST_CASE
from robustness.runs.storage.record import PairRecord, RunRecord
from robustness.stats import Estimate, Reason, difference_over_seeds, less_effort, rarer_share, separate_seeds
from robustness.stats.grouped import worst_altered_rows

TEST = "seeds-and-examples"
MIN_SEEDS = 3
"""Two seeds leave one degree of freedom: nothing that they show can be told from luck."""
Column = NDArray[np.float64]
Mask = NDArray[np.bool_]
Labels = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class SeededScores:
    """What the arms of a method's pairs score on the same examples, shape (pairs, n) each."""

    reference: Column
    candidate: Column
    reference_clean: Column
    """nan where not known."""
    candidate_clean: Column
    groups: NDArray[Any]
    """Shape (n,)."""
    seeds: tuple[object, ...]
    """Training seed of each pair: several pairs of one seed count as one, by their mean."""

    def where(self, mask: Mask) -> SeededScores:
        """The examples that the mask keeps."""
        return SeededScores(
            self.reference[:, mask],
            self.candidate[:, mask],
            self.reference_clean[:, mask],
            self.candidate_clean[:, mask],
            self.groups[mask],
            self.seeds,
        )

    @property
    def clean_known(self) -> Mask:
        """Which examples have a clean score under every checkpoint."""
        return np.asarray(~np.isnan(np.concatenate([self.reference_clean, self.candidate_clean])).any(axis=0))

    def by_seed(self, table: Column) -> Column:
        """The mean row of each distinct seed."""
        distinct = list(dict.fromkeys(self.seeds))
        return np.stack([table[[seed == each for each in self.seeds]].mean(axis=0) for seed in distinct])


def compare_methods(grid: OutcomeGrid, record: RunRecord) -> list[Comparison]:
    """Returns the comparisons of each method that was trained with several seeds, over what all its arms answered.

    A method is its definition with base, task and training rows. From two seeds, and where one reference serves
    several seeds, no verdict on a method is given.
    """
    return [
        each
        for method in name_methods(record)
        if len({pair.seed for pair in method.pairs}) > 1
        for each in _of_method(grid, method, record)
    ]


def _of_method(grid: OutcomeGrid, method: Method, record: RunRecord) -> Iterator[Comparison]:
    arms = list(dict.fromkeys(name for pair in method.pairs for name in (pair.reference, pair.candidate)))
    first = method.pairs[0].reference
    for testset in dict.fromkeys(name for name, _ in grid.cells.get(first, {})):
        cells = {name: grid.on(name, testset) for name in arms}
        shared = [attack for attack in cells[first] if all(attack in cells[name] for name in arms)]
        shared = [attack for attack in shared if attack not in grid.keeping]
        for attack in shared:
            labels = _labels(method, testset, attack)
            places = {name: cells[name][attack] for name in arms}
            if attack == NO_ATTACK and record.find_testset(testset).answers:
                found = _answers(grid, method.pairs, places, labels, record)
            else:
                found = _rates(grid, method.pairs, places, labels, record)
            yield from (_finished(each, method) for each in found)
        attacks = [attack for attack in shared if attack != NO_ATTACK and not is_control(record, testset, attack)]
        worst = worst_case(grid, arms, testset, attacks)
        if len(worst.attacks) > 1:
            labels = _labels(method, testset, WORST_CASE)
            yield from (_finished(each, method) for each in _rates(grid, method.pairs, worst.rows, labels, record))


def _labels(method: Method, testset: str, attack: str) -> dict[str, object]:
    return dict(method.labels) | {"testset": testset, "attack": attack}


def _finished(comparison: Comparison, method: Method) -> Comparison:
    seeds = len({pair.seed for pair in method.pairs})
    withheld = Reason.TWO_SEEDS if seeds < MIN_SEEDS else None
    if _serves_several_seeds([(pair.candidate, pair.seed) for pair in method.pairs]):
        withheld = Reason.SHARED_CANDIDATE
    if _serves_several_seeds([(pair.reference, pair.seed) for pair in method.pairs]):
        withheld = Reason.SHARED_REFERENCE
    return replace(comparison, n_seeds=seeds, withheld=withheld)


def _serves_several_seeds(arms: Sequence[tuple[str, int | None]]) -> bool:
    return len({name for name, _ in arms}) < len(set(arms))


def _known_to_all(grid: OutcomeGrid, places: Mapping[str, RowIndex], labels: Labels) -> tuple[Mask, int]:
    """Which examples all arms have judged, and how many only some have."""
    kept = np.logical_and.reduce([grid.known(each) for each in places.values()])
    asked = grid.asked(list(places), str(labels["testset"]), str(labels["attack"]))
    return kept, int((asked & ~kept).sum())


def _stack(
    columns: tuple[Column, Column], pairs: Sequence[PairRecord], places: Mapping[str, RowIndex], groups: NDArray[Any]
) -> SeededScores:
    """Scores and clean scores of rows, as arrays over pairs and examples."""
    score, clean = columns
    reference, candidate = (
        np.stack([places[getattr(pair, arm)] for pair in pairs]) for arm in ("reference", "candidate")
    )
    seeds = tuple(pair.seed for pair in pairs)
    return SeededScores(
        score[reference], score[candidate], clean[reference], clean[candidate], groups[reference[0]], seeds
    )


def _rates(
    grid: OutcomeGrid,
    pairs: Sequence[PairRecord],
    places: Mapping[str, RowIndex],
    labels: Labels,
    record: RunRecord,
) -> Iterator[Comparison]:
    kept, n_left_out = _known_to_all(grid, places, labels)
    if not kept.any():
        return
    testset, attack = str(labels["testset"]), str(labels["attack"])
    rows = {name: each[kept] for name, each in places.items()}
    scores = _stack((grid.numbers(ROBUST), grid.numbers(CLEAN)), pairs, rows, grid.groups)
    control = attack != WORST_CASE and is_control(record, testset, attack)
    found = _compare(scores, labels, family=Family.CONTROL if control else Family.PLANNED)
    metric = "accuracy" if attack == NO_ATTACK else "robust_accuracy"
    yield replace(found, metric=metric, n_left_out=n_left_out, is_clean=control and attack in UNCHANGED)
    beside = [_success(scores, found)]
    task = next((task for task in record.tasks if task.name == labels["task"] and task.answer is not None), None)
    if task is not None and attack != WORST_CASE and (attack == NO_ATTACK or not control):
        beside.append(_quality(grid, scores, pairs, rows, metric_name(task), labels))
    if attack not in (NO_ATTACK, WORST_CASE) and not control:
        effort = next((each.effort for each in record.attacks if each.name == attack), Effort.QUERIES)
        beside.append(_effort(grid, scores, pairs, rows, effort, labels))
    yield from (replace(each, n_left_out=n_left_out) for each in beside if each is not None)


def _effort(
    grid: OutcomeGrid,
    scores: SeededScores,
    pairs: Sequence[PairRecord],
    rows: Mapping[str, RowIndex],
    effort: Effort,
    labels: Labels,
) -> Comparison | None:
    """Which arm breaks with less, over seeds; None where nothing broke, or a pair has no example both have right."""
    both = (scores.reference_clean == 1) & (scores.candidate_clean == 1)
    arms = [
        [efforts_of(grid, rows[getattr(pair, arm)], effort) for pair in pairs] for arm in ("reference", "candidate")
    ]
    spent = np.array(arms)
    both &= ~np.isnan(spent).any(axis=0)
    if not both.any(axis=1).all() or np.isinf(spent[:, both]).all():
        return None
    signs = np.stack([less_effort(*each) for each in np.where(both, spent, np.inf).swapaxes(0, 1)])
    groups = scores.groups if has_repeats(scores.groups) else None
    estimate = difference_over_seeds(scores.by_seed(linearise(signs, both)), groups)
    return Comparison(
        labels=labels,
        metric="effort",
        population="both_correct",
        family=Family.EFFORT,
        n=int(both.any(axis=0).sum()),
        reference_value=(1 - estimate.difference) / 2,
        candidate_value=(1 + estimate.difference) / 2,
        estimate=estimate,
        test=TEST,
        p_value=estimate.p_value,
    )


def _quality(
    grid: OutcomeGrid,
    scores: SeededScores,
    pairs: Sequence[PairRecord],
    rows: Mapping[str, RowIndex],
    metric: str,
    labels: Labels,
) -> Comparison | None:
    """How good answers are over seeds, else as `compare_qualities`; None where all are right or wrong."""
    quality = grid.numbers("quality")
    table = np.array([[quality[rows[getattr(pair, arm)]] for pair in pairs] for arm in ("reference", "candidate")])
    is_attacked = labels["attack"] != NO_ATTACK
    compared = (scores.reference_clean == 1) & (scores.candidate_clean == 1) | (not is_attacked)
    compared &= ~np.isnan(table).any(axis=0)
    if not compared.any(axis=1).all() or np.isin(table[:, compared], (0.0, 1.0)).all():
        return None
    groups = scores.groups if has_repeats(scores.groups) else None
    differences = np.where(compared, table[0] - table[1], 0.0)
    estimate = difference_over_seeds(scores.by_seed(linearise(differences, compared)), groups)
    values = [float(np.mean([row[mask].mean() for row, mask in zip(arm, compared, strict=True)])) for arm in table]
    return Comparison(
        labels=labels,
        metric=metric,
        population="both_correct" if is_attacked else "all",
        family=Family.SECONDARY,
        n=int(compared.any(axis=0).sum()),
        reference_value=values[0],
        candidate_value=values[1],
        estimate=estimate,
        test=TEST,
        p_value=estimate.p_value,
    )


def linearise(values: Column, mask: Mask) -> Column:
    r"""Returns a table whose row means are the values' means over the masked examples, shape (pairs, n).

    A linearised ratio of means. With share $q$ of a row's examples masked and their mean $r$, an example counts $r +
    (v - r) 1_{mask} / q$, by its distance from its mean.

    >>> linearise(np.array([[1.0, 0.0, 5.0, 7.0]]), np.array([[True, True, False, False]]))
    array([[ 1.5, -0.5,  0.5,  0.5]])
    """
    shares = mask.mean(axis=1, keepdims=True)
    kept = np.where(mask, values, 0.0)
    means = kept.mean(axis=1, keepdims=True) / shares
    return np.asarray(means + (kept - means * mask) / shares)


def _success(scores: SeededScores, found: Comparison) -> Comparison | None:
    """The success rates on what both arms of each pair have right; None where that is not known, or nothing."""
    if found.success is None or not found.success.parts:
        return None
    both = (scores.reference_clean == 1) & (scores.candidate_clean == 1)
    rates = [
        float(np.mean([1 - row[mask].mean() for row, mask in zip(arm, both, strict=True)]))
        for arm in (scores.reference, scores.candidate)
    ]
    return Comparison(
        labels=found.labels,
        metric="attack_success_rate",
        population="both_correct",
        family=Family.SECONDARY,
        n=int(both.any(axis=0).sum()),
        reference_value=rates[0],
        candidate_value=rates[1],
        estimate=found.success,
        test=TEST,
        p_value=found.success.p_value,
    )


def _answers(
    grid: OutcomeGrid,
    pairs: Sequence[PairRecord],
    places: Mapping[str, RowIndex],
    labels: Labels,
    record: RunRecord,
) -> Iterator[Comparison]:
    kept, n_left_out = _known_to_all(grid, places, labels)
    if not kept.any():
        return
    rows = {name: each[kept] for name, each in places.items()}
    is_clean = is_control(record, str(labels["testset"]), NO_ATTACK)
    planned = Family.CONTROL if is_clean else Family.PLANNED
    for metric, columns in METRICS.items():
        score, clean = (grid.numbers(name) for name in columns)
        scores = _stack((score, clean), pairs, rows, grid.groups)
        altered = scores.clean_known
        populations = {"altered": scores.where(altered)} if altered.any() else {}
        populations["all"] = scores
        for number, (population, part) in enumerate(populations.items()):
            family = planned if number == 0 and metric == "f1" else Family.SECONDARY
            found = _compare(part, labels, family=family)
            yield replace(found, metric=metric, population=population, n_left_out=n_left_out, is_clean=is_clean)
        if altered.any():
            f1 = scores if metric == "f1" else _stack((grid.numbers("quality"), clean), pairs, rows, grid.groups)
            whole = ~np.isin(scores.groups, incomplete_groups(grid, list(places.values())))
            if not (altered & whole).any():
                continue
            official = _official(scores.where(whole), f1.where(whole), altered[whole])
            found = _compare(official, labels, family=Family.SECONDARY)
            yield replace(found, metric=metric, aggregation="official", n_left_out=n_left_out)


def _official(scores: SeededScores, f1: SeededScores, altered: Mask) -> SeededScores:
    """Of every question and arm the row that counts by its F1."""
    arms = []
    for values, by in ((scores.reference, f1.reference), (scores.candidate, f1.candidate)):
        chosen = np.stack([worst_altered_rows(each, scores.groups, altered) for each in by])
        arms.append(np.take_along_axis(values, chosen, axis=1))
    unknown = np.full_like(arms[0], np.nan)
    return SeededScores(arms[0], arms[1], unknown, unknown, np.unique(scores.groups), scores.seeds)


def _compare(scores: SeededScores, labels: Labels, *, family: Family) -> Comparison:
    """The method effect with its interval, and what seeds and examples add to its uncertainty."""
    groups = scores.groups if has_repeats(scores.groups) else None
    table = scores.by_seed(scores.reference - scores.candidate)
    estimate = difference_over_seeds(table, groups)
    parts = separate_seeds(table, groups)
    clean, success, known, drop = _clean_estimates(scores, table, groups)
    return Comparison(
        labels=labels,
        metric="",
        population="all",
        family=family,
        n=table.shape[1],
        reference_value=float(scores.reference.mean()),
        candidate_value=float(scores.candidate.mean()),
        estimate=estimate,
        test=TEST,
        p_value=estimate.p_value,
        clean=clean,
        success=success,
        known=known,
        drop=drop,
        rarer_share=rarer_share(table) if np.isin(table, (-1, 0, 1)).all() else None,
        extra={
            "seed_sd": parts.seed,
            "seed_sd_low": parts.seed_interval.low,
            # Two seeds can bound it by more than differences of fractions can spread.
            "seed_sd_high": np.minimum(parts.seed_interval.high, 1.0),
            "example_sd": parts.example,
            "interaction_sd": parts.interaction,
            "seed_share": parts.seed_share,
        },
    )


def _clean_estimates(
    scores: SeededScores, table: Column, groups: NDArray[Any] | None
) -> tuple[Estimate | None, Estimate | None, Estimate | None, Estimate | None]:
    """Of clean answers, the success rate where both are right, rates where clean is known, and the drop."""
    known = scores.clean_known
    if not known.any():
        return None, None, None, None
    part = scores.where(known)
    names = None if groups is None else groups[known]
    gap = part.by_seed(part.reference_clean - part.candidate_clean)
    both = (part.reference_clean == 1) & (part.candidate_clean == 1)
    success = None
    if both.any(axis=1).all():
        success = difference_over_seeds(part.by_seed(linearise(part.reference - part.candidate, both)), names)
    drop = difference_over_seeds(table[:, known] - gap, names, limit=DROP_LIMIT)
    partial = None if known.all() else difference_over_seeds(table[:, known], names)
    return difference_over_seeds(gap, names), success, partial, drop
