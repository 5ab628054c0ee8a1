"""Loads the examples of a test set definition."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from robustness.definitions.catalog import TESTSETS, Entry
from robustness.definitions.task_tables import MEANING
from robustness.definitions.tasks import task_of_testset
from robustness.definitions.testsets import (
    AdvGlueFile,
    GeneratedSet,
    HubDataset,
    Partner,
    Split,
    SquadFile,
    TableFile,
    TestsetDefinition,
    TsvFile,
)
from robustness.errors import DataError, DefinitionError
from robustness.paths import DATA_VARIABLE, without_data
from robustness.tasks.graders import grader_for
from robustness.tasks.grading import GradedText
from robustness.tasks.patterns import SlowPatternError
from robustness.tasks.task import Task
from robustness.testsets.example import Example
from robustness.testsets.generation import alter_questions
from robustness.testsets.protection import find_protected
from robustness.testsets.row_forms import ROW_FORMS
from robustness.testsets.rows import Row, digest_rows, read_advglue, read_tsv
from robustness.testsets.squad import read_squad
from robustness.testsets.table_rows import TIED
from robustness.testsets.tables import read_table
from robustness.testsets.text.partners import PARTNERS, make_partners

UNREADABLE_SHOWN = 10
"""Ids of rows in one message."""
TELLING = 10
"""From this number of rows on, it is no coincidence that a text of each is its gold answer."""
PACKAGE_FOLDER = Path(__file__).resolve().parent
LocalFile = TsvFile | AdvGlueFile | SquadFile | TableFile
Source = LocalFile | HubDataset
Roots = Mapping[str, Path | None]
"""Folders by their name in a source; None: not given."""
OWN = "own"
"""The provenance of a set with a user's own definition."""
CHANGED = "changed"
"""The provenance of a set that differs from the published one and is evaluated on request."""


@dataclass(frozen=True, slots=True)
class Testset:
    """The examples of one test set and their provenance."""

    __test__ = False  # the name is the field's word, not a pytest class

    name: str
    task: Task
    kind: str
    provenance: str
    digest: str
    """sha256 over texts and labels."""
    examples: tuple[Example, ...]
    generated: GeneratedSet | None = None
    """How to make its altered rows against each checkpoint; until then they have the original texts."""
    notes: tuple[str, ...] = ()
    """Warnings for readers of its scores."""


def load_testset(
    entry: Entry[TestsetDefinition],
    data: Path | None,
    *,
    allow_changed: bool = False,
    attacked: Sequence[str] = (),
) -> Testset:
    """Loads and checks a test set: from `data`, from the package, from the hub, or made here.

    Args:
        entry: the test set.
        data: the folder with local files.
        allow_changed: accepts a set whose rows differ from the published ones, with provenance `changed`.
        attacked: fields open to attack in place of the task's own; empty: the task's.

    Raises:
        DataError: no source can be read, or the rows are not the published ones.
        DefinitionError: an unknown task, a missing source, or columns that do not fit the task.
        UsageError: fields that the task does not have.
    """
    task = task_of_testset(entry.path, entry.definition).attacking(attacked)
    return _load(entry, task, entry.definition.test, data, prefix=entry.name, allow_changed=allow_changed)


def load_training_split(entry: Entry[TestsetDefinition], data: Path | None) -> Testset:
    """Loads the training rows of a clean test set.

    Raises:
        DataError: there are none, or they cannot be read.
    """
    if entry.definition.train is None:
        raise DataError(f"test set {entry.name} has no training split")
    task = task_of_testset(entry.path, entry.definition)
    return _load(entry, task, entry.definition.train, data, prefix=f"{entry.name}-train", allow_changed=False)


def _load(
    entry: Entry[TestsetDefinition], task: Task, split: Split, data: Path | None, *, prefix: str, allow_changed: bool
) -> Testset:
    roots = {"data": data, "package": PACKAGE_FOLDER, "definition": entry.path.parent}
    source = _choose_source(entry.name, split, roots)
    if isinstance(source, GeneratedSet):
        return _generate(entry, task, source, data, allow_changed=allow_changed)
    if isinstance(source, TsvFile | TableFile) and len(source.columns) != len(task.fields):
        raise DefinitionError(
            f"{entry.path}: columns names {len(source.columns)} columns; "
            f"{task.name} has {len(task.fields)} texts ({', '.join(task.fields)})"
        )
    read = _read_rows(source, roots, task, adversarial=entry.definition.kind == "adversarial")
    if isinstance(source, TableFile) and source.partner is not None:
        read = list(_join(read, source.partner, data, _describe(source, roots), allow_changed=allow_changed))
    rows = [row for row in read if row.label != TIED]
    if not rows:
        raise DataError(f"test set {entry.name}: no rows in {_describe(source, roots)}")
    _refuse_repeated(entry.name, rows, _describe(source, roots))
    _refuse_labels(entry.name, rows, task, _describe(source, roots))
    _refuse_unreadable(entry.name, rows, task, _describe(source, roots))
    _refuse_given_away(entry.name, rows, task, _describe(source, roots))
    digest = digest_rows(rows)
    problem = _difference(rows, digest, source, _describe(source, roots))
    if problem and not allow_changed:
        raise DataError(f"test set {entry.name}: {problem}; --allow-changed-testset evaluates it anyway")
    return Testset(
        name=entry.name,
        task=task,
        kind=entry.definition.kind,
        provenance=CHANGED if problem else _provenance(entry, source),
        digest=digest,
        examples=tuple(_examples(entry.name, rows, prefix, task)),
        notes=tuple(_notes(entry.name, problem, len(read) - len(rows))),
    )


