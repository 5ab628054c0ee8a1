"""fragility.csv: every place where the arms of a pair can differ, most fragile first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustness.engine.evaluation import NO_ATTACK
from robustness.reports.answers import PRIMARY_METRICS
from robustness.reports.attacks import WORST_CASE
from robustness.reports.columns import Table, arrange
from robustness.reports.examples import add_judgements, keeps_prediction
from robustness.reports.pairs import PairedOutcomes, compare_arms, give_verdicts
from robustness.reports.strata import Stratum, split_budgets, split_strata
from robustness.runs.record import PairRecord, RunRecord

MIN_EXAMPLES = 10
"""A place with fewer shared examples says nothing and would only widen the family."""
FAMILY = "fragility"
READ = (
    *("group_id", "label", "status", "robust_right", "clean_score", "queries", "modified_share", "distance"),
    *("original_text", "adversarial_text", "method", "construction"),
)
"""Columns of an outcome that places are made of."""
PROBE_NUMBERS = ("n", "full_value", "peft_value", "difference", "low", "high", "test", "p_value")
NEUTRAL = "neutral"
"""Direction of a probe whose larger values mean neither robust nor fragile."""


@dataclass(frozen=True, slots=True)
class Arms:
    """The examples of one test set and attack under both arms, side by side."""

    pair: PairRecord
    testset: str
    attack: str
    both: pd.DataFrame
    """One row an example; columns end in _full and _peft."""


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
            direction, comparison, n, full_value, peft_value, difference, low, high, test, p_value; above 0 PEFT is
            more fragile, but for those of direction `neutral`, which are left out.
    """
    judged = add_judgements(examples[~keeps_prediction(examples)])
    rows = [row for pair in record.pairs for row in _places(judged, pair, record)]
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


def _places(judged: pd.DataFrame, pair: PairRecord, record: RunRecord) -> Iterator[dict[str, object]]:
    mine = judged[judged["checkpoint"].isin([pair.full, pair.peft])]
    families = {attack.name: attack.family for attack in record.attacks}
    yield from _family_rows(mine, pair, families, record.seed)
    for testset, part in mine.groupby("testset", sort=False):
        attacked = part[part["attack"] != NO_ATTACK]
        for attack, outcomes in attacked.groupby("attack", sort=False):
            arms = _pair_up(outcomes, pair, str(testset), str(attack))
            for stratum in split_budgets(arms.both):
                yield from _row(arms, stratum, record.seed)
        for arms in _scopes(part, attacked, pair, record):
            for stratum in split_strata(arms.both, pair.task):
                yield from _row(arms, stratum, record.seed)


def _scopes(part: pd.DataFrame, attacked: pd.DataFrame, pair: PairRecord, record: RunRecord) -> Iterator[Arms]:
    testset = str(part["testset"].iloc[0])
    static = part[part["attack"] == NO_ATTACK]
    if len(static) and (attacked.empty or record.find_testset(testset).kind != "clean"):
        yield _pair_up(static, pair, testset, NO_ATTACK)
    if len(attacked):
        single = attacked["attack"].nunique() == 1
        name = str(attacked["attack"].iloc[0]) if single else WORST_CASE
        yield _pair_up(attacked if single else _worst(attacked), pair, testset, name)


def _worst(attacked: pd.DataFrame) -> pd.DataFrame:
    """One row an example: robust only if no attack broke it, unknown if one errored and none did."""
    ranks = attacked["robust_right"].astype("Float64").fillna(0.5).astype(float)
    keys = [attacked[name] for name in ("checkpoint", "testset", "example_id")]
    lowest = ranks.groupby(keys, sort=False).transform("min")
    worst = attacked[ranks == lowest].drop_duplicates(["checkpoint", "testset", "example_id"])
    return worst


def _pair_up(outcomes: pd.DataFrame, pair: PairRecord, testset: str, attack: str) -> Arms:
    kept = outcomes[outcomes["robust_right"].notna()]
    full, peft = (kept[kept["checkpoint"] == name] for name in (pair.full, pair.peft))
    keys = ["testset", "example_id"]
    columns = [name for name in READ if name in kept]
    both = full[keys + columns].merge(peft[keys + columns], on=keys, suffixes=("_full", "_peft"))
    both["group"] = both.groupby(["testset", "group_id_full"], sort=False).ngroup()
    return Arms(pair, testset, attack, both)


def _family_rows(
    mine: pd.DataFrame, pair: PairRecord, families: dict[str, str], seed: int
) -> Iterator[dict[str, object]]:
    """Each family's worst case over all test sets; what another row shows already is left out."""
    attacked = mine[mine["attack"] != NO_ATTACK]
    for family, part in attacked.groupby(attacked["attack"].map(families), sort=False):
        if part["testset"].nunique() > 1 or part["attack"].nunique() > 1:
            arms = _pair_up(_worst(part), pair, " + ".join(part["testset"].unique()), f"{family} attacks")
            outcomes = arms.both["robust_right_full"], arms.both["robust_right_peft"]
            yield from _row(arms, Stratum("attack family", str(family), *outcomes), seed)


def _row(arms: Arms, stratum: Stratum, seed: int) -> Iterator[dict[str, object]]:
    both = arms.both.loc[stratum.full_robust.index]
    if len(both) < MIN_EXAMPLES:
        return
    outcomes = PairedOutcomes(
        full_robust=stratum.full_robust.to_numpy(dtype=bool),
        peft_robust=stratum.peft_robust.to_numpy(dtype=bool),
        full_clean=np.zeros(len(both), dtype=bool),
        peft_clean=np.zeros(len(both), dtype=bool),
        clean_known=np.zeros(len(both), dtype=bool),
        groups=both["group"].to_numpy(),
    )
    scope = arms.testset if arms.attack == NO_ATTACK else f"{arms.testset} | {arms.attack}"
    place = {
        "pair": arms.pair.name,
        "where": stratum.where,
        "what": f"{scope} | {stratum.what}" if stratum.where != "attack family" else stratum.what,
        "testset": arms.testset,
        "attack": arms.attack,
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
