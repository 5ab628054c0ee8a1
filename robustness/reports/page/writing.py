"""report.html: the page of a run, one file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from robustness.reports.page.divergent_examples import DivergentExample, explain_none, find_divergent_examples
from robustness.reports.page.first_screen.screen import build_first_screen
from robustness.reports.page.generated_answers import find_generated_answers, generates
from robustness.reports.page.heatmaps import accuracy_maps, transfer_maps
from robustness.reports.page.pagetables import (
    checkpoint_table,
    checks_table,
    fragility_table,
    missing_table,
    pairs_table,
    predictions_table,
    probes_table,
    refused_table,
    sensitivity_pairs_table,
    survival_table,
    testset_table,
)
from robustness.reports.page.plots import (
    MAX_PANELS,
    PLANNED,
    ArmPoint,
    Drawing,
    draw_both,
    draw_curves,
    draw_forest,
    draw_layers,
    draw_probes,
    draw_scatter,
)
from robustness.reports.page.prediction_plot import draw_predictions
from robustness.reports.page.probe_panels import find_telling, name_panels
from robustness.reports.page.radii import draw_radii, radii_of_pair, say_radii
from robustness.reports.summaries.arms import arms_of_pair, arms_of_run
from robustness.reports.summaries.run_facts import attack_facts, command_line, run_facts
from robustness.reports.summaries.summary import Summaries, summarise_run
from robustness.reports.summaries.wording import bind, capital, join_words, points
from robustness.reports.tables.columns import Table
from robustness.reports.tables.missing import count_missing_probes, find_missing
from robustness.reports.visible import visible
from robustness.runs.cells import WORST_CASE
from robustness.runs.storage.record import PairRecord, RunRecord
from robustness.stats import Verdict

FILE_NAME = "report.html"
FOREST_ROWS = 22
MAX_PAIRS = 6
"""Pairs with figures of their own; the others are in the tables."""
PAGE_PANELS = 24
"""Of all pairs' figures of one kind together, but at least two a pair."""

Tables = dict[Table, pd.DataFrame]


@dataclass(frozen=True, slots=True)
class Part:
    """A figure of one pair."""

    name: str
    drawing: Drawing
    caption: str = ""


@dataclass(frozen=True, slots=True)
class TextGroup:
    """The texts that break one arm of a pair."""

    arm: str
    title: str
    texts: tuple[DivergentExample, ...]


def write_page(
    folder: Path, record: RunRecord, tables: Tables, replays: pd.DataFrame, disagreements: Sequence[str] = ()
) -> Path:
    """Writes report.html beside the tables and returns its path; every number in it is a table's.

    Args:
        folder: The run folder.
        record: The run's.
        tables: All tables of the run.
        replays: Answers to texts found on the partner: source, target, testset, attack, example_id, prediction.
        disagreements: Where gradients point another way than adversarial distances, a sentence each.
    """
    style, script = _asset("page.css") + _asset("first_screen.css"), _asset("page.js")
    answers = summarise_run(tables[Table.PAIRS], record)
    page = (
        _environment()
        .get_template("page.html")
        .render(
            style=Markup(style),
            script=Markup(script),
            script_hash=Markup(_hash(script)),
            disagreements=disagreements,
            command=command_line(record, folder),
            answers=answers,
            screen=build_first_screen(record, tables, replays, answers, folder),
            **_answer_parts(record, tables, answers),
            **_detail_parts(record, tables, replays),
            **_run_parts(record, tables),
        )
    )
    path = folder / FILE_NAME
    draft = folder / f"{FILE_NAME}.part"
    draft.write_text(page, encoding="utf-8")
    draft.replace(path)
    return path