def _join(
    rows: Sequence[Row], partner: Partner, data: Path | None, where: str, *, allow_changed: bool
) -> Iterator[Row]:
    """Gives each row its partner's text and gold."""
    others = load_testset(TESTSETS.find(partner.testset), data, allow_changed=allow_changed).examples
    for row in rows:
        assert row.partner is not None, "a source with a partner names the column"
        if row.partner >= len(others):
            raise DataError(
                f"{where} row {row.key!r}: its {partner.row} is {row.partner}; the test set {partner.testset} has "
                f"{len(others)} rows, counted from 0"
            )
        other = others[row.partner]
        yield replace(row, original=other.texts, original_answers=other.answers)


def _notes(name: str, problem: str, tied: int) -> Iterator[str]:
    if problem:
        yield f"test set {name}: {problem}"
    if tied:
        yield f"test set {name}: {tied} rows left out: their most frequent labels are equally frequent"


def _provenance(entry: Entry[TestsetDefinition], source: Source) -> str:
    """Only this package's own definitions may claim a published provenance."""
    said = "official" if isinstance(source, HubDataset) else source.provenance
    return OWN if said == "official" and not TESTSETS.has_shipped(entry) else said


def _generate(
    entry: Entry[TestsetDefinition], task: Task, made: GeneratedSet, data: Path | None, *, allow_changed: bool
) -> Testset:
    questions = load_testset(TESTSETS.find(made.questions), data, allow_changed=allow_changed, attacked=task.attacked)
    if (made.generator in PARTNERS) != (task.answer is not None and task.answer.parser == MEANING):
        raise DefinitionError(
            f"{entry.path} [test.generated]: the generator {made.generator!r} is of "
            f"{'meaning representations' if made.generator in PARTNERS else 'questions'}; the task {task.name} is not"
        )
    if made.generator in PARTNERS:
        altered = make_partners(questions.examples, made, entry.name, task)
    else:
        altered = alter_questions(questions.examples, made, entry.name)
    notes = [f"test set {entry.name} was generated here: {entry.definition.summary}"]
    if altered.skipped:
        notes.append(f"test set {entry.name}: {altered.skipped} {altered.why}")
    return Testset(
        name=entry.name,
        task=task,
        kind=entry.definition.kind,
        provenance="generated",
        digest=digest_rows(Row(e.id, e.texts, e.label, answers=e.answers) for e in altered.examples),
        examples=altered.examples,
        generated=made if made.needs_checkpoint else None,
        notes=tuple(notes),
    )


def _examples(name: str, rows: Sequence[Row], prefix: str, task: Task) -> Iterator[Example]:
    for row in rows:
        try:
            yield _example(row, prefix, task)
        except SlowPatternError as error:
            raise DataError(f"test set {name}: row {row.key!r}: [protected] of task {task.name}: {error}") from None


def _example(row: Row, prefix: str, task: Task) -> Example:
    return Example(
        id=f"{prefix}:{row.key}",
        texts=row.texts,
        label=row.label,
        group_id=f"{prefix}:{row.group}" if row.group else "",
        attacked=task.attacked_segments,
        original=row.original,
        answers=row.answers,
        method=row.method,
        construction=row.construction,
        original_label=row.original_label,
        original_answers=row.original_answers,
        label_entropy=row.label_entropy,
        protected=find_protected(task, row.texts, row.answers),
    )


def _refuse_repeated(name: str, rows: list[Row], where: str) -> None:
    key, count = Counter(row.key for row in rows).most_common(1)[0]
    if count > 1:
        raise DataError(f"test set {name}: {where} has {count} rows with the id {key!r}")


