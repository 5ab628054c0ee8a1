"""fragility.csv: every place where the arms of a pair can differ, most fragile first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustness.reports.comparisons.comparison import Comparison, Family, PairedOutcomes, compare_rates
from robustness.reports.comparisons.controls import planned_attacks
from robustness.reports.comparisons.families import give_verdicts
from robustness.reports.comparisons.grid import OutcomeGrid, RowIndex, build_grid, without_originals, worst_case
from robustness.reports.comparisons.methods import contrast_of, spell_verdicts
from robustness.reports.comparisons.originals import implausible_originals
from robustness.reports.comparisons.subgroups import Columns, Subgroup, read_columns, split_budgets, split_subgroups
from robustness.reports.tables.columns import Table, arrange
from robustness.reports.tables.examples import RIGHT, UNKNOWN
from robustness.runs.cells import NO_ATTACK, WORST_CASE
from robustness.runs.storage.record import PairRecord, RunRecord, TestsetRecord

MIN_EXAMPLES = 10
"""A place with fewer shared examples says nothing and would only widen the family."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The examples of one test set and attack under both arms, side by side."""

    pair: PairRecord
    testset: str
    attack: str
    reference: RowIndex
    candidate: RowIndex
    n_left_out: int
    """Examples of it without an outcome on both arms."""