def _answer_parts(record: RunRecord, tables: Tables, answers: Summaries) -> dict[str, object]:
    """Where the arms differ."""
    arms, pairs = arms_of_run(record.pairs, record), tables[Table.PAIRS]
    candidates = (arms_of_pair(pair, record).candidate.name for pair in record.pairs)
    methods = join_words(list(dict.fromkeys(candidates)))
    return {
        "title": f"{capital(arms.reference.name)} against {methods}, under attack",
        "margin": points(record.statistics.margin),
        "arms": arms,
        "forests": _forests(tables[Table.FRAGILITY], answers, record),
        "fragility": fragility_table(tables[Table.FRAGILITY], arms),
        "pairs": pairs_table(pairs, arms),
    }


def _detail_parts(record: RunRecord, tables: Tables, replays: pd.DataFrame) -> dict[str, object]:
    """What lies below: every cell, budgets, transfer, sensitivity, texts."""
    pairs, examples = record.pairs[:MAX_PAIRS], tables[Table.EXAMPLES]
    texts = _texts(pairs, examples, replays, record)
    return {
        "left_out": _pairs_left_out(record),
        "scatter": _scatter(tables, record),
        "heats": accuracy_maps(tables[Table.TESTSETS], tables[Table.ATTACKS], record),
        "curves": _curves(tables[Table.CURVES], pairs),
        "survival": survival_table(tables[Table.SURVIVAL], arms_of_run(record.pairs, record)),
        "transfer": transfer_maps(tables[Table.TRANSFER], record),
        "sensitivity": _probes(_optional(tables, "sensitivity_examples"), pairs, record),
        "radii": _radii(_optional(tables, "sensitivity_examples"), pairs, record),
        "layers": _layers(_optional(tables, "layers"), pairs),
        "compared": sensitivity_pairs_table(tables[Table.SENSITIVITY_PAIRS], record),
        "probes": probes_table(tables[Table.SENSITIVITY]),
        "checks": checks_table(tables[Table.SENSITIVITY]),
        "predictions": predictions_table(tables[Table.PREDICTIONS]),
        "prediction_plot": _prediction_plot(tables[Table.PREDICTIONS], pairs),
        "texts": texts,
        "generated": find_generated_answers(pairs, examples, replays, record) if generates(record) else None,
        "several_pairs": len(pairs) > 1,
        "no_texts": "" if texts else explain_none(pairs, examples, replays),
    }


def _run_parts(record: RunRecord, tables: Tables) -> dict[str, object]:
    """How it was run, and what is missing."""
    missing = find_missing(tables[Table.EXAMPLES], record)
    return {
        "missing": missing_table(missing) if len(missing) else None,
        "missing_probes": count_missing_probes(tables[Table.SENSITIVITY], record),
        "missing_total": int((missing["n_expected"] - missing["n"]).sum()),
        "facts": run_facts(record),
        "violations": record.violations,
        "warnings": record.warnings,
        "refused": refused_table(record) if record.refused else None,
        "checkpoints": checkpoint_table(record),
        "testsets": testset_table(record),
        "attacks": [attack_facts(attack) for attack in record.attacks],
        "versions": list(record.versions.items()),
    }


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("robustness.reports.page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
    )
    environment.filters["bind"] = bind
    return environment


