"""curves.csv: robust accuracy against what the attack may spend, from one run and without running it again."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.engine.outcome import Status
from robustness.reports.comparisons.grid import split_cells
from robustness.reports.tables.columns import Table, arrange
from robustness.reports.tables.examples import keeps_prediction
from robustness.runs.cells import NO_ATTACK
from robustness.stats import wilson_bounds

CELL = ["checkpoint", "testset", "attack"]
NUMBERS = ["budget", "robust_accuracy", "low", "high"]
Column = NDArray[np.float64]
Points = tuple[Column, Column, Column, Column]
"""Of one curve, as `NUMBERS`."""
MAX_POINTS = 50
"""Points of a curve; between them it is a step function."""
PATH = r"^(accuracy|step-accuracy)-at-(t|rank|top|rest|intruders)-([0-9.e+-]+)$"
SHARES = np.linspace(0, 1, 21)


def build_curves(examples: pd.DataFrame) -> pd.DataFrame:
    """Returns curves.csv's rows: for each attack, the accuracy that is left at every budget.

    At budget b an example counts as broken if the attack succeeded within b. A budget limits queries, the share of
    changed words, or the norm of the perturbation (epsilon, in median token norms). At an unlimited budget this is
    the robust accuracy of attacks.csv. The query curve is exact for attacks whose search does not depend on the
    budget. The curve over changed words is of the texts that were found. So it is an upper bound of the accuracy
    under an attack that aims at that budget. Attacks that keep the prediction leave the
    accuracy alone and have no curve.
    """
    attacked = examples.loc[
        (examples["attack"] != NO_ATTACK) & (examples["status"] != Status.ERRORED) & ~keeps_prediction(examples),
        [*CELL, "status", "queries", "distance", "norm", "modified_share"],
    ]
    statuses, perturbs = attacked["status"].to_numpy(), attacked["norm"].notna().to_numpy()
    queries, distance, share = (
        attacked[name].to_numpy(dtype=float, na_value=np.nan) for name in ("queries", "distance", "modified_share")
    )
    places: list[tuple[str, ...]] = []
    points: list[Points] = []
    for cell, part in split_cells(attacked, CELL):
        broken = part[statuses[part] == Status.SUCCEEDED]
        right = int((statuses[part] != Status.SKIPPED).sum())
        costs = {"queries": queries[broken]}
        if perturbs[part].any():  # not by what broke: an arm may withstand every perturbation
            costs = {"epsilon": distance[broken]}
        elif not np.isnan(share[broken]).any():
            costs["modified_share"] = share[broken]
        for kind, spent in costs.items():
            budgets = SHARES if kind == "modified_share" else _steps(spent)
            left = right - np.searchsorted(np.sort(spent), budgets + 1e-9, side="right")
            places.append((*cell, kind))
            points.append((budgets, *_points(left, len(part))))
    if not points:
        return arrange(Table.CURVES, [])
    lengths = [len(budgets) for budgets, *_ in points]
    names = {
        name: np.repeat(column, lengths)
        for name, column in zip([*CELL, "budget_kind"], zip(*places, strict=True), strict=True)
    }
    numbers = {name: np.concatenate(column) for name, column in zip(NUMBERS, zip(*points, strict=True), strict=True)}
    return arrange(Table.CURVES, pd.DataFrame(names | numbers))


def build_path_curves(measurements: pd.DataFrame) -> pd.DataFrame:
    """Returns curves.csv's rows of checkpoints with parts of their weight update changed (probe update-path).

    budget_kind is t (all weights at W_0 + t dW), rank (dW cut to its leading directions), top and rest (dW projected
    into and out of W_0's leading directions) or intruders (those directions scaled). Attack is `none`, or
    `gradient-step` for one step of fixed size against the margin, whose accuracy is an upper bound.
    """
    parts = measurements["quantity"].astype(str).str.extract(PATH)
    known = measurements[parts[0].notna() & measurements["value"].notna()].assign(
        attack=parts[0].map({"accuracy": NO_ATTACK, "step-accuracy": "gradient-step"}),
        budget_kind=parts[1],
        budget=parts[2].astype(float),
    )
    rows: list[dict[str, object]] = []
    for keys, part in known.groupby([*CELL, "budget_kind", "budget"], sort=False):
        names = dict(zip(CELL, keys[:3], strict=True))
        columns = _points(np.array([int(part["value"].sum())]), len(part))
        numbers = (float(keys[4]), *(float(column[0]) for column in columns))
        rows.append(names | {"budget_kind": str(keys[3])} | dict(zip(NUMBERS, numbers, strict=True)))
    return arrange(Table.CURVES, rows)


def _steps(spent: NDArray[np.float64]) -> NDArray[np.float64]:
    """Zero and the budgets at which something broke, thinned evenly over the successes."""
    steps = np.unique(spent)
    if len(steps) > MAX_POINTS:
        steps = np.unique(np.quantile(spent, np.linspace(0, 1, MAX_POINTS), method="higher"))
    return np.concatenate([[0.0], steps])


def _points(left: NDArray[np.int64], n: int) -> tuple[Column, Column, Column]:
    return (left / n, *wilson_bounds(left, n))
