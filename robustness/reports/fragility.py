"""fragility.csv: every place where the arms of a pair can differ, most fragile first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustness.engine.evaluation import NO_ATTACK
from robustness.reports.attacks import WORST_CASE
from robustness.reports.columns import Table, arrange
from robustness.reports.examples import RIGHT
from robustness.reports.grid import OutcomeGrid, Places, build_grid, is_attack, worst_places
from robustness.reports.pairs import PairedOutcomes, compare_arms, give_verdicts
from robustness.reports.strata import Columns, Stratum, read_columns, split_budgets, split_strata
from robustness.runs.record import PairRecord, RunRecord, TestsetRecord

PRIMARY_METRICS = ("accuracy", "robust_accuracy", "f1")
MIN_EXAMPLES = 10
"""A place with fewer shared examples says nothing and would only widen the family."""
FAMILY = "fragility"
_RANKS = (2, 0, 1)
"""Over several attacks: of wrong (0) first, then of unknown (-1, the last), then of right (1)."""
PROBE_NUMBERS = ("n", "reference_value", "candidate_value", "difference", "low", "high", "test", "p_value")
NEUTRAL = "neutral"
"""Direction of a probe whose larger values mean neither robust nor fragile."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The examples of one test set and attack under both arms, side by side."""

    pair: PairRecord
    testset: str
    attack: str
    full: Places
    peft: Places


