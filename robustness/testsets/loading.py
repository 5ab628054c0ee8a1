"""A test set definition to the examples it stands for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from robustness.definitions.catalog import Entry
from robustness.definitions.tasks import Task, find_task
from robustness.definitions.testsets import AdvGlueFile, HubDataset, Split, TestsetDefinition, TsvFile
from robustness.errors import DataError, DefinitionError
from robustness.testsets.example import Example
from robustness.testsets.rows import Row, digest_rows, read_advglue, read_hub, read_tsv

PACKAGE_FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Testset:
    """The examples of one test set, with where they came from."""

    __test__ = False  # the name is the field's word, not a pytest class

    name: str
    task: Task
    kind: str
    provenance: str
    digest: str
    """sha256 over texts and labels."""
    examples: tuple[Example, ...]


def load_testset(entry: Entry[TestsetDefinition], data: Path | None) -> Testset:
    """Loads and checks a test set: from `data`, from the package, or from the hub.

    Raises:
        DataError: no source can be read, or the rows are not the published ones.
        DefinitionError: a task that is not known, a source that is not named, or columns that are not the task's.
    """
    definition = entry.definition
    return _load(entry, definition.test, data, prefix=entry.name)


def load_training_split(entry: Entry[TestsetDefinition], data: Path | None) -> Testset:
    """Loads the training rows that stand beside a clean test set.

    Raises:
        DataError: there are none, or one has a label that the task has not.
    """
    if entry.definition.train is None:
        raise DataError(f"test set {entry.name} has no training split")
    split = _load(entry, entry.definition.train, data, prefix=f"{entry.name}-train")
    for example in split.examples:
        if example.label >= len(split.task.labels):
            raise DataError(
                f"test set {entry.name}, training row {example.id}: label {example.label}; "
                f"{split.task.name} has labels 0 to {len(split.task.labels) - 1}"
            )
    return split


def _load(entry: Entry[TestsetDefinition], split: Split, data: Path | None, *, prefix: str) -> Testset:
    task = _find_task(entry)
    source = _choose_source(entry.name, split, data)
    if isinstance(source, TsvFile) and len(source.columns) != len(task.fields):
        raise DefinitionError(
            f"{entry.path}: columns names {len(source.columns)} columns; "
            f"{task.name} has {len(task.fields)} texts ({', '.join(task.fields)})"
        )
    rows = _read_rows(source, data, task)
    if not rows:
        raise DataError(f"test set {entry.name}: no rows in {_describe(source, data)}")
    if source.rows is not None and len(rows) != source.rows:
        raise DataError(
            f"test set {entry.name}: {_describe(source, data)} has {len(rows)} rows; "
            f"the published set has {source.rows}. Is the file complete?"
        )
    keys = Counter(row.key for row in rows)
    key, count = keys.most_common(1)[0]
    if count > 1:
        raise DataError(f"test set {entry.name}: {_describe(source, data)} has {count} rows with the id {key!r}")
    digest = digest_rows(rows)
    if source.digest is not None and digest != source.digest:
        raise DataError(
            f"test set {entry.name}: {_describe(source, data)} is not the published set: its texts and labels "
            f"have sha256 {digest[:12]}..., expected {source.digest[:12]}...; get the official file"
        )
    provenance = "official" if isinstance(source, HubDataset) else source.provenance
    examples = tuple(
        Example(
            id=f"{prefix}:{row.key}",
            texts=row.texts,
            label=row.label,
            attacked=task.attacked_segments,
            original=row.original,
        )
        for row in rows
    )
    return Testset(entry.name, task, entry.definition.kind, provenance, digest, examples)


def _find_task(entry: Entry[TestsetDefinition]) -> Task:
    try:
        return find_task(entry.definition.task)
    except DefinitionError as error:
        raise DefinitionError(f"{entry.path}: {error}") from None


def _choose_source(name: str, split: Split, data: Path | None) -> TsvFile | AdvGlueFile | HubDataset:
    for source in split.local:
        folder = PACKAGE_FOLDER if source.root == "package" else data
        if folder is not None and (folder / source.file).is_file():
            return source
    if data is not None and split.local:
        wanted = " or ".join(source.file for source in split.local)
        raise DataError(f"test set {name}: {data} has no {wanted}; add the file, or leave --data out for the hub")
    if split.hub is not None:
        return split.hub
    if not split.local:
        raise DefinitionError(f"test set {name}: its definition names no file and no hub data set; add one of them")
    raise DataError(f"test set {name}: give --data with a folder that has {split.local[0].file}")


def _read_rows(source: TsvFile | AdvGlueFile | HubDataset, data: Path | None, task: Task) -> list[Row]:
    if isinstance(source, HubDataset):
        return read_hub(source, task)
    if isinstance(source, TsvFile):
        folder = PACKAGE_FOLDER if source.root == "package" else data
        assert folder is not None, "a source is chosen only where its folder is known"
        return read_tsv(folder / source.file, source, task)
    assert data is not None, "a source is chosen only where its folder is known"
    return read_advglue(data / source.file, data / source.annotations, source, task)


def _describe(source: TsvFile | AdvGlueFile | HubDataset, data: Path | None) -> str:
    if isinstance(source, HubDataset):
        return f"hub data set {source.dataset} {source.config}"
    folder = PACKAGE_FOLDER if source.root == "package" else data
    return str(folder / source.file) if folder else source.file
