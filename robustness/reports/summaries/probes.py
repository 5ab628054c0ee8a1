"""The short table of what probes measured, the arms of a pair side by side."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd
from rich.markup import escape

from robustness.reports.comparisons.claims import Direction
from robustness.reports.summaries.arms import arms_of_pair
from robustness.reports.summaries.fitting import Column, FittingTable, Part, Sentence
from robustness.reports.tables.columns import Table
from robustness.reports.tables.probes.predictions import PER_LENGTH
from robustness.reports.tables.probes.sensitivity import CHECK
from robustness.reports.tables.probes.sensitivity_pairs import RATIO
from robustness.runs.storage.record import PairRecord, RunRecord

CURVES = "update-path"
"""The probe whose numbers are points of curves."""
MARK = "*"
"""Beside a number whose status is not ok; the reason follows the table."""
ROWS = r" \(\d+ of \d+ rows\)$"
"""How many rows a reason is of: the table shows that."""
NUMBER = ["testset", "probe", "quantity", "kind", "norm", "radius", "sigma", "scope"]
PLACE = ["norm", "radius", "sigma"]
SENSITIVE = "more\nsensitive"


def render_probes(tables: dict[Table, pd.DataFrame], pair: PairRecord, record: RunRecord) -> Iterator[Part]:
    """Yields one line per number that at least one arm of the pair has, then what cannot be read and why."""
    sensitivity, compared = tables[Table.SENSITIVITY], tables[Table.SENSITIVITY_PAIRS]
    arms = sensitivity[sensitivity["checkpoint"].isin([pair.reference, pair.candidate])]
    if arms.empty:
        return
    in_curves = arms["probe"] == CURVES
    in_files = arms["quantity"].str.startswith(CHECK) | arms["quantity"].str.endswith(PER_LENGTH)
    shown = arms[(arms["n"] > 0) & ~in_files & ~in_curves]
    flat = compared[(compared["pair"] == pair.name) & compared["layer"].isna() & compared["module"].isna()]
    names = arms_of_pair(pair, record).shorts
    yield _numbers(shown, flat, pair, names)
    if in_curves.any():
        yield Sentence(f"{CURVES}: curves.csv, and the curves of report.html")
    yield Sentence(
        "value = median or mean over the n examples that both arms have a number of, above 0 where it is a median; "
        "kind says what it is of its quantity: estimates bound nothing"
    )
    yield Sentence("each arm over all its own examples, the same per token norm, and the checks: sensitivity.csv")
    yield Sentence(
        f"ratio = {names[1]} / {names[0]} on the same examples with 95 % interval; with a sign it is a difference, "
        f"above 0 where {names[1]} is worse off"
    )
    yield Sentence(
        "more sensitive: an arm where interval and adjusted p both say so, or none; empty where the number supports "
        "no claim, as gradients at a point and estimates: sensitivity_pairs.csv says why"
    )
    if {"smoothing", "adversarial-distance"} <= set(arms["probe"]):
        yield Sentence(
            "a certified radius holds for the smoothed classifier, a distance that an attack found for the "
            "classifier itself: they bracket no common number"
        )
    yield from _footnotes(arms[arms["reason"].notna()], pair)


def _footnotes(marked: pd.DataFrame, pair: PairRecord) -> Iterator[Sentence]:
    """One a checkpoint and reason, with the numbers it is of as the table names them."""
    reasons = marked["reason"].str.replace(ROWS, "", regex=True)
    same = ["checkpoint", "probe", *PLACE, "status", "reason"]
    for labels, rows in marked.assign(reason=reasons).groupby(same, sort=False, dropna=False):
        checkpoint, *_, status, reason = labels
        first = _name(dict(rows.iloc[0]), pair, with_scope=False)
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        yield Sentence(f"{MARK} {checkpoint} | {first}{more} | {status}: {reason}")


def _numbers(arms: pd.DataFrame, compared: pd.DataFrame, pair: PairRecord, names: tuple[str, str]) -> FittingTable:
    numbers = map(Column, ("n", *names, "ratio"))
    kind, sensitive = Column("kind", is_number=False), Column(SENSITIVE, is_number=False)
    table = FittingTable([Column("number", is_name=True), kind, *numbers, sensitive])
    both = {_key(row): row for row in compared.to_dict("records")}
    scopes = arms.groupby([name for name in NUMBER if name != "scope"], sort=False, dropna=False)["scope"]
    several = set(arms.index[scopes.transform("nunique") > 1])
    for labels, group in arms.groupby(NUMBER, sort=False, dropna=False):
        row = dict(zip(NUMBER, labels, strict=True))
        by_checkpoint = group.drop_duplicates("checkpoint").set_index("checkpoint")
        compared_row = both.get(_key(row), {})
        table.rows.append(
            (
                escape(_name(row, pair, with_scope=group.index[0] in several)),
                str(row["kind"]),
                *_values(by_checkpoint, compared_row, pair),
                *(escape(text) for text in _comparison(compared_row, names)),
            )
        )
    return table


def _values(by_checkpoint: pd.DataFrame, compared: dict[Any, Any], pair: PairRecord) -> Iterator[str]:
    """How many examples and both values: over the examples that are compared, else over those of each arm."""
    arms = (pair.reference, pair.candidate)
    if compared and compared["n"] > 0:
        yield str(int(compared["n"]))
        values = [compared["reference_value"], compared["candidate_value"]]
    else:
        own = by_checkpoint.reindex(list(arms))
        yield "/".join(dict.fromkeys("-" if pd.isna(n) else str(int(n)) for n in own["n"]))
        values = list(own["value"])
    yield from (_cell(by_checkpoint, name, value) for name, value in zip(arms, values, strict=True))


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
    """The probe and what it measures, where; of which weights or tokens where that alone tells two rows apart."""
    probe, quantity = str(row["probe"]), str(row["quantity"])
    name = probe if quantity == probe else f"{probe} {quantity.removeprefix(probe).lstrip('-')}"
    name = ", ".join([name, *(place for place in map(partial(_place, row), PLACE) if place)])
    both = " and ".join(sorted((pair.reference, pair.candidate)))
    return f"{name} ({str(row['scope']).replace(both, 'both arms')})" if with_scope else name


def _place(row: dict[Any, Any], label: str) -> str:
    value = row[label]
    if pd.isna(value):
        return ""
    return str(value) if label == "norm" else f"{label} {value:g}"


def _cell(rows: pd.DataFrame, checkpoint: str, value: float) -> str:
    if checkpoint not in rows.index or pd.isna(value):
        return "-"
    mark = "" if rows.loc[checkpoint, "status"] == "ok" else MARK
    return f"{value:.3g}{mark}"
