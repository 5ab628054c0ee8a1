"""study.html: the page of a study, one file that loads nothing; it starts with the table and the dose curve."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from robustness.reports.comparisons.methods import FULL
from robustness.reports.page.cells import PageColumn, PageTable, as_count, page_table
from robustness.reports.page.panels import Panel, Panels
from robustness.reports.page.rendering import asset, environment, script_digest
from robustness.reports.studies.answers import Findings, StudyAnswers, say_finding
from robustness.reports.studies.columns import STUDY_MEANINGS, StudyTable
from robustness.reports.studies.figures import draw_differences, draw_doses, draw_rows, trends_of
from robustness.reports.studies.folder import Matching, Study, StudyRun
from robustness.reports.studies.layouts import (
    ELEVEN,
    MARKS,
    Layout,
    PlacedTable,
    legend,
    place,
    to_latex,
    to_markdown,
)
from robustness.reports.studies.measures import Measure
from robustness.reports.studies.scores import POOLED, Block
from robustness.reports.studies.titles import AS_ONE, planned_cells, title_cell
from robustness.reports.studies.topics import Topic
from robustness.reports.studies.trends import Dose
from robustness.runs.cells import NO_ATTACK
from robustness.runs.storage.record import FILE_NAME as RUN_RECORD

FILE_NAME = "study.html"
RUN_PAGE = "report.html"
MOST_PANELS = 24
"""Figures of differences: drawing takes a tenth of a second each."""


@dataclass(frozen=True, slots=True)
class ShownTable:
    """The study's table in a layout, and as text for the clipboard."""

    id: str
    title: str
    table: PlacedTable
    sources: tuple[tuple[str, str], ...]
    """Names of forms with the text in them."""


@dataclass(frozen=True, slots=True)
class RunLink:
    """A run folder and its page."""

    name: str
    page: str
    facts: str


def write_study_page(findings: Findings, answers: StudyAnswers, tables: dict[str, pd.DataFrame], note: str) -> Path:
    """Writes study.html beside the tables and returns its path; every number in it is a table's."""
    study, script = findings.study, asset("page.js")
    over_rows = list(_row_panels(findings, tables[StudyTable.DOSES]))
    page = (
        environment()
        .get_template("study.html")
        .render(
            style=Markup("".join(map(asset, ("page.css", "below.css", "study.css")))),
            script=Markup(script),
            script_hash=Markup(script_digest(script)),
            title=f"Study {study.name}",
            study=study,
            counts=_counts(study),
            answers=answers,
            shown_tables=list(_tables(findings.table, note)),
            marks={str(verdict): mark for verdict, (mark, _) in MARKS.items()},
            legend=list(legend()),
            note=note,
            doses=[*_dose_panels(findings, tables[StudyTable.DOSES]), *over_rows],
            has_rows=bool(over_rows),
            differences=list(_difference_panels(findings.table, findings.scores.blocks)),
            topics=[(topic, list(_say_findings(topic))) for topic in findings.topics],
            properties=_property_table(tables[StudyTable.PROPERTIES]),
            runs=[_link(run, study.folder) for run in study.runs],
            checkpoints=_checkpoint_table(study),
            definition=json.dumps(study.definition, indent=2, ensure_ascii=False),
            downloads=[
                (f"{name}.csv", STUDY_MEANINGS[name].replace("`", ""), len(tables[name])) for name in StudyTable
            ],
        )
    )
    path = study.folder / FILE_NAME
    draft = study.folder / f"{FILE_NAME}.part"
    draft.write_text(page, encoding="utf-8")
    draft.replace(path)
    return path


def _counts(study: Study) -> str:
    trained = len({each.folder for each in study.checkpoints if each.status == "trained"})  # some epochs match
    seeds = {each.train_seed for each in study.checkpoints}
    tasks = dict.fromkeys(each.task for each in study.checkpoints)
    return (
        f"{trained} checkpoints of {len(study.methods)} methods, {len(seeds)} training seeds, "
        f"task{'s' if len(tasks) > 1 else ''} {', '.join(tasks)}"
    )


def _tables(table: pd.DataFrame, note: str) -> Iterator[ShownTable]:
    """The compact table first; the whole one; the paper's if the study has one of its sets."""
    wanted = {Layout.COMPACT: "In short", Layout.WHOLE: "Every test set and attack"}
    if table["testset"].isin(ELEVEN).any():
        wanted[Layout.PAPER] = "The eleven sets of arXiv 2505.22355"
    for layout, title in wanted.items():
        placed = place(table, layout)
        sources = (("Markdown", to_markdown(placed, note)), ("LaTeX", to_latex(placed, note)))
        yield ShownTable(layout.replace(".", "-"), title, placed, sources)


def _dose_panels(findings: Findings, doses: pd.DataFrame) -> Iterator[Panels]:
    """By task and rows: parameters, unmatched beside matched, a measure at a time."""
    pooled = doses[doses["testset"] == POOLED]
    blocks = findings.scores.blocks
    for number, (task, rows) in enumerate(dict.fromkeys((block.task, str(block.rows)) for block in blocks)):
        mine = [block for block in blocks if (block.task, str(block.rows)) == (task, rows)]
        panels = []
        for measure in Measure:
            for block in mine:
                part = _of_block(pooled, block)
                part = part[part["measure"] == measure]
                if len(part) and part["trainable_parameters"].notna().all():
                    found = [
                        each
                        for each in trends_of(findings.trends, Dose.PARAMETERS, measure)
                        if each.series.matching is block.matching
                        and _is_of(each.series.task, each.series.rows, block)
                    ]
                    drawn = draw_doses(part, found, f"dose{number}{measure.replace('_', '')}{block.matching}")
                    panels.append(_named(drawn, block, matched=len(mine) > 1))
        if panels:
            yield Panels(mine[0].label, tuple(panels))


