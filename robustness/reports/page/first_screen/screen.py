"""What the first screen shows of a run: of one pair or method, of several, or of probes alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from robustness.reports.comparisons.comparison import Family
from robustness.reports.page.first_screen.advice import Advice, advise
from robustness.reports.page.first_screen.forest import Forest, make_forest
from robustness.reports.page.first_screen.one_text import OneText, find_one_text
from robustness.reports.page.first_screen.places import (
    MAX_ATTACKS,
    Place,
    TestsetPlaces,
    clean_place,
    find_places,
)
from robustness.reports.page.first_screen.probes import claims_of, make_ratio_forest, probe_headline
from robustness.reports.page.first_screen.slopes import draw_slopes, slope_columns
from robustness.reports.summaries.arms import Arms, arms_of_pair, arms_of_run
from robustness.reports.summaries.circumstances import describe_circumstances
from robustness.reports.summaries.headline import Headline, join_headlines
from robustness.reports.summaries.kept import Both, Kept, mean_kept
from robustness.reports.summaries.summary import Summaries, Summary
from robustness.reports.summaries.wording import capital, join_words, points
from robustness.reports.tables.columns import Table
from robustness.reports.visible import visible
from robustness.runs.cells import NO_ATTACK
from robustness.runs.storage.record import RunRecord

MAX_CHARTS = 6
MANY_COLUMNS = 5
"""Of a chart, from which it takes half of the page."""
MAX_ROWS = 16
"""Of the forest; with more comparisons, the strongest attack on each test set."""
MAX_LINES = 24
"""Pairs that have a line each."""


@dataclass(frozen=True, slots=True)
class Lead:
    """The numbers below the headline of one pair."""

    clean: str
    before: str
    kept: tuple[str, str]
    """What the reference keeps, what the candidate keeps."""
    smallest: str


@dataclass(frozen=True, slots=True)
class Line:
    """One pair or method of several."""

    name: str
    clean: tuple[str, str] | None
    kept: tuple[str, str] | None
    answer: Headline


@dataclass(frozen=True, slots=True)
class Chart:
    """A slope chart with its title."""

    title: str
    svg: Markup
    is_wide: bool
    caption: str = ""


@dataclass(frozen=True, slots=True)
class FirstScreen:
    """Everything above the fold."""

    meta: tuple[str, ...]
    headline: Headline
    arms: Arms
    lead: Lead | None
    notes: tuple[str, ...]
    lines: tuple[Line, ...]
    n_more_lines: int
    charts: tuple[Chart, ...]
    chart_title: str
    forest: Forest | None
    forest_title: str
    forest_caption: str
    advice: Advice
    text: OneText | None


def build_first_screen(
    record: RunRecord, tables: dict[Table, pd.DataFrame], replays: pd.DataFrame, answers: Summaries, folder: Path
) -> FirstScreen:
    """Returns the first screen; every number is a table's.

    Args:
        record: The run's.
        tables: All tables of the run.
        replays: Answers to texts found on the partner.
        answers: The answers of the run.
        folder: Where the run lies.
    """
    pairs, examples = tables[Table.PAIRS], tables[Table.EXAMPLES]
    shown = answers.shown
    arms = shown[0].arms if len(shown) == 1 else arms_of_run(record.pairs, record)
    rows = {answer.name: pairs[pairs["pair"] == answer.name] for answer in shown}
    chosen = record.attacked is not None
    places = {answer.name: find_places(rows[answer.name], answer.kept, chosen=chosen) for answer in shown}
    forest, forest_caption = _forest(shown, rows, places, arms, record)
    answer = next((each for each in shown if each.kept), shown[0])
    headline = shown[0].headline if len(shown) == 1 else join_headlines(shown, arms)
    forest_title = "The difference between the two"
    forest_title += ", under the strongest attack" if len(shown) > 1 else ""
    if forest is None:
        claims = claims_of(tables[Table.SENSITIVITY_PAIRS])
        if len(claims):
            headline = probe_headline(claims, arms, is_attacked=bool((examples["attack"] != NO_ATTACK).any()))
            forest = make_ratio_forest(claims, arms)
            forest_title = "Which arm is more sensitive"
            forest_caption = _of_many(len(forest.rows), len(claims), "measurements; sensitivity_pairs.csv has all")
    several = len(shown) > 1
    return FirstScreen(
        meta=tuple(_meta(record, shown)),
        headline=headline,
        arms=arms,
        lead=None if several or not answer.kept else _lead(answer, rows[answer.name]),
        notes=tuple(describe_circumstances(answer.pairs, record)) if not several else (),
        lines=tuple(map(_line, shown[:MAX_LINES])) if several else (),
        n_more_lines=max(0, len(shown) - MAX_LINES) if several else 0,
        charts=tuple(_charts(shown, places)),
        chart_title="Right answers under attack, %",
        forest=forest,
        forest_title=forest_title,
        forest_caption=forest_caption,
        advice=advise(answer, rows[answer.name], examples, record, folder),
        text=find_one_text(record.pairs[:MAX_CHARTS], examples, replays, record),
    )


def _meta(record: RunRecord, shown: Sequence[Summary]) -> Iterator[str]:
    """What was compared, on how much."""
    arms = arms_of_run(record.pairs, record)
    candidates = dict.fromkeys(arms_of_pair(pair, record).candidate.name for pair in record.pairs)
    names = list(candidates) if len(candidates) <= 3 else [f"{len(candidates)} methods"]
    yield f"{capital(join_words(names))} against {arms.reference.name}"
    sets = [f"{testset.name} (n = {testset.n_used:,})" for testset in record.testsets]
    yield join_words(sets) if len(sets) <= 3 else f"{len(sets)} test sets"
    bases = list(dict.fromkeys(pair.base for pair in record.pairs))
    yield "/".join(Path(bases[0]).parts[-2:]) if len(bases) == 1 else f"{len(bases)} base models"
    seeds = sorted({len({pair.seed for pair in each.pairs}) for each in shown}) or [1]
    fewest = f"{seeds[0]} to " if len(seeds) > 1 else ""
    yield f"{fewest}{seeds[-1]} training seed{'' if seeds[-1] == 1 else 's'}"
    yield record.started[:10]


def _line(answer: Summary) -> Line:
    mean = mean_kept(answer.kept)
    clean, robust = (None, None) if mean is None else mean
    return Line(answer.name, _percents(clean), _percents(robust), answer.headline)


def _percents(both: Both | None) -> tuple[str, str] | None:
    return None if both is None else (_percent(both[0]), _percent(both[1]))


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _lead(answer: Summary, rows: pd.DataFrame) -> Lead | None:
    mean = mean_kept(answer.kept)
    if mean is None:
        return None
    clean, robust = mean
    reference, candidate = answer.arms.shorts
    is_static = all(each.attack == NO_ATTACK for each in answer.kept)
    before = "On adversarial texts" if is_static else "After the strongest attack"
    words = "{} has {} right" if is_static else "{} keeps {}"
    if any(each.is_chosen for each in answer.kept):
        n = sum(each.n for each in answer.kept)
        before = f"Of {n:,} examples that both had right, after the strongest attack"
    if len(answer.kept) > 1:
        before += f", averaged over {len(answer.kept)} test sets,"
    return Lead(
        _clean(clean, answer.arms),
        before,
        (words.format(reference, _percent(robust[0])), words.format(candidate, _percent(robust[1]))),
        _smallest(answer.kept, rows),
    )


def _clean(clean: Both | None, arms: Arms) -> str:
    if clean is None:
        return ""
    reference, candidate = map(_percent, clean)
    if reference == candidate:
        return f"Clean accuracy {reference} for both."
    return f"Clean accuracy {reference} for {arms.reference.short}, {candidate} for {arms.candidate.short}."


def _smallest(kept: Sequence[Kept], rows: pd.DataFrame) -> str:
    """The smallest gap that the run would find, under the strongest attack."""
    gaps: list[tuple[float, Kept]] = []
    for each in kept:
        here = rows[(rows["testset"] == each.testset) & (rows["attack"] == each.attack)]
        here = here[here["family"] == Family.PLANNED]
        gaps += [(float(value), each) for value in here["detectable"].dropna()]
    if not gaps and int(rows["n_seeds"].max()) > 1:
        return ""  # the headline says what is missing
    if not gaps:
        return "With so few examples this run would find no gap."
    gap, best = min(gaps, key=lambda found: found[0])
    where = f" of {best.testset}" if len(kept) > 1 else ""
    size = points(math.ceil(1000 * gap - 1e-9) / 1000)
    return f"With {best.n:,} examples{where}, a gap of {size} or more would be found (power .80)."


def _charts(shown: Sequence[Summary], places: dict[str, list[TestsetPlaces]]) -> Iterator[Chart]:
    """Of one answer each test set, of several the first of each."""
    wanted = (
        [(shown[0], each, each.title) for each in places[shown[0].name]]
        if len(shown) == 1
        else [(answer, each, answer.name) for answer in shown for each in places[answer.name][:1]]
    )
    drawable = [found for found in wanted if len(slope_columns(found[1])) > 1]
    for answer, each, title in drawable[:MAX_CHARTS]:
        label = f"Right answers of both arms on {visible(each.title)}, without an attack and under each"
        caption = _of_many(min(each.n_attacks, MAX_ATTACKS), each.n_attacks, "attacks, the strongest")
        if each.metric == "f1":
            caption = "F1 of the answers, percent."
        if not caption and any(kept.is_chosen and kept.testset == each.title for kept in answer.kept):
            caption = "Of the examples that both arms have right without an attack."
        columns = slope_columns(each)
        yield Chart(title, draw_slopes(columns, answer.arms, label), len(columns) > MANY_COLUMNS, caption)


def _forest(
    shown: Sequence[Summary],
    rows: dict[str, pd.DataFrame],
    places: dict[str, list[TestsetPlaces]],
    arms: Arms,
    record: RunRecord,
) -> tuple[Forest | None, str]:
    """The comparisons of one answer, or the strongest of each of several."""
    if len(shown) == 1:
        found = _rows_of_one(rows[shown[0].name], places[shown[0].name])
        if len(found) > MAX_ROWS:
            found = [(replace(p, name=note or p.name), "") for p, note in _strongest(places[shown[0].name])]
    else:
        found = [
            (replace(place, name=answer.name), note)
            for answer in shown
            for place, note in _strongest(places[answer.name])
        ]
    if not any(place.is_planned for place, _ in found):
        return None, ""
    caption = _of_many(min(len(found), MAX_ROWS), len(found), "comparisons; the table below has all")
    return make_forest(found[:MAX_ROWS], arms, record.statistics.margin), caption


def _of_many(n: int, total: int, what: str) -> str:
    return f"{n} of {total} {what}." if n < total else ""


def _rows_of_one(rows: pd.DataFrame, places: Sequence[TestsetPlaces]) -> list[tuple[Place, str]]:
    found: list[tuple[Place, str]] = []
    for each in places:
        note = ("as it stands" if _is_static(each) else each.title) if len(places) > 1 else ""
        clean = clean_place(rows, each.title)
        found += [(clean, note)] if clean else []
        found += [(place, note) for place in each.compared]
    return found


def _strongest(places: Sequence[TestsetPlaces]) -> list[tuple[Place, str]]:
    """The strongest attack on each test set, and every adversarial set as it stands; noted by test set."""
    several = sum(len(each.compared) if _is_static(each) else 1 for each in places) > 1
    found: list[tuple[Place, str]] = []
    for each in places:
        chosen = each.compared if _is_static(each) else each.compared[-1:]
        stands = " as it stands" if _is_static(each) else ""
        found += [(place, f"{place.testset}{stands}" if several else "") for place in chosen]
    return found


def _is_static(places: TestsetPlaces) -> bool:
    return all(place.name == place.testset for place in places.compared)
