"""The answer of a study: every table, the page, and the sentences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from robustness.reports.studies.answers import Findings, StudyAnswers, answer_study
from robustness.reports.studies.columns import StudyTable, write_study_table
from robustness.reports.studies.folder import Study, read_study
from robustness.reports.studies.layouts import Layout, find_layout, place, to_frame, to_latex, to_markdown
from robustness.reports.studies.measures import measure_all
from robustness.reports.studies.page import write_study_page
from robustness.reports.studies.properties import build_properties, correlate_properties
from robustness.reports.studies.scores import gather_scores
from robustness.reports.studies.table import build_study_table
from robustness.reports.studies.topics import judge_topics
from robustness.reports.studies.trends import build_doses, build_trends, find_trends
from robustness.reports.visible import visible


@dataclass(frozen=True, slots=True, repr=False)
class StudyReport:
    r"""The answer of a study, with the tables it rests on, as they stand in its CSV files.

    Example:
        ```python
        report = robustness.load_study("study")
        print("\n".join(report.answers.sentences))
        report.paper_table("compact").to_csv("table.csv")
        ```
    """

    study: Study
    findings: Findings
    answers: StudyAnswers
    tables: dict[str, pd.DataFrame]
    """By `StudyTable`: study_table, doses, trends and properties."""

    def __repr__(self) -> str:
        heading = f"Study {self.study.name}: {len(self.study.checkpoints)} checkpoints in {self.study.folder}"
        return "\n".join(visible(line) for line in (heading, *self.answers.methods, *self.answers.doses))

    def paper_table(self, layout: str = Layout.WHOLE) -> pd.DataFrame:
        """Returns the study's table as text: a row for each method, a column for each test set and attack.

        Args:
            layout: `whole`, `compact` or `paper-2505.22355` (its eleven test sets).

        Raises:
            UsageError: there is no such layout.
        """
        return to_frame(place(self.tables[StudyTable.STUDY_TABLE], find_layout(layout)))


def build_study(folder: Path) -> StudyReport:
    """Builds every table and answer from the files of a study's folder; writes nothing.

    Raises:
        RunError: the folder is no study, or a file of it cannot be read.
    """
    study = read_study(folder)
    scores = gather_scores(study)
    measured = measure_all(study, scores)
    trends, properties = tuple(find_trends(scores, measured)), tuple(correlate_properties(study, scores))
    table = build_study_table(study, scores)
    findings = Findings(study, scores, table, trends, judge_topics(scores, trends, measured), properties)
    tables: dict[str, pd.DataFrame] = {
        StudyTable.STUDY_TABLE: table,
        StudyTable.DOSES: build_doses(scores, measured),
        StudyTable.TRENDS: build_trends(trends),
        StudyTable.PROPERTIES: build_properties(properties),
    }
    return StudyReport(study, findings, answer_study(findings), tables)


def load_study(folder: str | Path) -> StudyReport:
    """Returns the answer of a study's folder, built from its files; writes nothing.

    Args:
        folder: Of the study; an unfinished one is read as far as it went.

    Raises:
        RunError: the folder is no study, or a file of it cannot be read.

    Example:
        ```python
        report = robustness.load_study("study")
        rising = report.tables["trends"].query("verdict == 'rises'")
        ```
    """
    return build_study(Path(folder).expanduser())


def write_study(folder: Path) -> tuple[str, ...]:
    """Writes a study's tables and its page into its folder; returns the answers as sentences.

    Raises:
        RunError: the folder is no study, or a file of it cannot be read.
    """
    report = build_study(folder)
    for table in StudyTable:
        write_study_table(report.tables[table], table, folder)
    note = caption(report)
    table = report.tables[StudyTable.STUDY_TABLE]
    placed = list(dict.fromkeys(place(table, layout) for layout in (Layout.COMPACT, Layout.WHOLE)))
    for ending, to_text in (("md", to_markdown), ("tex", to_latex)):
        text = "\n".join(to_text(each, note) for each in placed)
        path = folder / f"{StudyTable.STUDY_TABLE}.{ending}"
        draft = path.with_name(path.name + ".part")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    write_study_page(report.findings, report.answers, report.tables, note)
    return report.answers.sentences


def caption(report: StudyReport) -> str:
    """Returns what a reader must know to read the table."""
    study, table = report.study, report.tables[StudyTable.STUDY_TABLE]
    modified = ", modified" if study.is_modified else ""
    is_partial = ((table["n_clean"] > 0) & (table["n_clean"] < table["n"])).any()
    partial = "A number in parentheses counts the examples of a clean accuracy that is not of all. "
    return (
        "Clean to robust accuracy in percent (F1 of questions as they stand), mean and standard deviation over "
        "training seeds. Then full fine-tuning minus the method in points with its 95 % interval. Examples are the "
        f"same for all methods. {partial if is_partial else ''}"
        f"Study {study.name}, protocol {study.digest}{modified}."
    )
