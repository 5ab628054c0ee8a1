"""sensitivity_pairs.csv: how the arms of a pair differ in each number of each probe."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.reports.comparisons.claims import BROKEN, Direction, find_direction, find_exclusion
from robustness.reports.tables.columns import Table, arrange
from robustness.reports.tables.probes.sensitivity import LABELS, PLACE, READABLE, are_outcomes, count_reasons
from robustness.runs.storage.record import RunRecord, StatisticsRecord
from robustness.stats import (
    Correction,
    Interval,
    adjust,
    bootstrap_mean_interval,
    mcnemar_exact,
    mean_difference,
    paired_permutation,
)
from robustness.stats.medians import median_interval, signed_rank_p

KEYS = ["testset", "probe", *PLACE, *LABELS]
SIZES = ("radius", "sigma")
MIN_UNITS = 6
"""Examples, or groups of them: fewer have no 95 % interval of a median, and no test at 5 %."""
WHOLE = "one number of the whole checkpoint: nothing to test"
FEW = f"fewer than {MIN_UNITS} examples with a number on both arms"
RATIO = "ratio"
DIFFERENCE = "difference"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One number of both arms over shared examples."""

    reference: NDArray[np.float64]
    candidate: NDArray[np.float64]
    worse: NDArray[np.float64]
    """Of each unit (an example, or the mean of a group): above 0 the candidate is worse off."""
    interval: Interval
    """Of the median of `worse` where it is of logarithms, of its mean otherwise."""
    test: str
    p_value: float