def _refuse_labels(name: str, rows: Sequence[Row], task: Task, where: str) -> None:
    """Refuses labels beyond the task's: every answer would be wrong, and a checkpoint would seem untrained."""
    n = len(task.labels)
    labels = {row.key: max(row.label, row.original_label or 0) for row in rows}
    beyond = {key: label for key, label in labels.items() if label >= n}
    if not beyond or not task.labels:
        return
    key, label = next(iter(beyond.items()))
    counted = ", ".join(f'{index} = "{word}"' for index, word in enumerate(task.labels, start=1))
    from_one = min(labels.values()) > 0 and max(labels.values()) == n
    remedy = f'they seem to count from 1: map them, labels = {{ {counted} }} of reader = "table"'
    raise DataError(
        f"test set {name}: {where}: {len(beyond)} of {len(rows)} rows have a label that {task.name} does not have, "
        f"first the row {key!r} with label {label}; it has labels 0 to {n - 1} ({', '.join(task.labels)}); "
        f"{remedy if from_one else 'mend or remove these rows'}"
    )


def _refuse_unreadable(name: str, rows: Sequence[Row], task: Task, where: str) -> None:
    """Refuses gold texts that do not score as right themselves: every answer would be wrong."""
    grader = grader_for(task)
    problems = {row.key: grader.problem(GradedText(row.texts, row.label, row.answers)) for row in rows}
    for row in rows:
        if row.original_answers:
            problem = grader.problem(GradedText(row.original or (), row.label, row.original_answers))
            problems[f"{row.key}, its original"] = problem
    found = {key: problem for key, problem in problems.items() if problem is not None}
    if found:
        keys = [*list(found)[:UNREADABLE_SHOWN], *(["..."] if len(found) > UNREADABLE_SHOWN else [])]
        raise DataError(
            f"test set {name}: {where}: the gold answers of {len(found)} of {len(rows)} rows ({', '.join(keys)}) do "
            f"not score 1: {next(iter(found.values()))}"
        )


def _refuse_given_away(name: str, rows: Sequence[Row], task: Task, where: str) -> None:
    """Refuses a prompt that prints every row's gold answer: a copy of it would be right."""
    if task.answer is None or len(rows) < TELLING:
        return
    for index, field in enumerate(task.fields):
        if all(row.texts[index].strip() in [gold.text.strip() for gold in row.answers] for row in rows):
            raise DataError(
                f"test set {name}: {where}: the field {field!r} is the gold answer in each of {len(rows)} rows, and "
                f"the prompt of task {task.name} prints it; leave the field out of the task, or name another column"
            )


def _difference(rows: list[Row], digest: str, source: Source, where: str) -> str:
    """The rows' difference from the published ones; empty without a difference or without published rows."""
    if source.rows is not None and len(rows) != source.rows:
        return f"{where} has {len(rows)} rows; the published set has {source.rows}. Is the file complete?"
    if source.digest is not None and digest != source.digest:
        return (
            f"{where} is not the published set: its texts and labels "
            f"have sha256 {digest[:12]}..., expected {source.digest[:12]}...; get the official file"
        )
    return ""


def _choose_source(name: str, split: Split, roots: Roots) -> Source | GeneratedSet:
    data = roots["data"]
    for source in split.local:
        folder = roots[source.root]
        if folder is not None and os.path.isfile(folder / source.file):  # noqa: PTH113 - no file has an overlong name
            return source
    if split.generated is not None:
        return split.generated
    beside = [source.file for source in split.local if source.root == "definition"]
    if beside:
        raise DataError(f"test set {name}: {roots['definition']} has no {beside[0]}; put it beside the definition")
    if data is not None and split.local:
        wanted = " or ".join(source.file for source in split.local)
        instead = f", or {without_data()} for the hub" if split.hub is not None else ""
        raise DataError(f"test set {name}: the data folder {data} has no {wanted}; add the file{instead}")
    if split.hub is not None:
        return split.hub
    if not split.local:
        raise DefinitionError(f"test set {name}: its definition names no file and no hub data set; add one of them")
    raise DataError(
        f"test set {name}: no data folder is named; give --data, or set {DATA_VARIABLE}, to a folder that has "
        f"{split.local[0].file}"
    )


def _read_rows(source: Source, roots: Roots, task: Task, *, adversarial: bool) -> list[Row]:
    if isinstance(source, HubDataset):
        return ROW_FORMS[task.kind].read_hub(source, task, adversarial=adversarial)
    path = _path(source, roots)
    if isinstance(source, TsvFile):
        return read_tsv(path, source, task)
    if isinstance(source, SquadFile):
        return read_squad(path, source, adversarial=adversarial)
    if isinstance(source, TableFile):
        return read_table(path, source, task)
    data = roots["data"]
    assert data is not None, "AdvGLUE's files are never packaged"
    return read_advglue(path, data / source.annotations, source, task)


def _path(source: LocalFile, roots: Roots) -> Path:
    folder = roots[source.root]
    assert folder is not None, "a source is chosen only where its folder is known"
    return folder / source.file


def _describe(source: Source, roots: Roots) -> str:
    if isinstance(source, HubDataset):
        return f"hub data set {source.dataset} {source.config}"
    return str(_path(source, roots))