def _finalize(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _asset(name: str) -> str:
    return (files("robustness.reports.page") / "templates" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """The page's policy lets this script run and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _optional(tables: Tables, name: str) -> pd.DataFrame:
    """A table that only runs with probes have."""
    return next((frame for table, frame in tables.items() if table == name), pd.DataFrame())


def _pairs_left_out(record: RunRecord) -> str:
    if len(record.pairs) <= MAX_PAIRS:
        return ""
    return f"Figures and texts are of the first {MAX_PAIRS} of {len(record.pairs)} pairs; the CSV files have all."


def _arms(pair: PairRecord) -> dict[str, str]:
    return {pair.reference: "full", pair.candidate: "peft"}


def _forests(fragility: pd.DataFrame, answers: Summaries, record: RunRecord) -> list[Part]:
    arms = {answer.name: answer.arms for answer in (*answers.shown, *answers.folded)}
    rates = fragility[fragility["low"].notna()]
    parts: list[Part] = []
    for name, rows in list(rates.groupby("pair", sort=False))[:MAX_PAIRS]:
        shown = _most_telling(rows)
        caption = (
            ""
            if len(shown) == len(rows)
            else (
                f"{len(shown)} of {len(rows)} places: the planned comparisons, and those that stand out most. "
                "The table below has all."
            )
        )
        draw = draw_forest(shown, record.statistics.margin, arms[str(name)])
        label = f"Differences between the arms of {visible(str(name))} at {len(shown)} places"
        parts.append(Part(str(name), draw_both(draw, f"forest{len(parts)}", label), caption))
    return parts


def _most_telling(rows: pd.DataFrame) -> pd.DataFrame:
    """Planned comparisons first, then verdicts, then the largest differences for their uncertainty; in rank order."""
    if len(rows) <= FOREST_ROWS:
        return rows
    width = (rows["high"] - rows["low"]).clip(lower=1e-9)
    order = pd.DataFrame(
        {
            "planned": ~rows["where"].isin(PLANNED),
            "inconclusive": rows["verdict"] == Verdict.INCONCLUSIVE,
            "weight": -(rows["difference"].abs() / width),
        }
    ).sort_values(["planned", "inconclusive", "weight"], kind="stable")
    return rows.loc[order.index[:FOREST_ROWS].sort_values()]


def _scatter(tables: Tables, record: RunRecord) -> Drawing | None:
    attacks, pairs = tables[Table.ATTACKS], record.pairs
    arms = {name: arm for pair in pairs for name, arm in _arms(pair).items()}
    known = attacks[attacks["clean_accuracy"].notna() & attacks["robust_accuracy"].notna()]
    if (known["attack"] == WORST_CASE).any() and len(known) > 24:
        known = known[known["attack"] == WORST_CASE]
    found = [
        ArmPoint(f"{row.attack}, {row.testset}", arms[row.checkpoint], row.clean_accuracy, row.robust_accuracy)
        for row in known.itertuples()
        if row.checkpoint in arms
    ]
    found += _static_points(tables[Table.TESTSETS], arms)
    if not found:
        return None
    return draw_both(draw_scatter(found), "scatter", "Robust against clean accuracy of every checkpoint")


def _static_points(testsets: pd.DataFrame, arms: dict[str, str]) -> list[ArmPoint]:
    wide = testsets[testsets["metric"].isin(["benign_accuracy", "accuracy_with_benign"])].pivot_table(
        index=["testset", "checkpoint"], columns="metric", values="value", sort=False
    )
    if wide.shape[1] < 2:
        return []
    return [
        ArmPoint(f"{testset} as it stands", arms[checkpoint], row["benign_accuracy"], row["accuracy_with_benign"])
        for (testset, checkpoint), row in wide.iterrows()
        if checkpoint in arms
    ]


def _curves(curves: pd.DataFrame, pairs: tuple[PairRecord, ...]) -> list[Part]:
    parts: list[Part] = []
    for pair in pairs:
        mine = curves[curves["checkpoint"].isin(_arms(pair))]
        if len(mine):
            n, limit = len(mine[["testset", "attack", "budget_kind"]].drop_duplicates()), _limit(pairs)
            label = f"Robust accuracy against budget for {visible(pair.name)}"
            drawing = draw_both(draw_curves(mine, _arms(pair), limit), f"curves{len(parts)}", label)
            parts.append(Part(pair.name, drawing, _left_out(n, limit, "curves.csv")))
    return parts


def _limit(pairs: tuple[PairRecord, ...]) -> int:
    """Panels of each pair's figure: drawing takes a quarter of a second a panel."""
    return max(2, min(MAX_PANELS, PAGE_PANELS // len(pairs)))


def _left_out(n: int, limit: int, source: str) -> str:
    return f"The first {limit} of {n}; {source} has all." if n > limit else ""


def _probes(probed: pd.DataFrame, pairs: tuple[PairRecord, ...], record: RunRecord) -> list[Part]:
    parts: list[Part] = []
    for pair in pairs if len(probed) else ():
        mine = probed[probed["checkpoint"].isin(_arms(pair)) & probed["value"].notna()]
        mine = name_panels(find_telling(mine)) if len(mine) else mine
        if len(mine):
            n, limit = len(mine[["testset", "probe", "quantity"]].drop_duplicates()), _limit(pairs)
            label = f"Sensitivity of both arms of {visible(pair.name)} on the same examples"
            arms = arms_of_pair(pair, record)
            draw = draw_probes(mine, _arms(pair), (arms.reference.short, arms.candidate.short), limit)
            drawing = draw_both(draw, f"probes{len(parts)}", label)
            parts.append(Part(pair.name, drawing, _left_out(n, limit, "sensitivity_examples.csv")))
    return parts


def _prediction_plot(predictions: pd.DataFrame, pairs: tuple[PairRecord, ...]) -> Part | None:
    """Of the first pair that has numbers and attacks."""
    known = predictions[predictions["rank_correlation"].notna()]
    for pair in pairs:
        mine = known[known["checkpoint"].isin(_arms(pair))]
        if len(mine):
            label = f"How far probes of {visible(pair.name)} rank examples by the effort to break them"
            return Part(pair.name, draw_both(draw_predictions(mine, _arms(pair)), "predicted", label))
    return None


def _radii(probed: pd.DataFrame, pairs: tuple[PairRecord, ...], record: RunRecord) -> list[Part]:
    parts: list[Part] = []
    for pair in pairs if len(probed) else ():
        arms = arms_of_pair(pair, record)
        for testset, rows in radii_of_pair(probed, _arms(pair)):
            label = f"From certified radius to the distance of an attack, {visible(pair.name)}"
            drawing = draw_both(draw_radii(rows, arms), f"radii{len(parts)}", label)
            parts.append(Part(f"{pair.name}, {testset}", drawing, say_radii(rows, arms)))
    return parts


def _layers(layers: pd.DataFrame, pairs: tuple[PairRecord, ...]) -> list[Part]:
    parts: list[Part] = []
    for pair in pairs if len(layers) else ():
        mine = layers[layers["checkpoint"].isin(_arms(pair)) & layers["layer"].notna() & layers["value"].notna()]
        if len(mine):
            if "quantity" in mine:  # a panel is of one quantity: a mean over several says nothing
                mine = name_panels(mine)
                mine = mine.assign(probe=mine["quantity"])
            n, limit = mine["probe"].nunique(), _limit(pairs)
            drawing = draw_both(
                draw_layers(mine, _arms(pair), limit),
                f"layers{len(parts)}",
                f"Probes by layer for {visible(pair.name)}",
            )
            parts.append(Part(pair.name, drawing, _left_out(n, limit, "layers.csv")))
    return parts


def _texts(
    pairs: tuple[PairRecord, ...], examples: pd.DataFrame, replays: pd.DataFrame, record: RunRecord
) -> list[TextGroup]:
    groups = []
    for pair in pairs:
        found = find_divergent_examples(pair, examples, replays)
        arms = arms_of_pair(pair, record)
        reference, candidate = arms.reference.name, arms.candidate.name
        suffix = f" ({pair.name})" if len(pairs) > 1 else ""
        for arm, title in (
            ("peft", f"{capital(candidate)} gets these wrong, {reference} gets them right"),
            ("full", f"{capital(reference)} gets these wrong, {candidate} gets them right"),
        ):
            texts = tuple(text for text in found if text.breaks == arm)
            if texts:
                groups.append(TextGroup(arm, title + suffix, texts))
    return groups
