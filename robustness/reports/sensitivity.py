"""sensitivity.csv, sensitivity_examples.csv and layers.csv, and how the arms of a pair differ in each probe."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.reports.columns import Table, arrange
from robustness.runs.record import RunRecord
from robustness.stats import (
    Interval,
    bootstrap_mean_interval,
    mcnemar_exact,
    mean_difference,
    wilson_interval,
)
from robustness.stats.medians import median_interval, signed_rank_p

CELL = ["checkpoint", "testset", "probe"]
LABELS = [
    "space",
    "quantity",
    "unit",
    "direction",
    "aggregate",
    "scale_free",
    "target",
    "kind",
    "norm",
    "scope",
    "radius",
    "alpha",
]
"""What tells the numbers of one probe apart."""
PLACE = ["layer", "module"]
READABLE = ("ok", "vacuous", "not-converged")
SEVERITY = ("ok", "vacuous", "not-converged", "unsupported", "errored")


def build_sensitivity(measurements: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns sensitivity.csv's rows: each quantity of each probe on each checkpoint, over its examples.

    A quantity's examples become their median or mean, as it says, with a 95 % interval: order statistics for a
    median, Wilson's for a share, the bootstrap for another mean. A cell that has no number at all has one row that
    says why.
    """
    rows: list[dict[str, object]] = []
    for cell, part in _flat(measurements).groupby(CELL, sort=False):
        checkpoint = record.find_checkpoint(str(cell[0]))
        names = dict(zip(CELL, cell, strict=True)) | {"adaptation": checkpoint.adaptation, "task": checkpoint.task}
        read = part[part["status"].isin(READABLE)]
        errored = part[part["status"] == "errored"]
        costs = {"seconds": part["seconds"].iloc[0], "n_errored": errored["example_id"].nunique(dropna=False)}
        if read.empty:
            rows += [names | costs | _reason_row(part)]
        for labels, group in read.groupby(LABELS, sort=False, dropna=False):
            rows.append(names | costs | dict(zip(LABELS, labels, strict=True)) | _summary(group, record.seed))
    return arrange(Table.SENSITIVITY, rows)


def build_sensitivity_examples(measurements: pd.DataFrame) -> pd.DataFrame:
    """Returns sensitivity_examples.csv's rows: the numbers of single examples, but for those of single layers."""
    flat = _flat(measurements)
    return arrange(Table.SENSITIVITY_EXAMPLES, flat[flat["example_id"].notna()]).reset_index(drop=True)


def build_layers(measurements: pd.DataFrame) -> pd.DataFrame:
    """Returns layers.csv's rows: each quantity at each layer, over its examples where it was measured on several."""
    layered = measurements[measurements["layer"].notna() | measurements["module"].notna()]
    rows: list[dict[str, object]] = []
    for labels, group in layered.groupby([*CELL, *PLACE, *LABELS], sort=False, dropna=False):
        values = group["value"].dropna().to_numpy(dtype=float)
        rows.append(
            dict(zip([*CELL, *PLACE, *LABELS], labels, strict=True))
            | {
                "n": len(values),
                "value": _aggregate(values, group),
                "status": _worst(group),
                "reason": _reasons(group),
            }
        )
    table = arrange(Table.LAYERS, rows)
    return table.assign(layer=table["layer"].astype("Int64"))


