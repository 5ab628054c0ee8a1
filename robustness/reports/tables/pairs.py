"""pairs.csv: a reference against a candidate on the same examples, with paired statistics and a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pandas as pd

from robustness.engine.named_attack import Effort
from robustness.reports.comparisons.comparison import (
    Comparison,
    Family,
    PairedOutcomes,
    compare_rates,
    compare_success,
    stand_in_weights,
)
from robustness.reports.comparisons.controls import UNCHANGED, is_control, planned_attacks
from robustness.reports.comparisons.efforts import compare_efforts
from robustness.reports.comparisons.families import give_verdicts
from robustness.reports.comparisons.grid import OutcomeGrid, RowIndex, build_grid, without_originals, worst_case
from robustness.reports.comparisons.methods import name_contrast, name_methods, spell_verdicts
from robustness.reports.comparisons.originals import implausible_originals
from robustness.reports.comparisons.qa_tables import compare_answers
from robustness.reports.comparisons.qualities import compare_qualities
from robustness.reports.comparisons.seeds import compare_methods
from robustness.reports.tables.columns import Table, arrange
from robustness.reports.tables.examples import RIGHT, UNKNOWN
from robustness.reports.tables.generated_texts import metric_name
from robustness.runs.cells import NO_ATTACK, WORST_CASE
from robustness.runs.storage.record import PairRecord, RunRecord

IRREDUCIBLE_SHARE = "irreducible_share"
"""The metric of attacks that keep the prediction."""
Labels = Mapping[str, object]


def build_pairs(examples: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns pairs.csv's rows: each pair, test set and attack, then each method over its training seeds.

    Every difference is above 0 where the candidate is worse off. Each attack has the difference in robust
    accuracy over all examples. Over the examples that both arms have right it has the differences in success rate and
    effort. The primary metric over its headline population is the planned family of the pair. It is adjusted
    together, and only it is tallied. Clean test sets, `identity` and random baselines are controls. An attack that
    keeps the prediction is compared by the share of texts it could not reduce, among texts that both arms get right.
    """
    whole = build_grid(examples, record)
    grid = without_originals(whole, implausible_originals(examples, record))
    comparisons = [each for pair in record.pairs for each in _of_pair(grid, pair, record)]
    comparisons += compare_methods(grid, record)
    rows = give_verdicts(comparisons, record.statistics)
    if rows.empty:
        return arrange(Table.PAIRS, rows)
    rows = spell_verdicts(rows, rows["contrast"])
    return arrange(Table.PAIRS, rows.assign(noise_floor=_noise_floors(rows, record)))


def _noise_floors(rows: pd.DataFrame, record: RunRecord) -> list[float]:
    """The larger of both arms', of a method the largest of its pairs'; nan where none was measured."""
    known = {each.name: each.noise_floor for each in record.checkpoints if each.noise_floor is not None}
    compared = {str(method.labels["pair"]): method.pairs for method in name_methods(record)}
    compared |= {pair.name: (pair,) for pair in record.pairs}
    floors = {
        name: max(
            (known[arm] for pair in pairs for arm in (pair.reference, pair.candidate) if arm in known),
            default=math.nan,
        )
        for name, pairs in compared.items()
    }
    return [floors[name] for name in rows["pair"]]


def _of_pair(grid: OutcomeGrid, pair: PairRecord, record: RunRecord) -> Iterator[Comparison]:
    names = _name(pair, record)
    cells = grid.cells.get(pair.reference, {})
    for testset in dict.fromkeys(name for name, _ in cells):
        reference, candidate = (grid.on(name, testset) for name in (pair.reference, pair.candidate))
        for attack in reference:
            if attack in candidate:
                labels = names | {"testset": testset, "attack": attack}
                yield from _of_cell(grid, (reference[attack], candidate[attack]), labels, record)
        yield from _of_worst_case(grid, pair, testset, names, record)


def _name(pair: PairRecord, record: RunRecord) -> dict[str, object]:
    reference, candidate = (record.find_checkpoint(name) for name in (pair.reference, pair.candidate))
    return {
        "pair": pair.name,
        "contrast": name_contrast(reference.adaptation, candidate.adaptation),
        "base": pair.base,
        "reference": pair.reference,
        "candidate": pair.candidate,
        "method": candidate.method,
        "task": pair.task,
        "method_digest": candidate.method_digest,
        "trainable_parameters": candidate.trainable_parameters,
        "trainable_share": candidate.trainable_share,
        "base_precision": candidate.base_precision,
        "train_seconds": candidate.train_seconds,
    }


