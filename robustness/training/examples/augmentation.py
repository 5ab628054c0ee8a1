"""Training rows changed once by a recipe: a file beside the checkpoints, which all of them are trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from robustness.errors import DataError
from robustness.sharing import name_draft
from robustness.tasks.gold import GoldSpan
from robustness.tasks.task import TaskKind
from robustness.testsets.example import Example, Texts
from robustness.training.examples.rows import TrainingRows

SEED = 0
"""Seed of all changes, equal for all checkpoints, as that of the rows that a limit keeps."""


class Rewriting(Protocol):
    """What changes rows; no model takes part, so that no arm is trained on rows made against its partner."""

    @property
    def name(self) -> str:
        """In the names of checkpoints."""
        ...

    @property
    def digest(self) -> str:
        """Of all that the changes depend on, but for the row and the seed."""
        ...

    def rewrite(self, example: Example, seed: int) -> Example | None:
        """Returns the row changed, its gold not; None where nothing can be changed."""
        ...


def write_augmented(rows: TrainingRows, rewriting: Rewriting, folder: Path, say: Callable[[str], None]) -> Path:
    """Writes each training row once changed, as JSON lines; returns the file, whose name has a digest of its making.

    Rows that cannot be changed, or that become a development row, are left out. A file that is there is kept.

    Raises:
        DataError: no row can be changed.
    """
    scored = _scored_texts(rows)
    # The form of an example has all that a recipe or a gold can depend on, protected words too.
    made_of = repr((rewriting.digest, SEED, rows.task.kind, rows.train, sorted(scored)))
    path = folder / f"augmented-{rewriting.name}-{hashlib.sha256(made_of.encode()).hexdigest()[:8]}.jsonl"
    if path.is_file():
        return path
    lines = [json.dumps(line) for line in _changed_rows(rows, scored, rewriting)]
    if not lines:
        raise DataError(f"recipe {rewriting.name}: it can change none of the {len(rows.train)} training rows")
    say(f"{rewriting.name}: {len(lines)} of {len(rows.train)} training rows changed, in {path.name}")
    folder.mkdir(parents=True, exist_ok=True)
    draft = name_draft(path)
    draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return draft.replace(path)


def read_augmented(path: Path, rows: Sequence[Example]) -> tuple[tuple[Example, ...], str]:
    """Returns the changed rows of a file with the gold of the rows that they were made of, and the file's sha256.

    Raises:
        DataError: the file cannot be read, or is of other rows.
    """
    known = {row.id: row for row in rows}
    try:
        content = path.read_bytes()
        lines = [json.loads(line) for line in content.decode().splitlines()]
        changed = tuple(_read(known[line["id"]], line) for line in lines)
    except (OSError, ValueError, LookupError, TypeError):
        raise DataError(
            f"{path}: expected the changed training rows that `robustness train --augment` wrote for these rows; "
            "remove the file, and the same command writes it again"
        ) from None
    return changed, hashlib.sha256(content).hexdigest()


def _scored_texts(rows: TrainingRows) -> set[Texts]:
    return {example.texts for example in (*rows.selecting, *rows.reporting)}


def _changed_rows(rows: TrainingRows, scored: set[Texts], rewriting: Rewriting) -> Iterator[dict[str, object]]:
    for row in rows.train:
        changed = rewriting.rewrite(row, SEED)
        if changed is None or changed.texts in scored:
            continue
        line: dict[str, object] = {"id": row.id, "texts": changed.texts}
        if rows.task.kind is TaskKind.SPAN:
            starts = [_moved(answer, row, changed) for answer in row.answers]
            if None in starts:
                continue
            line["starts"] = starts
        yield line


def _moved(answer: GoldSpan, before: Example, after: Example) -> int | None:
    """Where an answer begins after words before it have changed; None where it is no longer there."""
    context = len(before.texts) - 1
    shift = 0
    for (segment, _, end), (_, _, new_end) in zip(before.spans, after.spans, strict=True):
        if segment == context and end <= answer.start:
            shift = new_end - end
    start = answer.start + shift
    return start if after.texts[context][start : start + len(answer.text)] == answer.text else None


def _read(row: Example, line: dict[str, object]) -> Example:
    texts, starts = line["texts"], line.get("starts")
    if not isinstance(texts, list) or [type(each) for each in texts] != [str] * len(row.texts):
        raise ValueError
    answers = row.answers
    if isinstance(starts, list):
        answers = tuple(GoldSpan(each.text, int(start)) for each, start in zip(answers, starts, strict=True))
    return replace(row, id=f"{row.id}~", texts=tuple(texts), answers=answers, protected=(), _spans=None)
