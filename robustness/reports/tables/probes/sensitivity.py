"""sensitivity.csv, sensitivity_examples.csv and layers.csv: what probes measured on each checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.reports.tables.columns import Table, arrange
from robustness.runs.storage.record import RunRecord
from robustness.stats import bootstrap_mean_interval, wilson_interval
from robustness.stats.medians import median_interval

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
    "sigma",
    "alpha",
]
"""What tells the numbers of one probe apart."""
PLACE = ["layer", "module"]
CHECK = "check-"
"""How the names of the checks begin; one that fails is a reason of the number it checks."""
PURE = ("1", "share")
"""Units of what is 1 for a right example and 0 for a wrong one."""
READABLE = ("ok", "vacuous", "not-converged")
SEVERITY = ("ok", "vacuous", "not-converged", "unsupported", "errored")


def build_sensitivity(measurements: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns sensitivity.csv's rows: each quantity of each probe on each checkpoint, over its examples.

    A quantity's examples are aggregated to their median or mean, with a 95 % interval. It uses order statistics for a
    median, Wilson's interval for a share, the bootstrap for another mean. `alpha` is the chance that one certificate
    is wrong: a number over many has none, and theirs stands in sensitivity_examples.csv. Each row of a cell counts
    all examples of the cell that errored. A cell that has no number at all has one row that says why.
    """
    rows: list[dict[str, object]] = []
    for cell, part in _flat(measurements).groupby(CELL, sort=False):
        checkpoint = record.find_checkpoint(str(cell[0]))
        names = dict(zip(CELL, cell, strict=True)) | {
            "adaptation": checkpoint.adaptation,
            "task": checkpoint.task,
            "base_precision": checkpoint.base_precision,
        }
        read = part[part["status"].isin(READABLE)]
        errored = part[part["status"] == "errored"]
        costs = {"seconds": part["seconds"].iloc[0], "n_errored": errored["example_id"].nunique(dropna=False)}
        if read.empty:
            rows += [names | costs | _reason_row(part)]
        without = list(_reasons_without_number(part, read))
        for labels, group in read.groupby(LABELS, sort=False, dropna=False):
            numbers = _summary(group, record.seed)
            reasons = [str(numbers["reason"])] if numbers["reason"] else []
            numbers["reason"] = "; ".join([*reasons, *without]) or None
            rows.append(names | costs | dict(zip(LABELS, labels, strict=True)) | numbers)
    return arrange(Table.SENSITIVITY, rows)


def find_errored(sensitivity: pd.DataFrame, of_examples: pd.DataFrame) -> pd.DataFrame:
    """Returns `probe` and `reason` of what errored, once an example, or once a cell where the whole probe did.

    Args:
        sensitivity: Rows of sensitivity.csv.
        of_examples: Rows of sensitivity_examples.csv.
    """
    single = of_examples[of_examples["status"] == "errored"].drop_duplicates([*CELL, "example_id"])
    whole = sensitivity[sensitivity["status"] == "errored"]
    known = set(single[CELL].fillna("").itertuples(index=False, name=None))
    is_new = [cell not in known for cell in whole[CELL].fillna("").itertuples(index=False, name=None)]
    return pd.concat([single[["probe", "reason"]], whole.loc[is_new, ["probe", "reason"]]], ignore_index=True)


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
                "reason": count_reasons(group),
            }
        )
    table = arrange(Table.LAYERS, rows)
    return table.assign(layer=table["layer"].astype("Int64"))


def _flat(measurements: pd.DataFrame) -> pd.DataFrame:
    return measurements[measurements["layer"].isna() & measurements["module"].isna()]


def _reasons_without_number(part: pd.DataFrame, read: pd.DataFrame) -> Iterator[str]:
    """Why single examples of a cell errored, or are not supported by its probe and so have no number at all."""
    unread = part["example_id"].notna() & ~part["example_id"].isin(read["example_id"])
    unsupported, errored = part[unread & (part["status"] == "unsupported")], part[part["status"] == "errored"]
    for status, found in (("unsupported", unsupported), ("errored", errored)):
        if len(found):
            yield f"{status}: {count_reasons(found)}"


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
        "alpha": group["alpha"].iloc[0] if whole else None,
        "forwards": group["forwards"].sum(),
        "backwards": group["backwards"].sum(),
        "reason": count_reasons(group),
    }


def _reason_row(part: pd.DataFrame) -> dict[str, object]:
    """The row of a cell without any number."""
    first = part.iloc[0]
    labels = {name: first[name] for name in ("space", "target", "kind", "quantity")}
    return labels | {"status": _worst(part), "n": 0, "reason": count_reasons(part)}


def _aggregate(values: NDArray[np.float64], group: pd.DataFrame) -> float | None:
    if len(values) == 0:
        return None
    return float(np.median(values) if group["aggregate"].iloc[0] == "median" else values.mean())


def _interval(values: NDArray[np.float64], group: pd.DataFrame, seed: int) -> Iterator[float]:
    if group["aggregate"].iloc[0] == "median":
        interval = median_interval(values)
    elif are_outcomes(values, group["unit"].iloc[0]):
        interval = wilson_interval(int(values.sum()), len(values))
    else:
        interval = bootstrap_mean_interval(values, rng=np.random.default_rng(seed))
    yield from (interval.low, interval.high)


def are_outcomes(values: NDArray[np.float64], unit: str) -> bool:
    """Whether the numbers say right or wrong; a radius that is 0 for every example says neither."""
    return unit in PURE and bool(np.isin(values, (0.0, 1.0)).all())


def _worst(group: pd.DataFrame) -> str:
    return str(max(group["status"], key=SEVERITY.index))


def count_reasons(group: pd.DataFrame) -> str | None:
    """The first reason, and how many rows have one."""
    given = group["reason"][group["reason"].notna() & (group["reason"] != "")]
    if given.empty:
        return None
    return str(given.iloc[0]) + (f" ({len(given)} of {len(group)} rows)" if len(given) > 1 else "")


def _or_empty(value: float) -> float | None:
    return None if value is None or math.isnan(value) else value
