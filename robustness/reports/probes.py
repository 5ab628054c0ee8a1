"""The short table of what probes measured, full beside PEFT."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table as RichTable

from robustness.runs.record import PairRecord

TANGENT = "tangent"
"""How the scope of a number measured in a PEFT method's directions begins."""
CHECK = "check-"
"""How the names of the checks begin; one that fails is a reason, one that passes is in sensitivity.csv."""
NUMBER = ["testset", "probe", "quantity", "kind", "norm", "radius", "scope"]


def render_probes(sensitivity: pd.DataFrame, pair: PairRecord) -> Iterator[RichTable | str]:
    """Yields one line per number that at least one arm of the pair has, then what cannot be read and why."""
    arms = sensitivity[sensitivity["checkpoint"].isin([pair.full, pair.peft])]
    if arms.empty:
        return
    yield _numbers(arms[(arms["n"] > 0) & ~arms["quantity"].str.startswith(CHECK)], pair)
    yield "value = median or mean over examples; kind says what it is of its quantity: estimates bound nothing"
    if {"smoothing", "adversarial-distance"} <= set(arms["probe"]):
        yield (
            "a certified radius holds for the smoothed classifier, a distance that an attack found for the "
            "classifier itself: they bracket no common number"
        )
    for row in arms[arms["reason"].notna()].itertuples():
        yield escape(f"{row.checkpoint} | {row.probe} | {row.status}: {row.reason}")


def _numbers(arms: pd.DataFrame, pair: PairRecord) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("number", overflow="fold")
    for name in ("kind", "norm", "radius"):
        table.add_column(name, no_wrap=True)
    for name in ("full", "PEFT"):
        table.add_column(name, justify="right", no_wrap=True)
    for labels, group in arms.groupby(NUMBER, sort=False, dropna=False):
        _, probe, quantity, kind, norm, radius, scope = labels
        by_checkpoint = group.drop_duplicates("checkpoint").set_index("checkpoint")
        table.add_row(
            escape(_name(str(probe), str(quantity), str(scope))),
            str(kind),
            "" if pd.isna(norm) else escape(str(norm)),
            "" if pd.isna(radius) else f"{radius:g}",
            *(_cell(by_checkpoint, name) for name in (pair.full, pair.peft)),
        )
    return table


def _name(probe: str, quantity: str, scope: str) -> str:
    name = probe if quantity == probe else f"{probe} {quantity.removeprefix(probe).lstrip('-')}"
    return f"{name}, {scope}" if scope.startswith(TANGENT) and quantity.startswith("sharpness") else name


def _cell(rows: pd.DataFrame, checkpoint: str) -> str:
    if checkpoint not in rows.index or pd.isna(rows.loc[checkpoint, "value"]):
        return "-"
    mark = "" if rows.loc[checkpoint, "status"] == "ok" else f" ({rows.loc[checkpoint, 'status']})"
    return f"{rows.loc[checkpoint, 'value']:.4g}{escape(mark)}"