def build_sensitivity_pairs(measurements: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns sensitivity_pairs.csv's rows: each pair, test set and number that both arms have; directed ones first.

    Examples are paired, and those of one group enter as their mean. A quantity whose examples have a median is
    compared by `ratio`, the median of candidate / reference over the examples where both are above 0. It has its
    order-statistic interval and Wilcoxon's test of the logarithms. A mean is compared by `difference`, above 0 where
    the candidate is worse off (of neutral quantities candidate minus reference), with the bootstrap's interval and
    Wilcoxon's test. Outcomes with Bonett and Price's interval and McNemar's test, groups of them by permutation.

    `direction` is `neutral` where `reason` says why the number supports no claim; `status` is that of the number on
    either arm. Of the others it names an arm where both the interval and the test, adjusted over the pair's rows with
    a direction, do. `n_left_out` counts the examples of the probe that lack a number on an arm, or one above 0.
    """
    frame = measurements.assign(number=measurements.groupby(KEYS, sort=False, dropna=False).ngroup())
    names = frame.drop_duplicates("number").set_index("number")[KEYS].to_dict("index")
    by_checkpoint = dict(list(frame.groupby("checkpoint", sort=False)))
    rows: list[dict[str, object]] = []
    for pair in record.pairs:
        if pair.reference in by_checkpoint and pair.candidate in by_checkpoint:
            arms = by_checkpoint[pair.reference], by_checkpoint[pair.candidate]
            labels = {"pair": pair.name, "base_precision": record.find_checkpoint(pair.candidate).base_precision}
            found = [labels | row for row in _compare_arms(*arms, names, record.seed)]
            rows += _give_directions(found, record.statistics)
    table = arrange(Table.SENSITIVITY_PAIRS, rows)
    return table.assign(layer=table["layer"].astype("Int64"))


def _compare_arms(
    reference: pd.DataFrame, candidate: pd.DataFrame, names: Mapping[Hashable, dict[Any, Any]], seed: int
) -> Iterator[dict[str, object]]:
    columns = ["number", "example_id", "group_id", "value", "status", "reason"]
    left, right = (
        arm.loc[arm["value"].notna() & arm["status"].isin(READABLE), columns].drop_duplicates(columns[:2])
        for arm in (reference, candidate)
    )
    shared = left.merge(right.drop(columns="group_id"), on=columns[:2], suffixes=("_reference", "_candidate"))
    status = shared["status_reference"].isin(BROKEN) | shared["status_candidate"].isin(BROKEN)
    suspect = status.groupby(shared["number"], sort=False).any().to_dict()
    both = pd.concat([reference, candidate], ignore_index=True)
    sizes = both[both["example_id"].notna()].groupby(["testset", "probe"], dropna=False)["example_id"].nunique()
    unread = both[both["value"].isna() & both["status"].isin(BROKEN)]
    for number, part in shared.groupby("number", sort=False):
        labels = names[number]
        whole = bool(part["example_id"].isna().all())
        broken = _broken(part, unread, labels) if suspect[number] or len(unread) else None
        reasons = [find_exclusion(labels) or (WHOLE if whole else None), broken.reason if broken else None]
        compared = _compare(part, labels, seed)
        n = len(compared.reference)
        size = n if whole else int(sizes.get((labels["testset"], labels["probe"]), n))
        reason = "; ".join(filter(None, reasons)) or (FEW if len(compared.worse) < MIN_UNITS else None)
        more = {"larger_values": labels["direction"], "n_left_out": size - n, "reason": reason}
        more["status"] = broken.status if broken else "ok"
        alpha = labels["alpha"] if whole else None  # of one example's certificate, not of their median or mean
        yield labels | more | _numbers(compared, labels) | {"alpha": alpha}


@dataclass(frozen=True, slots=True)
class Broken:
    """A status that withholds a direction."""

    status: str
    reason: str


def _broken(part: pd.DataFrame, unread: pd.DataFrame, labels: dict[str, Any]) -> Broken | None:
    """Why a number cannot be read on some example: its own status, or an example of its probe without a value."""
    arms = [part[[f"status_{arm}", f"reason_{arm}"]].to_numpy() for arm in ("reference", "candidate")]
    own = pd.DataFrame(np.concatenate(arms), columns=["status", "reason"])
    of_probe = unread[(unread["probe"] == labels["probe"]) & _equal(unread["testset"], labels["testset"])]
    same_norm = of_probe["norm"].isna() | _equal(of_probe["norm"], labels["norm"])  # an error has no norm
    found = pd.concat([own[own["status"].isin(BROKEN)], of_probe.loc[same_norm, ["status", "reason"]]])
    if found.empty:
        return None
    status, reason = str(found["status"].iloc[0]), count_reasons(found)
    return Broken(status, status + (f": {reason}" if reason else ""))


def _equal(column: pd.Series[Any], value: object) -> pd.Series[Any]:
    """A probe of structure has no test set, most quantities no norm."""
    return column.isna() if pd.isna(value) else column == value


def _compare(part: pd.DataFrame, labels: dict[str, Any], seed: int) -> Comparison:
    a, b = (part[f"value_{arm}"].to_numpy(dtype=float) for arm in ("reference", "candidate"))
    is_ratio = labels["aggregate"] == "median"
    kept = (a > 0) & (b > 0) if is_ratio else np.ones(len(a), dtype=bool)
    a, b, groups = a[kept], b[kept], part["group_id"].to_numpy()[kept]
    sign = 1.0 if labels["direction"] == "robust" else -1.0  # of a distance the candidate's smaller one is worse
    worse = sign * (np.log(a) - np.log(b) if is_ratio else a - b)
    known, index = np.unique(groups.astype(str), return_inverse=True)
    repeated = len(known) < len(groups) and not pd.isna(groups).any()
    units = np.bincount(index, weights=worse) / np.bincount(index) if repeated else worse
    if len(units) < MIN_UNITS:
        return Comparison(a, b, units, Interval(math.nan, math.nan), "", math.nan)
    rng = np.random.default_rng(seed)
    if is_ratio:
        interval, test, p_value = median_interval(units), "wilcoxon-signed-rank", signed_rank_p(units)
    elif are_outcomes(np.concatenate([a, b]), labels["unit"]):
        interval = mean_difference(worse, index if repeated else None).interval()
        mcnemar = mcnemar_exact(a, b)
        test = "permutation-of-groups" if repeated else mcnemar.name
        p_value = paired_permutation(worse, index, rng=rng) if repeated else mcnemar.p_value
    else:
        interval = bootstrap_mean_interval(worse, index if repeated else None, rng=rng)
        test, p_value = "wilcoxon-signed-rank", signed_rank_p(units)
    return Comparison(a, b, units if is_ratio else worse, interval, test, p_value)


def _numbers(compared: Comparison, labels: dict[str, Any]) -> dict[str, object]:
    """The columns of numbers, a ratio as candidate / reference; `worse` is kept for the direction."""
    is_ratio = labels["aggregate"] == "median"
    centre = np.median if is_ratio else np.mean
    n, ends = len(compared.reference), compared.interval
    low, high = ends.low, ends.high
    value = float(centre(compared.worse)) if n else math.nan
    if is_ratio:
        sign = -1.0 if labels["direction"] == "robust" else 1.0
        low, high = sorted((math.exp(sign * low), math.exp(sign * high)))
        value = math.exp(sign * value)
    return {
        "comparison": RATIO if is_ratio else DIFFERENCE,
        "n": n,
        "reference_value": float(centre(compared.reference)) if n else None,
        "candidate_value": float(centre(compared.candidate)) if n else None,
        "ratio": value if is_ratio and n else None,
        "difference": value if not is_ratio and n else None,
        "low": None if math.isnan(low) else low,
        "high": None if math.isnan(high) else high,
        "test": compared.test or None,
        "p_value": None if math.isnan(compared.p_value) else compared.p_value,
        "worse": ends,
    }


def _give_directions(rows: list[dict[str, Any]], statistics: StatisticsRecord) -> list[dict[str, Any]]:
    """One family of tests: the pair's rows that no reason keeps from having a direction; these come first."""
    directed = [row for row in rows if row["reason"] is None]
    adjusted = adjust([row["p_value"] for row in directed], Correction(statistics.correction))
    for row, p_adjusted in zip(directed, adjusted.tolist(), strict=True):
        row |= {
            "p_adjusted": p_adjusted,
            "direction": str(find_direction(row["worse"], p_adjusted, statistics.alpha)),
        }
    neutral = [row | {"direction": str(Direction.NEUTRAL)} for row in rows if row["reason"] is not None]
    return [*directed, *neutral]


def name_families(compared: pd.DataFrame) -> dict[str, list[str]]:
    """Returns the members of each pair's family of directed numbers, by the family's name."""
    families: dict[str, list[str]] = {}
    parts = ["testset", "probe", "quantity", "norm", "radius", "sigma", "scope", "layer", "module"]
    for row in compared[compared["p_adjusted"].notna()].to_dict("records"):
        words = [f"{row[part]:g}" if part in SIZES else str(row[part]) for part in parts if pd.notna(row[part])]
        families.setdefault(f"sensitivity, {row['pair']}", []).append(" | ".join(words))
    return families
