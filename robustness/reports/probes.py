"""The short table of what probes measured, full beside PEFT."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table as RichTable

from robustness.runs.record import PairRecord

CHECK = "check-"
"""How the names of the checks begin; one that fails is a reason, one that passes is in sensitivity.csv."""
CURVES = "update-path"
"""The probe whose numbers are points of curves."""
MARK = "*"
"""Beside a number whose status is not ok; the reason follows the table."""
ROWS = r" \(\d+ of \d+ rows\)$"
"""How many rows a reason is of: the table shows that."""
NUMBER = ["testset", "probe", "quantity", "kind", "norm", "radius", "scope"]


def render_probes(sensitivity: pd.DataFrame, pair: PairRecord) -> Iterator[RichTable | str]:
    """Yields one line per number that at least one arm of the pair has, then what cannot be read and why."""
    arms = sensitivity[sensitivity["checkpoint"].isin([pair.reference, pair.candidate])]
    if arms.empty:
        return
    in_curves = arms["probe"] == CURVES
    yield _numbers(arms[(arms["n"] > 0) & ~arms["quantity"].str.startswith(CHECK) & ~in_curves], pair)
    if in_curves.any():
        yield f"{CURVES}: curves.csv, and the curves of report.html"
    yield "value = median or mean over examples; kind says what it is of its quantity: estimates bound nothing"
    if {"smoothing", "adversarial-distance"} <= set(arms["probe"]):
        yield (
            "a certified radius holds for the smoothed classifier, a distance that an attack found for the "
            "classifier itself: they bracket no common number"
        )
    reasons = arms[arms["reason"].notna()]
    reasons = reasons.assign(reason=reasons["reason"].str.replace(ROWS, "", regex=True))
    for row in reasons.drop_duplicates(["checkpoint", "probe", "status", "reason"]).itertuples():
        yield escape(f"{MARK} {row.checkpoint} | {row.probe} | {row.status}: {row.reason}")


def _numbers(arms: pd.DataFrame, pair: PairRecord) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    for name in ("number", "kind", "norm", "radius"):
        table.add_column(name, no_wrap=True)
    for name in ("full", "PEFT"):
        table.add_column(name, justify="right", no_wrap=True)
    for labels, group in arms.groupby(NUMBER, sort=False, dropna=False):
        _, probe, quantity, kind, norm, radius, _ = labels
        by_checkpoint = group.drop_duplicates("checkpoint").set_index("checkpoint")
        table.add_row(
            escape(_name(str(probe), str(quantity))),
            str(kind),
            "" if pd.isna(norm) else escape(str(norm)),
            "" if pd.isna(radius) else f"{radius:g}",
            *(_cell(by_checkpoint, name) for name in (pair.reference, pair.candidate)),
        )
    return table


def _name(probe: str, quantity: str) -> str:
    return probe if quantity == probe else f"{probe} {quantity.removeprefix(probe).lstrip('-')}"


def _cell(rows: pd.DataFrame, checkpoint: str) -> str:
    if checkpoint not in rows.index or pd.isna(rows.loc[checkpoint, "value"]):
        return "-"
    mark = "" if rows.loc[checkpoint, "status"] == "ok" else MARK
    return f"{rows.loc[checkpoint, 'value']:.4g}{mark}"
