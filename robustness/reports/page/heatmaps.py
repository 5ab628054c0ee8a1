"""Heat maps: arms against test sets, attacks, and each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from robustness.reports.page.cells import as_percent
from robustness.reports.tables.csvfiles import number_text
from robustness.runs.storage.record import RunRecord


@dataclass(frozen=True, slots=True)
class HeatCell:
    """One rate, and how it is shown."""

    value: str
    """The CSV's text."""
    shown: str
    share: str
    """Between 0 and 1: how dark."""
    title: str


@dataclass(frozen=True, slots=True)
class HeatRow:
    """One arm's cells, None where nothing was measured."""

    name: str
    arm: str
    cells: tuple[HeatCell | None, ...]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A table whose cells are coloured by their value, in percent."""

    id: str
    title: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[HeatRow, ...]


METRICS = {"accuracy": "accuracy", "f1": "F1", "em": "exact match", "exact_match": "exact match"}
"""What stands for a test set, first that it has, and what it is called."""


def accuracy_maps(testsets: pd.DataFrame, attacks: pd.DataFrame, record: RunRecord) -> list[HeatMap]:
    """Returns arms x test sets, then arms x attacks for each test set."""
    maps = []
    rows = testsets[testsets["metric"].isin(METRICS) & (testsets["aggregation"] == "mean")]
    rows = rows.assign(rank=rows["metric"].map(list(METRICS).index)).sort_values("rank", kind="stable")
    rows = rows.drop_duplicates(["checkpoint", "testset"])
    if len(rows):
        cells = {(r.checkpoint, r.testset): _cell(r.value, r.low, r.high, r.n) for r in rows.itertuples()}
        names = [testset.name for testset in record.testsets]
        measured = " or ".join(dict.fromkeys(METRICS[metric] for metric in rows["metric"]))
        maps.append(_map("heat-testsets", f"Test sets as they stand, {measured} in percent", names, cells, record))
    for number, (testset, part) in enumerate(attacks.groupby("testset", sort=False)):
        cells = {
            (r.checkpoint, r.attack): _cell(
                r.robust_accuracy, r.robust_accuracy_low, r.robust_accuracy_high, r.n - r.n_errored
            )
            for r in part.itertuples()
            if pd.notna(r.robust_accuracy)
        }
        names = list(dict.fromkeys([*(a.name for a in record.attacks), *part["attack"]]))
        maps.append(_map(f"heat-attacks-{number}", f"Robust accuracy on {testset}, percent", names, cells, record))
    return maps


def transfer_maps(transfer: pd.DataFrame, record: RunRecord) -> list[HeatMap]:
    """Returns source x target for each test set and attack."""
    maps = []
    arms = {checkpoint.name: _arm(checkpoint.name, record) for checkpoint in record.checkpoints}
    for number, (testset, part) in enumerate(transfer.groupby("testset", sort=False)):
        names = tuple(dict.fromkeys(part["attack"]))
        cells = {
            (r.source, r.target, r.attack): _cell(r.transfer_rate, r.low, r.high, r.n) for r in part.itertuples()
        }
        directions = dict.fromkeys((source, target) for source, target, _ in cells)
        rows = tuple(
            HeatRow(f"{source} \u2192 {target}", arms[source], tuple(cells.get((source, target, n)) for n in names))
            for source, target in directions
        )
        maps.append(HeatMap(f"heat-transfer-{number}", str(testset), "found on \u2192 asked of", names, rows))
    return maps


def _arm(checkpoint: str, record: RunRecord) -> str:
    """The colour of a candidate, or of what is only ever a reference."""
    return "peft" if any(checkpoint == pair.candidate for pair in record.pairs) else "full"


def _cell(value: float, low: float, high: float, n: float) -> HeatCell | None:
    if pd.isna(value):
        return None
    title = f"95 % interval {as_percent(low)} to {as_percent(high)}, n = {int(n)}"
    return HeatCell(number_text(value), as_percent(value), f"{value:.3f}", title)


def _map(
    name: str,
    title: str,
    columns: Iterable[str],
    cells: dict[tuple[str, str], HeatCell | None],
    record: RunRecord,
) -> HeatMap:
    known = {checkpoint for checkpoint, _ in cells}
    kept = tuple(column for column in columns if any(column == found for _, found in cells))
    rows = tuple(
        HeatRow(
            checkpoint.name,
            _arm(checkpoint.name, record),
            tuple(cells.get((checkpoint.name, column)) for column in kept),
        )
        for checkpoint in record.checkpoints
        if checkpoint.name in known
    )
    return HeatMap(name, title, "checkpoint", kept, rows)
