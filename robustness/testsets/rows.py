"""Rows of a data file or of the hub, before they become examples."""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from robustness.definitions.testsets import AdvGlueFile, HubDataset, TsvFile
from robustness.errors import DataError
from robustness.retrying import with_retries
from robustness.tasks.gold import GoldSpan
from robustness.tasks.task import Task
from robustness.testsets.example import Texts
from robustness.testsets.files import find_separator, open_separated, read_json, read_text, refuse_repeated

T = TypeVar("T")
_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can contain half a character, which no tokenizer reads


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled input."""

    key: str
    """The row's own index, or else its position."""
    texts: Texts
    label: int
    original: Texts | None = None
    group: str = ""
    answers: tuple[GoldSpan, ...] = ()
    method: str = ""
    construction: str = ""
    original_label: int | None = None
    """The original's label, if the file has a column for it."""
    original_answers: tuple[GoldSpan, ...] = ()
    """Answers to the original, if they differ from the row's."""
    partner: int | None = None
    """In place of an original: the index of another test set's row, from 0."""
    label_entropy: float | None = None
    """In bits, if the file has a distribution over labels; `label` is the most frequent."""


def digest_rows(rows: Iterable[Row]) -> str:
    """The sha256 of the sorted texts and labels or answers: the same for a file, a shuffled copy and the hub."""
    lines = sorted(
        json.dumps(
            [
                row.texts,
                [answer.text for answer in row.answers] or row.label,
                *([] if row.original_label is None else [row.original_label]),
                *([] if row.label_entropy is None else [round(row.label_entropy, 6)]),
            ],
            ensure_ascii=False,
        )
        for row in rows
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_tsv(path: Path, source: TsvFile, task: Task) -> list[Row]:
    """Reads a tab-separated file without quoting.

    Raises:
        DataError: not UTF-8, a missing column, a line that is too short or too long, or a label the task does
            not have.
    """
    rows = []
    for number, (line, record) in enumerate(_tsv_records(path, [*source.columns, source.label], source.header)):
        texts = tuple(record[column].strip() for column in source.columns)
        label = label_index(record[source.label], task, f"{path} line {line}")
        rows.append(Row(record.get("index") or record.get("id") or str(number), texts, label))
    return rows


def read_advglue(path: Path, annotations: Path, source: AdvGlueFile, task: Task) -> list[Row]:
    """Reads one section of AdvGLUE's file, with the benign originals where `annotations` exists.

    Raises:
        DataError: not JSON, no such section, a field missing, a hidden label, or annotations that do not fit.
    """
    records = _advglue_section(path, source.section)
    notes = _advglue_section(annotations, source.section) if annotations.is_file() else [{}] * len(records)
    if len(notes) != len(records):
        raise DataError(f"{annotations}: {len(notes)} rows in {source.section}; {path} has {len(records)}")
    rows = []
    for number, (record, note) in enumerate(zip(records, notes, strict=True)):
        where = f"{path} {source.section} row {number}"
        texts = _fields(record, task.fields, where)
        if note and _fields(note, task.fields, f"{annotations} {source.section} row {number}") != texts:
            raise DataError(f"{annotations} {source.section} row {number}: not the text of {path}")
        original = tuple(str(note.get(f"original_{name}", record[name])).strip() for name in task.fields)
        has_original = any(f"original_{name}" in note for name in task.fields)
        rows.append(
            Row(
                str(record.get("idx", number)),
                texts,
                label_index(record.get("label"), task, where),
                original if has_original else None,
                method=str(note.get("method", "")),
                construction=str(note.get("data_construction", "")),
            )
        )
    return rows


def read_hub(source: HubDataset, task: Task, *, adversarial: bool = False) -> list[Row]:
    """Loads a split from the hub at its pinned revision; its rows know no originals.

    Raises:
        DataError: the hub cannot be reached (offline, perhaps), or the data set is not as described.
    """
    del adversarial
    name, split = load_hub(source)
    wanted = (*(source.columns or task.fields), source.label)
    return [
        Row(
            str(record.get("idx", number)),
            _fields(record, wanted[:-1], f"{name} row {number}"),
            label_index(record.get(source.label), task, f"{name} row {number}"),
        )
        for number, record in enumerate(flat_record(each, wanted) for each in split)
    ]


def flat_record(record: dict[str, Any], wanted: Collection[str]) -> dict[str, Any]:
    """Returns a record with nested values also by path, if a wanted column is missing.

    >>> flat_record({"id": 1, "example": {"premise": "a"}}, ["example.premise"])["example.premise"]
    'a'
    """
    if all(column in record for column in wanted):
        return record
    flat = dict(record)
    for name, value in record.items():
        if isinstance(value, dict):
            inside = flat_record(value, [""])  # to any depth
            flat |= {f"{name}.{key}": each for key, each in inside.items() if f"{name}.{key}" not in record}
    return flat


def load_hub(source: HubDataset) -> tuple[str, Iterable[dict[str, Any]]]:
    """Returns the split's name for messages and its records; raises DataError if it cannot be loaded."""
    import datasets  # slow to import, and needed only without local files

    name = f"{source.dataset} {source.config} {source.split} at {source.revision[:8]}"
    try:
        split = with_retries(
            lambda: _with_cause(
                lambda: datasets.load_dataset(
                    source.dataset, source.config, split=source.split, revision=source.revision
                )
            ),
            name,
        )
    except Exception as error:  # datasets, the hub library, fsspec and pyarrow raise errors of many classes
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(
            f"hub data set {name}: could not be loaded ({reason}); "
            "give --data with a folder that has the files which `robustness show TESTSET` names, or try again online"
        ) from None
    return name, split


def _with_cause(load: Callable[[], T]) -> T:
    """Returns what `load` does; a hub whose name does not resolve is the cause of its ConnectionError."""
    try:
        return load()
    except ConnectionError as error:  # datasets drops the cause, and its hub client has waited and asked five times
        import datasets  # slow to import

        if urllib.request.getproxies():  # a proxy resolves names itself
            raise
        try:
            socket.getaddrinfo(urllib.parse.urlsplit(datasets.config.HF_ENDPOINT).hostname, None)
        except OSError as cause:
            raise error from cause
        raise


def _tsv_records(path: Path, wanted: Sequence[str], header: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and records with all wanted columns."""
    text = read_text(path)
    file = open_separated(text, "\t", quoted=False, header=header)
    missing = sorted(set(wanted) - set(file.header))
    if missing:
        other = find_separator(text, "\t", wanted, quoted=True)
        remedy = "" if other == "\t" else f'; it is separated by {other!r}, which reader = "table" reads'
        raise DataError(
            f"{path} line 1: column {missing[0]!r} is missing; the header has "
            f"{', '.join(file.header) or 'nothing'}{remedy}"
        )
    refuse_repeated(path, file.header, wanted)
    for fields in filter(None, file.rows):  # without quotes the csv module refuses nothing
        if len(fields) > len(file.header):
            raise DataError(f"{path} line {file.rows.line_num}: more fields than the header has; a tab in a text?")
        record = dict(zip(file.header, fields, strict=False))
        if not record.keys() >= set(wanted):
            raise DataError(f"{path} line {file.rows.line_num}: fewer fields than the header has")
        yield file.rows.line_num, record


def _advglue_section(path: Path, section: str) -> list[dict[str, Any]]:
    content = read_json(path)
    records = content.get(section) if isinstance(content, dict) else None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f"{path}: expected an object with a list {section!r} of objects, as AdvGLUE's dev.json is")
    return records


def _fields(record: dict[str, Any], names: Sequence[str], where: str) -> Texts:
    texts = []
    for name in names:
        text = record.get(name)
        if not isinstance(text, str) or _SURROGATE.search(text):
            raise DataError(f"{where}: field {name!r} is missing or not text")
        texts.append(text.strip())
    return tuple(texts)


def spell_label(label: object) -> str:
    """Returns a label in its usual spelling: no surrounding space, and no decimals of a whole number.

    >>> spell_label(" glad "), spell_label(1.0), spell_label("2.0"), spell_label(0.5)
    ('glad', '1', '2', '0.5')
    """
    return re.sub(r"(?a)(?<=\d)\.0+$", "", str(label).strip())


def label_index(label: object, task: Task, where: str) -> int:
    """Returns the task's index of a label that is a name, an alias or an index; raises DataError for any other."""
    spelled = spell_label(label)
    if label in task.labels:
        return task.labels.index(str(label))
    names = [spell_label(name) for name in task.labels]
    if spelled in names:
        return names.index(spelled)
    spelled = dict(task.aliases).get(spelled, spelled)
    is_number = not isinstance(label, bool) and re.fullmatch(r"-?[0-9]{1,9}", spelled) is not None
    named = None if is_number else task.find_label(spelled)
    if named is not None:
        return named
    # If names are numbers themselves, such as stars from 1 to 5, no number is an index.
    if not is_number or (spelled != "-1" and any(map(str.isdecimal, names))):
        truth = spelled.casefold() in ("true", "false")
        remedy = f'; map it to a label: labels = {{ {spelled} = ... }} of reader = "table"' if truth else ""
        raise DataError(f"{where}: label {reprlib.repr(label)}; expected one of {', '.join(task.labels)}{remedy}")
    index = int(spelled)
    if index == -1:
        raise DataError(f"{where}: the label is hidden (-1); use the development file, which has labels")
    if index < -1:
        raise DataError(f"{where}: label {index}; {task.name} has labels 0 to {len(task.labels) - 1}")
    return index  # a label beyond the task's is refused once all are known, because they may count from 1