def _of_cell(
    grid: OutcomeGrid, arms: tuple[RowIndex, RowIndex], labels: Labels, record: RunRecord
) -> Iterator[Comparison]:
    testset, attack = str(labels["testset"]), str(labels["attack"])
    names = str(labels["reference"]), str(labels["candidate"])
    asked = grid.asked(names, testset, attack)
    kept = grid.known(arms[0]) & grid.known(arms[1])
    n_left_out = int((asked & ~kept).sum())
    rows = arms[0][kept], arms[1][kept]
    if not kept.any():
        return
    if attack == NO_ATTACK and record.find_testset(testset).answers:
        is_clean = is_control(record, testset, attack)
        found = compare_answers(grid, arms, labels, is_clean=is_clean, seed=record.seed)
        yield from (replace(each, n_left_out=n_left_out) for each in found)
        return
    outcomes = pair_up(grid, *rows)
    if attack in grid.keeping:
        yield from _reductions(outcomes, labels, n_left_out, record.seed)
        return
    if attack != NO_ATTACK:
        clean = [grid.clean_answers(name, testset)[asked] for name in names]
        outcomes = replace(outcomes, weights=stand_in_weights(clean[0], clean[1], kept[asked]))
    yield from _rates(outcomes, labels, n_left_out, record)
    if attack == NO_ATTACK:
        yield from _qualities(grid, rows, labels, n_left_out, record)
    elif not is_control(record, testset, attack):
        yield from _qualities(grid, rows, labels, n_left_out, record)
        effort = next((each.effort for each in record.attacks if each.name == attack), Effort.QUERIES)
        compared = compare_efforts(grid, rows, effort, labels, n_left_out=n_left_out, seed=record.seed)
        yield from [] if compared is None else [compared]


def _qualities(
    grid: OutcomeGrid, rows: tuple[RowIndex, RowIndex], labels: Labels, n_left_out: int, record: RunRecord
) -> Iterator[Comparison]:
    """Of tasks that are answered with free text."""
    task = next((task for task in record.tasks if task.name == labels["task"] and task.answer is not None), None)
    if task is not None:
        is_attacked = labels["attack"] != NO_ATTACK
        metric = metric_name(task)
        found = compare_qualities(grid, rows, labels, metric=metric, is_attacked=is_attacked, seed=record.seed)
        yield from (replace(each, n_left_out=n_left_out) for each in found)


def pair_up(grid: OutcomeGrid, reference: RowIndex, candidate: RowIndex) -> PairedOutcomes:
    """Returns the matched rows of both arms as outcomes."""
    return PairedOutcomes(
        reference=grid.robust[reference] == RIGHT,
        candidate=grid.robust[candidate] == RIGHT,
        reference_clean=grid.clean[reference] == RIGHT,
        candidate_clean=grid.clean[candidate] == RIGHT,
        clean_known=(grid.clean[reference] != UNKNOWN) & (grid.clean[candidate] != UNKNOWN),
        groups=grid.groups[reference],
    )


def _rates(outcomes: PairedOutcomes, labels: Labels, n_left_out: int, record: RunRecord) -> Iterator[Comparison]:
    testset, attack = str(labels["testset"]), str(labels["attack"])
    control = attack != WORST_CASE and is_control(record, testset, attack)
    yield compare_rates(
        outcomes,
        labels,
        metric="accuracy" if attack == NO_ATTACK else "robust_accuracy",
        family=Family.CONTROL if control else Family.PLANNED,
        seed=record.seed,
        is_clean=control and attack in UNCHANGED,
        n_left_out=n_left_out,
    )
    success = compare_success(outcomes, labels, record.seed)
    if success is not None:
        yield replace(success, n_left_out=n_left_out)


def _reductions(outcomes: PairedOutcomes, labels: Labels, n_left_out: int, seed: int) -> Iterator[Comparison]:
    """The share that could not be reduced, of those both arms get right; a reduction is no drop of accuracy."""
    both = outcomes.both_correct
    if len(both.groups):
        found = compare_rates(both, labels, metric=IRREDUCIBLE_SHARE, family=Family.SECONDARY, seed=seed)
        yield replace(found, population="both_correct", n_left_out=n_left_out, clean=None, success=None, drop=None)


def _of_worst_case(
    grid: OutcomeGrid, pair: PairRecord, testset: str, names: Labels, record: RunRecord
) -> Iterator[Comparison]:
    """Over the attacks that are no controls, where both arms have several."""
    attacks = planned_attacks(grid, record)
    worst = worst_case(grid, (pair.reference, pair.candidate), testset, attacks)
    if len(worst.attacks) < 2:
        return
    reference, candidate = worst.rows[pair.reference], worst.rows[pair.candidate]
    kept = reference >= 0
    if not kept.any():
        return
    outcomes = pair_up(grid, reference[kept], candidate[kept])
    answers = [grid.clean_answers(name, testset) for name in (pair.reference, pair.candidate)]
    asked = grid.asked_under_attack((pair.reference, pair.candidate), testset)
    weights = stand_in_weights(answers[0][asked], answers[1][asked], kept[asked])
    labels = dict(names) | {"testset": testset, "attack": WORST_CASE}
    yield from _rates(replace(outcomes, weights=weights), labels, worst.n_left_out, record)
