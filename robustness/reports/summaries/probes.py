"""The short table of what probes measured, the arms of a pair side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich.markup import escape

from robustness.reports.comparisons.claims import Direction
from robustness.reports.summaries.arms import arms_of_pair
from robustness.reports.summaries.fitting import Column, FittingTable, Part, Sentence
from robustness.reports.tables.columns import Table
from robustness.reports.tables.sensitivity_pairs import RATIO
from robustness.runs.storage.record import PairRecord, RunRecord

CHECK = "check-"
"""How the names of the checks begin; one that fails is a reason, one that passes is in sensitivity.csv."""
CURVES = "update-path"
"""The probe whose numbers are points of curves."""
MARK = "*"
"""Beside a number whose status is not ok; the reason follows the table."""
ROWS = r" \(\d+ of \d+ rows\)$"
"""How many rows a reason is of: the table shows that."""
NUMBER = ["testset", "probe", "quantity", "kind", "norm", "radius", "sigma", "scope"]


def render_probes(tables: dict[Table, pd.DataFrame], pair: PairRecord, record: RunRecord) -> Iterator[Part]:
    """Yields one line per number that at least one arm of the pair has, then what cannot be read and why."""
    sensitivity, compared = tables[Table.SENSITIVITY], tables[Table.SENSITIVITY_PAIRS]
    arms = sensitivity[sensitivity["checkpoint"].isin([pair.reference, pair.candidate])]
    if arms.empty:
        return
    in_curves = arms["probe"] == CURVES
    shown = arms[(arms["n"] > 0) & ~arms["quantity"].str.startswith(CHECK) & ~in_curves]
    flat = compared[(compared["pair"] == pair.name) & compared["layer"].isna() & compared["module"].isna()]
    names = arms_of_pair(pair, record).shorts
    yield _numbers(shown, flat, pair, names)
    if in_curves.any():
        yield Sentence(f"{CURVES}: curves.csv, and the curves of report.html")
    yield Sentence(
        "value = median or mean over examples; kind says what it is of its quantity: estimates bound nothing"
    )
    yield Sentence(
        f"ratio = {names[1]} / {names[0]} on the same examples with 95 % interval; with a sign it is a difference, "
        f"above 0 where {names[1]} is worse off"
    )
    yield Sentence(
        "more sensitive: an arm where interval and adjusted p both say so; empty where the number supports no claim, "
        "as gradients at a point and estimates: sensitivity_pairs.csv says why"
    )
    if {"smoothing", "adversarial-distance"} <= set(arms["probe"]):
        yield Sentence(
            "a certified radius holds for the smoothed classifier, a distance that an attack found for the "
            "classifier itself: they bracket no common number"
        )
    reasons = arms[arms["reason"].notna()]
    reasons = reasons.assign(reason=reasons["reason"].str.replace(ROWS, "", regex=True))
    for row in reasons.drop_duplicates(["checkpoint", "probe", "status", "reason"]).itertuples():
        yield Sentence(f"{MARK} {row.checkpoint} | {row.probe} | {row.status}: {row.reason}")


def _numbers(arms: pd.DataFrame, compared: pd.DataFrame, pair: PairRecord, names: tuple[str, str]) -> FittingTable:
    kinds = (Column(name, is_number=False) for name in ("kind", "norm", "radius"))
    numbers = map(Column, (*names, "ratio"))
    sensitive = Column("more sensitive", is_number=False)
    table = FittingTable([Column("number", is_name=True), *kinds, *numbers, sensitive], padding=1)
    both = {_key(row): row for row in compared.to_dict("records")}
    scopes = arms.groupby([name for name in NUMBER if name != "scope"], sort=False, dropna=False)["scope"]
    several = set(arms.index[scopes.transform("nunique") > 1])
    for labels, group in arms.groupby(NUMBER, sort=False, dropna=False):
        row = dict(zip(NUMBER, labels, strict=True))
        by_checkpoint = group.drop_duplicates("checkpoint").set_index("checkpoint")
        table.rows.append(
            (
                escape(_name(row, pair, with_scope=group.index[0] in several)),
                str(row["kind"]),
                "" if pd.isna(row["norm"]) else escape(str(row["norm"])),
                "" if pd.isna(row["radius"]) else f"{row['radius']:g}",
                *(_cell(by_checkpoint, name) for name in (pair.reference, pair.candidate)),
                *(escape(text) for text in _comparison(both.get(_key(row), {}), names)),
            )
        )
    return table


def _key(row: dict[Any, Any]) -> tuple[object, ...]:
    return tuple(None if pd.isna(row[name]) else row[name] for name in NUMBER)


def _comparison(row: dict[Any, Any], names: tuple[str, str]) -> tuple[str, str]:
    """The ratio or difference with its interval, and the arm it calls more sensitive."""
    if not row or pd.isna(row["low"]):
        return "", ""
    sign = "" if row["comparison"] == RATIO else "+"
    numbers = [format(row[name], sign + ".2g") for name in (row["comparison"], "low", "high")]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]", spell_direction(row["direction"], names)


def spell_direction(direction: str, names: tuple[str, str]) -> str:
    """The arm that a direction names, in words.

    >>> spell_direction("candidate-more-sensitive", ("full", "LoRA"))
    'LoRA'
    """
    reference, candidate = names
    words = {Direction.CANDIDATE: candidate, Direction.REFERENCE: reference, Direction.NO_DIFFERENCE: "none found"}
    return words.get(Direction(direction), "")


def _name(row: dict[Any, Any], pair: PairRecord, *, with_scope: bool) -> str:
    """The probe and what it measures, and of which weights or tokens where that alone tells two rows apart."""
    probe, quantity = str(row["probe"]), str(row["quantity"])
    name = probe if quantity == probe else f"{probe} {quantity.removeprefix(probe).lstrip('-')}"
    both = " and ".join(sorted((pair.reference, pair.candidate)))
    return f"{name} ({str(row['scope']).replace(both, 'both arms')})" if with_scope else name


def _cell(rows: pd.DataFrame, checkpoint: str) -> str:
    if checkpoint not in rows.index or pd.isna(rows.loc[checkpoint, "value"]):
        return "-"
    mark = "" if rows.loc[checkpoint, "status"] == "ok" else MARK
    return f"{rows.loc[checkpoint, 'value']:.4g}{mark}"
