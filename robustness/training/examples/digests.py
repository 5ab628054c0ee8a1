"""Digests of what a training reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace

from robustness.tasks.task import Protected, Task
from robustness.testsets.example import Example
from robustness.victims.heads.kinds import trained_kind


def digest_task(task: Task) -> str:
    """Returns a digest of the parts of a task that training reads, 16 hex digits.

    What attacks alone read is left out. Aliases decide only the labels of rows.

    >>> film = Task("film", ("text",), ("bad", "good"), attacked=("text",))
    >>> digest_task(film) == digest_task(replace(film, attacked=()))
    True
    >>> digest_task(film) == digest_task(replace(film, labels=("good", "bad")))
    False
    """
    read = replace(task, attacked=(), protected=Protected(), aliases=(), verbalisers=(), file="")
    if not trained_kind(task).traits.reads_prompts:
        read = replace(read, template="", chat=None)
    return _digest(asdict(read))


def digest_examples(parts: Sequence[Sequence[Example]]) -> str:
    """Returns a digest of the texts and gold of several parts, each in its order, 16 hex digits.

    Ids are left out: they are positions in some files and names in others, and no weight depends on them.

    >>> one, two = (Example(text, (text,), 1) for text in ("a", "b"))
    >>> digest_examples([[one, two]]) == digest_examples([[two, one]])
    False
    """
    return _digest(
        [
            [(row.texts, row.label, [(gold.text, gold.start) for gold in row.answers]) for row in part]
            for part in parts
        ]
    )


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