def build_probe_differences(measurements: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns how the arms of each pair differ: one row a pair, test set, probe, quantity and layer.

    Examples are paired. A quantity whose examples have a median is compared by log(full / PEFT) where both values
    are above 0 (`n_dropped` counts the others, such as a distance of 0 at a wrong answer): `difference` is the
    median log-ratio with its order-statistic interval, the test Wilcoxon's. A mean is compared by full minus PEFT:
    McNemar's test and Bonett and Price's bootstrap for outcomes, Wilcoxon's and the plain bootstrap otherwise. The
    sign is turned for quantities of which a larger value means more fragile, so that, but for those of direction
    `neutral`, **above 0 PEFT is more fragile**. A reading of the whole has a difference without interval or test.

    Columns: pair, testset, probe, space, layer, module, quantity, unit, direction, scale_free, target, kind, norm,
    radius, alpha, comparison (log-ratio, difference), n, n_dropped, reference_value, candidate_value (medians or
    means), difference, low, high, test, p_value.
    """
    keys = ["testset", "probe", *PLACE, *LABELS]
    rows: list[dict[str, object]] = []
    read = measurements[measurements["status"].isin(READABLE) & measurements["value"].notna()]
    for pair in record.pairs:
        arms = read[read["checkpoint"].isin([pair.reference, pair.candidate])]
        for labels, group in arms.groupby(keys, sort=False, dropna=False):
            full, peft = (group[group["checkpoint"] == name] for name in (pair.reference, pair.candidate))
            names = {"pair": pair.name} | dict(zip(keys, labels, strict=True))
            if len(full) and len(peft):
                rows.append(names | _difference(full, peft, names, record.seed))
    return pd.DataFrame(rows).drop(columns="aggregate", errors="ignore").convert_dtypes()


def _flat(measurements: pd.DataFrame) -> pd.DataFrame:
    return measurements[measurements["layer"].isna() & measurements["module"].isna()]


def _summary(group: pd.DataFrame, seed: int) -> dict[str, object]:
    values = group["value"].dropna().to_numpy(dtype=float)
    whole = group["example_id"].isna().all()
    low, high = (group["low"].iloc[0], group["high"].iloc[0]) if whole else _interval(values, group, seed)
    return {
        "status": _worst(group),
        "n": len(values),
        "value": _aggregate(values, group),
        "low": _or_empty(low),
        "high": _or_empty(high),
        "forwards": group["forwards"].sum(),
        "backwards": group["backwards"].sum(),
        "reason": _reasons(group),
    }


def _reason_row(part: pd.DataFrame) -> dict[str, object]:
    """The row of a cell without any number."""
    first = part.iloc[0]
    labels = {name: first[name] for name in ("space", "target", "kind", "quantity")}
    return labels | {"status": _worst(part), "n": 0, "reason": _reasons(part)}


def _aggregate(values: NDArray[np.float64], group: pd.DataFrame) -> float | None:
    if len(values) == 0:
        return None
    return float(np.median(values) if group["aggregate"].iloc[0] == "median" else values.mean())


def _interval(values: NDArray[np.float64], group: pd.DataFrame, seed: int) -> Iterator[float]:
    if group["aggregate"].iloc[0] == "median":
        interval = median_interval(values)
    elif _are_outcomes(values):
        interval = wilson_interval(int(values.sum()), len(values))
    else:
        interval = bootstrap_mean_interval(values, rng=np.random.default_rng(seed))
    yield from (interval.low, interval.high)


def _difference(full: pd.DataFrame, peft: pd.DataFrame, names: dict[str, object], seed: int) -> dict[str, object]:
    sign = -1.0 if names["direction"] == "fragile" else 1.0
    is_ratio = names["aggregate"] == "median"
    if full["example_id"].isna().all() or peft["example_id"].isna().all():
        a, b = full["value"].to_numpy(dtype=float)[:1], peft["value"].to_numpy(dtype=float)[:1]
    else:
        both = full.merge(peft, on="example_id", suffixes=("_full", "_peft"))
        a, b = both["value_full"].to_numpy(dtype=float), both["value_peft"].to_numpy(dtype=float)
    kept = (a > 0) & (b > 0) if is_ratio else np.ones(len(a), dtype=bool)
    dropped = int((~kept).sum())
    a, b = a[kept], b[kept]
    differences = sign * (np.log(a) - np.log(b) if is_ratio else a - b)
    centre = np.median if is_ratio else np.mean
    interval, test, p_value = _compare(a, b, differences, seed, is_ratio=is_ratio)
    return {
        "comparison": "log-ratio" if is_ratio else "difference",
        "n": len(a),
        "n_dropped": dropped,
        "reference_value": float(centre(a)) if len(a) else None,
        "candidate_value": float(centre(b)) if len(b) else None,
        "difference": float(centre(differences)) if len(a) else None,
        "low": _or_empty(interval.low),
        "high": _or_empty(interval.high),
        "test": test,
        "p_value": p_value,
    }


def _compare(
    full: NDArray[np.float64],
    peft: NDArray[np.float64],
    differences: NDArray[np.float64],
    seed: int,
    *,
    is_ratio: bool,
) -> tuple[Interval, str | None, float | None]:
    if len(differences) < 2:
        return Interval(math.nan, math.nan), None, None
    rng = np.random.default_rng(seed)
    if is_ratio:
        return median_interval(differences), "wilcoxon-signed-rank", signed_rank_p(differences)
    if _are_outcomes(full) and _are_outcomes(peft):
        test = mcnemar_exact(full, peft)
        return mean_difference(differences).interval(), test.name, test.p_value
    return bootstrap_mean_interval(differences, rng=rng), "wilcoxon-signed-rank", signed_rank_p(differences)


def _are_outcomes(values: NDArray[np.float64]) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _worst(group: pd.DataFrame) -> str:
    return str(max(group["status"], key=SEVERITY.index))


def _reasons(group: pd.DataFrame) -> str | None:
    """The first reason, and how many rows have one."""
    given = group["reason"][group["reason"].notna() & (group["reason"] != "")]
    if given.empty:
        return None
    return str(given.iloc[0]) + (f" ({len(given)} of {len(group)} rows)" if len(given) > 1 else "")


def _or_empty(value: float) -> float | None:
    return None if value is None or math.isnan(value) else value