def _named(panel: Panel, block: Block, *, matched: bool) -> Panel:
    words = {Matching.BEST: "best epochs", Matching.CLEAN: "matched on clean score"}
    return Panel(f"{panel.title}, {words[block.matching]}", panel.figure) if matched else panel


def _is_of(task: str, rows: float, block: Block) -> bool:
    return task == block.task and (rows == block.rows or math.isnan(rows + block.rows))


def _of_block(doses: pd.DataFrame, block: Block) -> pd.DataFrame:
    is_rows = doses["rows"].isna() if math.isnan(block.rows) else doses["rows"] == block.rows
    return doses[(doses["task"] == block.task) & (doses["matching"] == block.matching) & is_rows]


def _row_panels(findings: Findings, doses: pd.DataFrame) -> Iterator[Panels]:
    pooled = doses[doses["testset"] == POOLED]
    for (task, matching), part in pooled.groupby(["task", "matching"], sort=False):
        if part["rows"].nunique() < 2:
            continue
        panels = []
        for measure in Measure:
            mine = part[part["measure"] == measure]
            trends = [
                each
                for each in trends_of(findings.trends, Dose.ROWS, measure)
                if (each.series.task, each.series.matching) == (task, matching)
            ]
            if len(mine):
                panels.append(draw_rows(mine, trends, f"rows{task}{measure.replace('_', '')}{matching}"))
        beside = ", matched on clean score" if matching == Matching.CLEAN else ""
        yield Panels(f"{task}, over training rows{beside}", tuple(panels))


def _difference_panels(table: pd.DataFrame, blocks: Sequence[Block]) -> Iterator[Panels]:
    """By block: all as one unless there is one planned cell, planned cells, then controls."""
    n_drawn = 0
    for number, block in enumerate(blocks):
        mine = _of_block(table, block)
        mine = mine[(mine["family"] != FULL) & mine["low"].notna()]
        planned = planned_cells(mine, block.task)
        cells = dict.fromkeys(zip(mine["testset"], mine["attack"], strict=True))
        pooled = [cell for cell in cells if cell[0] == POOLED and len(planned) != 1]
        controls = [cell for cell in cells if cell not in planned and POOLED not in cell and cell[1] != NO_ATTACK]
        panels = []
        for place_, (testset, attack) in enumerate([*pooled, *planned, *controls]):
            if testset != POOLED and n_drawn >= MOST_PANELS:
                continue
            n_drawn += 1
            rows = mine[(mine["testset"] == testset) & (mine["attack"] == attack)]
            is_control = (testset, attack) in controls
            title = AS_ONE if testset == POOLED else title_cell(testset, attack, is_control=is_control)
            panels.append(draw_differences(rows, title, f"floor{number}x{place_}"))
        if panels:
            yield Panels(block.label, tuple(panels))


def _say_findings(topic: Topic) -> Iterator[str]:
    for each in topic.findings:
        yield f"{say_finding(each, topic.claim)}: {each.status}"


def _property_table(frame: pd.DataFrame) -> PageTable | None:
    columns = (
        PageColumn("task", "task"),
        PageColumn("matching", "matching"),
        PageColumn("property", "property"),
        PageColumn("kind", "kind"),
        PageColumn("n", "checkpoints", as_count),
        PageColumn("n_methods", "methods", as_count),
        *(
            PageColumn(name, title, _correlation)
            for name, title in (
                ("rank_correlation", "rank correlation"),
                ("low", "low"),
                ("high", "high"),
                ("within_methods", "within methods"),
            )
        ),
    )
    return page_table("properties", f"{StudyTable.PROPERTIES}.csv", frame, columns) if len(frame) else None


def _correlation(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\u2212")


def _checkpoint_table(study: Study) -> PageTable:
    frame = pd.DataFrame(
        [
            {
                "checkpoint": each.name,
                "task": each.task,
                "method": each.method,
                "train_seed": each.train_seed,
                "matching": each.matching,
                "epoch": each.epoch,
                "trainable_parameters": each.trainable_parameters,
                "status": each.status,
                "reason": each.reason,
            }
            for each in study.checkpoints
        ]
    )
    columns = (
        PageColumn("checkpoint", "checkpoint"),
        PageColumn("method", "method"),
        PageColumn("train_seed", "seed", as_count),
        PageColumn("matching", "matching"),
        PageColumn("epoch", "epoch", as_count),
        PageColumn("trainable_parameters", "trained parameters", as_count),
        PageColumn("status", "status"),
        PageColumn("reason", "reason"),
    )
    return page_table("checkpoints", "checkpoints.csv", frame, columns)


def _link(run: StudyRun, folder: Path) -> RunLink:
    path = run.folder.relative_to(folder)
    has_page = (run.folder / RUN_PAGE).is_file()
    rows = "" if math.isnan(run.rows) else f", {run.rows:,.0f} rows"
    matched = ", matched on clean score" if run.matching is Matching.CLEAN else ""
    return RunLink(
        name=path.as_posix(),
        page=(path / (RUN_PAGE if has_page else RUN_RECORD)).as_posix(),
        facts=f"{run.suite} on {run.task}{rows}{matched}: {len(run.record.checkpoints)} checkpoints",
    )
