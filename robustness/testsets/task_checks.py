"""The conformance suite for users' tasks."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from robustness.definitions.catalog import TESTSETS
from robustness.definitions.reading import read_content, validate_content
from robustness.definitions.task_tables import TaskDefinition
from robustness.definitions.testsets import TableFile
from robustness.errors import DataError, DefinitionError
from robustness.tasks.graders import KnownAnswers, grader_for, known_answers
from robustness.tasks.task import Task
from robustness.testsets.loading import load_testset, load_training_split
from robustness.testsets.protection import find_protected
from robustness.testsets.tables import read_table

TEXT = 'two "quoted", {braced} and\ttabbed words; 7 of them'


def check_task(task: Task) -> None:
    """Checks that a task follows the rules of evaluation; loads no model.

    Fields, labels, prompt and verbalisers must fit together. Gold answers must score 100 % and an empty answer its
    floor, in a batch and one at a time. Rows of every label must survive writing and reading as CSV, TSV and JSON
    Lines. A prompt must contain every text exactly. Protected gold answers of questions must be found. The gate
    measures whether padding changes a checkpoint's answers.

    Args:
        task: from `find_task`, or built by hand.

    Raises:
        DefinitionError: names the first rule that is broken.

    >>> check_task(Task("topics", ("text",), ("World", "Sports"), ("text",)))
    """
    validate_content(_content(task), TaskDefinition, _named(task))
    for known in known_answers(task, TEXT):
        _check_grades(task, known)
        if task.protected.answers:
            _check_protection(task, known)
    if task.labels:
        _check_rows(task)
    _check_prompt(task)


def check_rows(path: str, data: Path | None) -> None:
    """Reads the rows of a test set's file; does nothing for a task's file.

    Args:
        path: of the file.
        data: the folder with local files.

    Raises:
        DataError: the message names rows that cannot be read, or whose gold texts fail their own parser and metric.
    """
    if "task" not in read_content(Path(path)):
        return
    entry = TESTSETS.find(path)
    load_testset(entry, data)
    if entry.definition.train is not None:
        load_training_split(entry, data)


def _content(task: Task) -> dict[str, object]:
    """The content of the task's file."""
    content: dict[str, object] = {
        "kind": task.kind,
        "fields": task.fields,
        "attacked": task.attacked,
        "labels": task.labels,
        "metric": task.metric,
        "template": task.template,
        "verbalisers": task.verbalisers,
        "aliases": dict(task.aliases),
        "protected": {name: getattr(task.protected, name) for name in ("fields", "patterns", "words", "numbers")},
    }
    if task.answer is not None:
        del content["metric"]
        said = {field.name: getattr(task.answer, field.name) for field in fields(task.answer) if field.name != "code"}
        content["answer"] = {name: value for name, value in said.items() if value is not None}
    if task.chat is not None:
        content["chat"] = {"user": task.chat.user, "system": task.chat.system}
    return content


def _named(task: Task) -> str:
    return task.file or f"task {task.name}"


def _check_grades(task: Task, known: KnownAnswers) -> None:
    grader, rows, asked = grader_for(task), known.rows, known.asked
    grades = [grader.grade(row, each) for row, each in zip(rows, asked, strict=True)]
    shares = grader.correct(rows, asked).mean(), np.mean([grade.correct for grade in grades])
    found = *shares, np.mean([grade.quality for grade in grades])
    if not np.allclose(found, (known.right, known.right, known.quality)):
        raise DefinitionError(
            f"{_named(task)}: answers that are {known.right:.0%} right are graded {shares[0]:.0%} right"
        )
    alone = [(grader.losses(rows[i : i + 1], asked[i : i + 1])[0], grades[i].correct) for i in range(len(rows))]
    together = list(zip(grader.losses(rows, asked), grader.correct(rows, asked), strict=True))
    if not np.array_equal(alone, together):
        raise DefinitionError(f"{_named(task)}: answers get other grades in a batch than one at a time")


def _check_protection(task: Task, known: KnownAnswers) -> None:
    """Each text contains all answers."""
    places = [(gold.start, gold.start + len(gold.text)) for each in known.asked for gold in each.answers]
    for each in known.asked:
        found = find_protected(task, each.texts, each.answers)
        if [span[1:] for span in found if span[0] == len(each.texts) - 1] != places:
            raise DefinitionError(f"{_named(task)}: gold answers must be protected, but were found at {found}")


def _check_rows(task: Task) -> None:
    """One row of each label, written by name."""
    rows = [[f"{TEXT} {label}: {name}" for name in task.fields] + [label] for label in task.labels]
    header = [*(f"text {number}" for number in range(len(task.fields))), "label"]
    with tempfile.TemporaryDirectory() as folder:
        for name, write in _WRITERS.items():
            path = Path(folder) / name
            write(path, header, rows)
            source = TableFile(reader="table", file=name, columns=tuple(header[:-1]), label="label")
            try:
                read = [(*row.texts, task.labels[row.label]) for row in read_table(path, source, task)]
            except DataError as error:
                problem = str(error).removeprefix(f"{path} ")
                raise DefinitionError(f"{_named(task)}: rows of its labels cannot be read again: {problem}") from None
            for given, found in zip(rows, read, strict=True):
                if tuple(given) != found:
                    raise DefinitionError(
                        f"{_named(task)}: label {given[-1]!r} is read from a {path.suffix} file as {found[-1]!r}, "
                        "or its text otherwise; rename it"
                    )


def _write_lines(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [json.dumps(dict(zip(header, row, strict=True)), ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")


def _separated_by(separator: str) -> Callable[[Path, Sequence[str], Sequence[Sequence[str]]], None]:
    def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=separator).writerows([header, *rows])

    return write


_WRITERS: dict[str, Callable[[Path, Sequence[str], Sequence[Sequence[str]]], None]] = {
    "rows.csv": _separated_by(","),
    "rows.tsv": _separated_by("\t"),
    "rows.jsonl": _write_lines,
}


def _check_prompt(task: Task) -> None:
    template = task.template if task.chat is None else task.chat.user
    if template:
        texts = {name: f"{TEXT} {name}" for name in task.fields}
        prompt = template.format(**texts)
        for name, text in texts.items():
            if text not in prompt:
                raise DefinitionError(f"{_named(task)}: its prompt does not hold the text of {name} to the letter")