def build_fragility(
    examples: pd.DataFrame,
    pairs: pd.DataFrame,
    record: RunRecord,
    probe_differences: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Returns fragility.csv's rows, ranked by the lower end of the interval: the surest fragility of PEFT first.

    Test sets and attacks are those of pairs.csv with their verdicts. The other places (attack family, AdvGLUE method
    and construction, budget, text length, clean margin, label, probe, layer) explore: their p-values are adjusted
    together as one further family. Strata are of the worst case over the run's attacks, and of adversarial sets as
    they stand.

    Args:
        examples: examples.csv's rows.
        pairs: pairs.csv's rows.
        record: The run's.
        probe_differences: How the arms differ in each probe: pair, testset, probe, layer, module, quantity,
            direction, comparison, n, reference_value, candidate_value, difference, low, high, test, p_value; above 0
            PEFT is more fragile, but for those of direction `neutral`, which are left out.
    """
    columns = read_columns(build_grid(examples))
    rows = [row for pair in record.pairs for row in _places(columns, pair, record)]
    if probe_differences is not None and len(probe_differences):
        rows += list(_probe_rows(probe_differences))
    rows = [row | {"family": FAMILY} for row in rows]
    confirmed, explored = _from_pairs(pairs), give_verdicts(rows, record.statistics)
    frames = [frame for frame in (confirmed, explored) if len(frame)]
    if not frames:
        return arrange(Table.FRAGILITY, [])
    table = pd.concat(frames, ignore_index=True).sort_values("low", ascending=False, kind="stable")
    return arrange(Table.FRAGILITY, table).reset_index(drop=True)


def _from_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    rows = pairs[(pairs["population"] == "all") & pairs["metric"].isin(PRIMARY_METRICS)]
    rows = rows[rows["aggregation"] == "mean"]
    if rows.empty:
        return rows
    where = np.where(rows["attack"] == NO_ATTACK, "test set", "attack")
    what = np.where(rows["attack"] == NO_ATTACK, rows["testset"], rows["testset"] + " | " + rows["attack"])
    return rows.assign(where=where, what=what, scale="fraction")


def _places(columns: Columns, pair: PairRecord, record: RunRecord) -> Iterator[dict[str, object]]:
    grid = columns.grid
    full, peft = (
        {key: places for key, places in grid.cells.get(name, {}).items() if key[1] not in grid.keeping}
        for name in (pair.reference, pair.candidate)
    )
    yield from _family_rows(grid, pair, (full, peft), record)
    for testset in dict.fromkeys(name for name, _ in (*full, *peft)):
        arms = _on(full, testset), _on(peft, testset)
        for attack in filter(is_attack, arms[0]):
            if attack in arms[1]:
                scope = Scope(pair, testset, attack, *grid.match(arms[0][attack], arms[1][attack]))
                for stratum in split_budgets(columns, scope.full, scope.peft):
                    yield from _row(grid, scope, stratum, record.seed)
        for scope in _scopes(grid, arms, pair, record.find_testset(testset)):
            for stratum in split_strata(columns, scope.full, scope.peft, pair.task):
                yield from _row(grid, scope, stratum, record.seed)


def _scopes(
    grid: OutcomeGrid, arms: Sequence[dict[str, Places]], pair: PairRecord, testset: TestsetRecord
) -> Iterator[Scope]:
    attacks = [attack for attack in dict.fromkeys((*arms[0], *arms[1])) if is_attack(attack)]
    if all(NO_ATTACK in arm for arm in arms) and (not attacks or testset.kind != "clean"):
        yield Scope(pair, testset.name, NO_ATTACK, *grid.match(arms[0][NO_ATTACK], arms[1][NO_ATTACK]))
    full, peft = (_worst(grid, arm, attacks) for arm in arms)
    if full is not None and peft is not None:
        name = attacks[0] if len(attacks) == 1 else WORST_CASE
        yield Scope(pair, testset.name, name, *grid.match(full, peft))


def _worst(grid: OutcomeGrid, arm: dict[str, Places], attacks: Sequence[str]) -> Places | None:
    """One row an example: robust only if no attack broke it, unknown if one errored and none did."""
    found = [arm[attack] for attack in attacks if attack in arm]
    return worst_places(found, grid.robust, _RANKS) if found else None


def _family_rows(
    grid: OutcomeGrid, pair: PairRecord, arms: Sequence[dict[tuple[str, str], Places]], record: RunRecord
) -> Iterator[dict[str, object]]:
    """Each family's worst case over all test sets; what another row shows already is left out."""
    keys = [key for key in dict.fromkeys((*arms[0], *arms[1])) if is_attack(key[1])]
    families = {attack.name: attack.family for attack in record.attacks if any(attack.name == key[1] for key in keys)}
    for family in dict.fromkeys(families.values()):
        attacks = [name for name, each in families.items() if each == family]
        testsets = list(dict.fromkeys(testset for testset, attack in keys if attack in attacks))
        if len(testsets) == 1 and len(attacks) == 1:
            continue
        matched = [
            grid.match(full, peft)
            for testset in testsets
            for full, peft in [[_worst(grid, _on(arm, testset), attacks) for arm in arms]]
            if full is not None and peft is not None
        ]
        if matched:
            full, peft = (np.concatenate(rows) for rows in zip(*matched, strict=True))
            scope = Scope(pair, " + ".join(testsets), f"{family} attacks", full, peft)
            outcomes = (grid.robust[rows] == RIGHT for rows in (full, peft))
            yield from _row(grid, scope, Stratum("attack family", family, full, peft, *outcomes), record.seed)


def _on(arm: dict[tuple[str, str], Places], testset: str) -> dict[str, Places]:
    return {attack: places for (name, attack), places in arm.items() if name == testset}


def _row(grid: OutcomeGrid, scope: Scope, stratum: Stratum, seed: int) -> Iterator[dict[str, object]]:
    n = len(stratum.full)
    if n < MIN_EXAMPLES:
        return
    unknown = np.zeros(n, dtype=bool)
    outcomes = PairedOutcomes(
        full_robust=stratum.full_robust,
        peft_robust=stratum.peft_robust,
        full_clean=unknown,
        peft_clean=unknown,
        clean_known=unknown,
        groups=grid.groups[stratum.full],
    )
    where = scope.testset if scope.attack == NO_ATTACK else f"{scope.testset} | {scope.attack}"
    place = {
        "pair": scope.pair.name,
        "where": stratum.where,
        "what": f"{where} | {stratum.what}" if stratum.where != "attack family" else stratum.what,
        "testset": scope.testset,
        "attack": scope.attack,
        "scale": "fraction",
    }
    yield place | compare_arms(outcomes, seed)


def _probe_rows(differences: pd.DataFrame) -> Iterator[dict[str, object]]:
    """One number of a whole checkpoint, or of a single example, has no paired test: it is no row here."""
    tested = differences[["difference", "low", "high", "p_value"]].notna().all(axis=1)
    for row in differences[tested & (differences["direction"] != NEUTRAL)].to_dict("records"):
        layered = any(pd.notna(row.get(name)) for name in ("layer", "module"))
        place = [
            f"layer {row[name]}" if name == "layer" else str(row[name])
            for name in ("layer", "module")
            if pd.notna(row.get(name))
        ]
        words = [str(row[name]) for name in ("testset", "probe", "quantity") if pd.notna(row.get(name))]
        yield {
            "pair": row["pair"],
            "where": "layer" if layered else "probe",
            "what": " | ".join([*words, *place]),
            "testset": row["testset"],
            "scale": row["comparison"],
        } | {name: row.get(name) for name in PROBE_NUMBERS}
