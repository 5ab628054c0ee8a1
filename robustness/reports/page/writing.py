"""report.html: the page of a run, one file that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from robustness.reports.page.divergent_examples import explain_none
from robustness.reports.page.first_screen.screen import build_first_screen
from robustness.reports.page.heatmaps import accuracy_maps, transfer_maps
from robustness.reports.page.rendering import asset, environment, script_digest
from robustness.reports.page.sections.budgets import describe_budgets
from robustness.reports.page.sections.paper import describe_paper
from robustness.reports.page.sections.provenance import describe_provenance
from robustness.reports.page.sections.sensitivity import describe_sensitivity
from robustness.reports.page.sections.subgroups import describe_subgroups
from robustness.reports.page.sections.texts import describe_texts
from robustness.reports.summaries.arms import arms_of_pair, arms_of_run
from robustness.reports.summaries.summary import summarise_run
from robustness.reports.summaries.wording import capital, join_words
from robustness.reports.tables.columns import Table
from robustness.reports.tables.missing import count_missing_probes, find_missing
from robustness.runs.storage.record import RunRecord

FILE_NAME = "report.html"
MAX_PAIRS = 6
"""Pairs with figures and texts of their own; the others are in the tables."""
SECTIONS = ("paper", "budgets", "transfer", "subgroups", "sensitivity", "texts", "provenance")
"""Below the first screen, in their order."""

Tables = dict[Table, pd.DataFrame]


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
    style = "".join(map(asset, ("page.css", "first_screen.css", "below.css")))
    script, answers = asset("page.js"), summarise_run(tables[Table.PAIRS], record)
    page = (
        environment()
        .get_template("page.html")
        .render(
            style=Markup(style),
            script=Markup(script),
            script_hash=Markup(script_digest(script)),
            title=_title(record),
            answers=answers,
            screen=build_first_screen(record, tables, replays, answers, folder),
            sections=SECTIONS,
            **_warning_parts(record, tables),
            **_sections(folder, record, tables, replays, tuple(disagreements)),
        )
    )
    path = folder / FILE_NAME
    draft = folder / f"{FILE_NAME}.part"
    draft.write_text(page, encoding="utf-8")
    draft.replace(path)
    return path


def _title(record: RunRecord) -> str:
    arms = arms_of_run(record.pairs, record)
    candidates = (arms_of_pair(pair, record).candidate.name for pair in record.pairs)
    methods = join_words(list(dict.fromkeys(candidates)))
    return f"{capital(arms.reference.name)} against {methods}, under attack"


def _warning_parts(record: RunRecord, tables: Tables) -> dict[str, object]:
    """What a reader must know before any number: what is missing or contradicts itself."""
    missing = find_missing(tables[Table.EXAMPLES], record)
    return {
        "missing_total": int((missing["n_expected"] - missing["n"]).sum()),
        "missing_probes": count_missing_probes(tables[Table.SENSITIVITY], record),
        "violations": record.violations,
        "left_out": _pairs_left_out(record),
        "several_pairs": len(record.pairs) > 1,
    }


def _sections(
    folder: Path, record: RunRecord, tables: Tables, replays: pd.DataFrame, disagreements: tuple[str, ...]
) -> dict[str, object]:
    """What lies below the first screen."""
    shown, examples = record.pairs[:MAX_PAIRS], tables[Table.EXAMPLES]
    return {
        "paper": describe_paper(tables[Table.PAIRS], record),
        "texts": describe_texts(examples, replays, shown, arms_of_run(record.pairs, record), record),
        "no_texts": explain_none(shown, examples, replays),
        "budgets": describe_budgets(tables, shown, record),
        "transfer": transfer_maps(tables[Table.TRANSFER], record),
        "subgroups": describe_subgroups(tables, shown, record),
        "heats": accuracy_maps(tables[Table.TESTSETS], tables[Table.ATTACKS], record),
        "sensitivity": describe_sensitivity(tables, shown, disagreements, record),
        "provenance": describe_provenance(folder, record, tables, find_missing(examples, record)),
    }


def _pairs_left_out(record: RunRecord) -> str:
    if len(record.pairs) <= MAX_PAIRS:
        return ""
    return f"Figures and texts are of the first {MAX_PAIRS} of {len(record.pairs)} pairs; the CSV files have all."