def build_fragility(examples: pd.DataFrame, pairs: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns fragility.csv's rows, the surest fragility of the candidate first, by its lower end.

    Test sets and attacks are the planned comparisons of pairs.csv with their verdicts. The other places (attack
    family, AdvGLUE method and construction, budget, text length, clean margin, label, label
    entropy) explore: of each pair their
    p-values are adjusted together. Strata are of the worst case over the run's attacks, and of adversarial sets as
    they stand. All is accuracy, in fractions; controls are no places.

    Args:
        examples: examples.csv's rows.
        pairs: pairs.csv's rows.
        record: The run's.
    """
    whole = build_grid(examples, record)
    grid = without_originals(whole, implausible_originals(examples, record))
    columns = read_columns(grid)
    explored = [each for pair in record.pairs for each in _places(columns, pair, record)]
    frames = [frame for frame in (_from_pairs(pairs), _explore(explored, record)) if len(frame)]
    if not frames:
        return arrange(Table.FRAGILITY, [])
    table = pd.concat(frames, ignore_index=True).sort_values("low", ascending=False, kind="stable")
    facts = pairs.drop_duplicates("pair").set_index("pair")[["noise_floor", "base_precision"]]
    table = table.assign(**{name: table["pair"].map(facts[name]) for name in facts})
    return arrange(Table.FRAGILITY, table).reset_index(drop=True)


def _explore(explored: Sequence[Comparison], record: RunRecord) -> pd.DataFrame:
    rows = give_verdicts(explored, record.statistics)
    contrasts = {pair.name: contrast_of(pair, record) for pair in record.pairs}
    return spell_verdicts(rows, rows["pair"].map(contrasts)) if len(rows) else rows


def _from_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    rows = pairs[pairs["family"] == Family.PLANNED]
    if rows.empty:
        return rows
    where = np.where(rows["attack"] == NO_ATTACK, "test set", "attack")
    what = np.where(rows["attack"] == NO_ATTACK, rows["testset"], rows["testset"] + " | " + rows["attack"])
    return rows.assign(where=where, what=what)


def _places(columns: Columns, pair: PairRecord, record: RunRecord) -> Iterator[Comparison]:
    grid, arms = columns.grid, (pair.reference, pair.candidate)
    attacks = planned_attacks(grid, record)
    yield from _family_rows(grid, pair, attacks, record)
    for testset in dict.fromkeys(name for arm in arms for name, _ in grid.cells.get(arm, {})):
        cells = [grid.on(arm, testset) for arm in arms]
        for attack in (attack for attack in attacks if all(attack in cell for cell in cells)):
            both = cells[0][attack], cells[1][attack]
            n_left_out = grid.count_left_out(arms, testset, attack)
            scope = Scope(pair, testset, attack, *grid.match(*both), n_left_out)
            for subgroup in split_budgets(columns, scope.reference, scope.candidate):
                yield from _row(grid, scope, subgroup, record.seed)
        described = record.find_testset(testset)
        for scope in _scopes(grid, cells, pair, described, attacks):
            for subgroup in split_subgroups(columns, scope.reference, scope.candidate, described.labels):
                yield from _row(grid, scope, subgroup, record.seed)


def _scopes(
    grid: OutcomeGrid,
    cells: Sequence[dict[str, RowIndex]],
    pair: PairRecord,
    testset: TestsetRecord,
    attacks: Sequence[str],
) -> Iterator[Scope]:
    """A test set as it stands, but for a clean one, and the worst case over its attacks."""
    arms = pair.reference, pair.candidate
    if testset.kind != "clean" and all(NO_ATTACK in cell for cell in cells):
        both = cells[0][NO_ATTACK], cells[1][NO_ATTACK]
        n_left_out = grid.count_left_out(arms, testset.name, NO_ATTACK)
        yield Scope(pair, testset.name, NO_ATTACK, *grid.match(*both), n_left_out)
    worst = worst_case(grid, arms, testset.name, attacks)
    if worst.attacks:
        rows = (worst.rows[arm] for arm in arms)
        name = worst.attacks[0] if len(worst.attacks) == 1 else WORST_CASE
        yield Scope(pair, testset.name, name, *grid.match(*rows), worst.n_left_out)


def _family_rows(
    grid: OutcomeGrid, pair: PairRecord, attacks: Sequence[str], record: RunRecord
) -> Iterator[Comparison]:
    """Each attack family's worst case over all test sets; what another row shows already is left out."""
    arms = pair.reference, pair.candidate
    families = {attack.name: attack.family for attack in record.attacks if attack.name in attacks}
    testsets = list(dict.fromkeys(testset for testset, _ in grid.cells.get(pair.reference, {})))
    for family in dict.fromkeys(families.values()):
        members = [name for name, each in families.items() if each == family]
        found = {name: worst_case(grid, arms, name, members) for name in testsets}
        found = {name: worst for name, worst in found.items() if worst.attacks}
        if not found or (len(found) == 1 and len(members) == 1):
            continue
        matched = [grid.match(*(worst.rows[arm] for arm in arms)) for worst in found.values()]
        reference, candidate = (np.concatenate(rows) for rows in zip(*matched, strict=True))
        n_left_out = sum(worst.n_left_out for worst in found.values())
        scope = Scope(pair, " + ".join(found), f"{family} attacks", reference, candidate, n_left_out)
        outcomes = (grid.robust[rows] == RIGHT for rows in (reference, candidate))
        subgroup = Subgroup("attack family", family, reference, candidate, *outcomes)
        yield from _row(grid, scope, subgroup, record.seed)


def _row(grid: OutcomeGrid, scope: Scope, subgroup: Subgroup, seed: int) -> Iterator[Comparison]:
    rows = subgroup.reference, subgroup.candidate
    if len(rows[0]) < MIN_EXAMPLES:
        return
    outcomes = PairedOutcomes(
        reference=subgroup.reference_robust,
        candidate=subgroup.candidate_robust,
        reference_clean=grid.clean[rows[0]] == RIGHT,
        candidate_clean=grid.clean[rows[1]] == RIGHT,
        clean_known=(grid.clean[rows[0]] != UNKNOWN) & (grid.clean[rows[1]] != UNKNOWN),
        groups=grid.groups[rows[0]],
    )
    where = scope.testset if scope.attack == NO_ATTACK else f"{scope.testset} | {scope.attack}"
    place = {
        "pair": scope.pair.name,
        "where": subgroup.where,
        "what": f"{where} | {subgroup.what}" if subgroup.where != "attack family" else subgroup.what,
        "testset": scope.testset,
        "attack": scope.attack,
    }
    metric = "accuracy" if scope.attack == NO_ATTACK else "robust_accuracy"
    # Examples left out of a part are not known individually: assumes the share of the whole.
    n_left_out = round(scope.n_left_out * len(rows[0]) / max(1, len(scope.reference)))
    yield compare_rates(outcomes, place, metric=metric, family=Family.EXPLORED, seed=seed, n_left_out=n_left_out)
