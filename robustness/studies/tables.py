"""The tables of a study that its jobs know: checkpoints.csv, runs.csv, jobs.csv."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustness.definitions.studies import FULL
from robustness.runs.storage.disk import replace_durably
from robustness.runs.storage.record import FILE_NAME as RUN_RECORD
from robustness.runs.storage.record import read_record
from robustness.spreadsheets import neutralise
from robustness.studies.design import Design, Group, Matching, PlannedRun
from robustness.studies.graph import CHECKPOINTS, Graph, run_folder
from robustness.studies.journal import Ended, Journal, State
from robustness.studies.pairing import Arm

JOBS = ("id", "kind", "name", "state", "seconds", "reason")
RUNS = ("task", "rows", "matching", "suite", "folder")
CHECKPOINTS_MEANING = "One row per checkpoint and matching: what was trained, at which epoch, and what became of it."
CHECKPOINT_COLUMNS = {
    "checkpoint": "Its name, as in the tables of the runs",
    "task": "What it was trained for",
    "method": "The method with its parameters, such as `lora-r8`",
    "family": "The method without its parameters, with what is added to its training, such as `lora+freelb`",
    "parameters": "The values that the study varied, as JSON",
    "train_seed": "Seed of the training",
    "rows": "Training rows that all checkpoints compared with it were given, without any that a recipe adds",
    "matching": "`best`: the best epoch; `clean`: the one nearest to full in clean score; full itself has one row",
    "epoch": "Epoch of the weights, counted from 1",
    "trainable_parameters": "Parameters that were trained",
    "parameters_total": "All parameters, with head and adapter",
    "trainable_share": "Trained parameters / all parameters",
    "selecting_score": "Clean score on the selecting rows after that epoch",
    "status": "`trained`, `failed` or `refused`",
    "reason": "Why it has no weights, or is in no pair",
    "folder": "Of its weights, within the study's folder",
    "contrast": "With plain full fine-tuning, such as `full-vs-peft`; empty of full itself",
    "defence": "What is added to its training, such as `freelb`",
    "trained_rows": "Training rows that it was trained on, with the rows that a recipe adds",
}
"""The columns of checkpoints.csv with their meanings; names and order are a promise, new ones go to the end."""
Cells = Mapping[tuple[str, Matching], Sequence[Arm]]
"""The arms of each group, by its label and the matching."""


def write_jobs(graph: Graph, journal: Journal, out: Path) -> None:
    """Writes jobs.csv: every job of the graph, with what became of it."""
    missing = Ended(State.MISSING, 0.0)
    rows = []
    for job in graph.jobs:
        ended = journal.find(job.id) or missing
        seconds = "" if ended.state is State.MISSING else f"{ended.seconds:.6g}"
        rows.append((job.id, job.kind, job.name, ended.state, seconds, ended.reason))
    _write(out / "jobs.csv", JOBS, rows)


def write_runs(design: Design, arms: Cells, out: Path) -> None:
    """Writes runs.csv: every run folder that was started."""
    rows = []
    for run in design.runs:
        folder = run_folder(out, run)
        if (folder / RUN_RECORD).is_file():
            given = _rows_given(run.group, arms.get((run.group.label, run.matching), ()))
            rows.append(
                (run.group.task.name, given, run.matching, run.suite.name, folder.relative_to(out).as_posix())
            )
    _write(out / "runs.csv", RUNS, rows)


def write_checkpoints(design: Design, arms: Cells, reasons: Mapping[str, str], out: Path) -> None:
    """Writes checkpoints.csv: every checkpoint that is an arm at a matching, or is none and why.

    Args:
        design: the study.
        arms: of each group and matching.
        reasons: of trainings without a record, by checkpoint.
        out: the study's folder.
    """
    rows = []
    for group in design.groups:
        for matching in Matching:
            found = arms.get((group.label, matching), ())
            refused = _refused_pairs([run for run in design.runs if run.group is group], matching, out)
            common = _Common(group.task.name, _rows_given(group, found), matching, refused)
            rows += [
                _checkpoint(common, arm, reasons, out)
                for arm in found
                if matching is Matching.BEST or not arm.checkpoint.is_reference
            ]
    _write(out / "checkpoints.csv", tuple(CHECKPOINT_COLUMNS), rows)


@dataclass(frozen=True, slots=True)
class _Common:
    """What the checkpoints of a group have in common at a matching."""

    task: str
    rows: object
    matching: Matching
    refused: Mapping[str, str]
    """By pair, why the gate of a run refused it."""


def _checkpoint(common: _Common, arm: Arm, reasons: Mapping[str, str], out: Path) -> tuple[object, ...]:
    record, variant = arm.record, arm.checkpoint.variant
    status, reason = "trained", ""
    if record is None or record.failed:
        status, reason = "failed", reasons.get(arm.checkpoint.name) or arm.refusal
    elif arm.refusal or arm.checkpoint.name in common.refused:
        status, reason = "refused", arm.refusal or common.refused[arm.checkpoint.name]
    has_weights = status != "failed"
    return (
        arm.folder.relative_to(out / CHECKPOINTS).as_posix(),
        common.task,
        variant.name,
        variant.family,
        json.dumps(dict(variant.parameters)),
        arm.checkpoint.seed,
        common.rows,
        common.matching,
        _blank(arm.epoch),
        "" if record is None else record.trained,
        "" if record is None else record.parameters,
        "" if record is None else f"{record.trained / record.parameters:.6g}",
        "" if arm.score is None else f"{arm.score:.6g}",
        status,
        reason,
        arm.folder.relative_to(out).as_posix() if has_weights else "",
        "" if arm.checkpoint.is_reference else f"{FULL}-vs-{'peft' if arm.checkpoint.is_peft else FULL}",
        variant.defence.name,
        "" if record is None else record.rows,
    )


def _refused_pairs(runs: Sequence[PlannedRun], matching: Matching, out: Path) -> dict[str, str]:
    """By pair, why the gate of a run refused it."""
    found: dict[str, str] = {}
    for run in runs:
        folder = run_folder(out, run)
        if run.matching is matching and (folder / RUN_RECORD).is_file():
            found |= {pair.name: pair.reason for pair in read_record(folder).refused}
    return found


def _rows_given(group: Group, arms: Sequence[Arm]) -> object:
    """The training rows that all checkpoints of a group have in common.

    Known from any training that no recipe adds rows to; without one the group's limit, empty if it has none.
    """
    plain = (arm for arm in arms if not arm.checkpoint.variant.defence.recipe)
    given = next((arm.record.rows for arm in plain if arm.record is not None), group.rows)
    return _blank(given)


def _blank(value: object) -> object:
    return "" if value is None else value


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a table in one step, quoted and neutralised as the tables of a run."""
    replace_durably(path, "".join(_lines(header, rows)))


def _lines(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    for row in (header, *rows):
        yield ",".join('"' + neutralise(str(cell)).replace('"', '""') + '"' for cell in row) + "\n"


def read_rows(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a written table, by column."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
