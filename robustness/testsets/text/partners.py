"""Partners of sentences with a meaning representation: edits keep it, swaps change both together."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from robustness.definitions.testsets import GeneratedSet
from robustness.tasks.gold import GoldSpan
from robustness.tasks.task import Task
from robustness.tasks.text.meaning import MeaningRepresentation, Slot, parse_meaning
from robustness.testsets.example import Example
from robustness.testsets.generation import AlteredQuestions, question_generator
from robustness.testsets.gold_places import find_slot_values
from robustness.testsets.protection import find_protected
from robustness.testsets.text.edits import EDITS

SWAPPED = ("name", "developer", "release_year")
"""Slots with values that ViGGO's sentences contain word for word, independent of other slots."""
TRIES = 20
"""Values to draw for one slot before trying the next."""
NO_PARTNER = "sentences have nothing to change, and no partner"
_VALUE = re.compile(rf"(?<!\w)({'|'.join(SWAPPED)})\[([^\[\]]+)\]")

Alter = Callable[[Example, np.random.Generator, Mapping[str, Sequence[str]]], Example | None]


def make_partners(originals: Sequence[Example], made: GeneratedSet, name: str, task: Task) -> AlteredQuestions:
    """Returns the partner of each sentence that has one, with its original and the original's gold.

    The result depends on the seed and the sentence and, for swaps, on the values of all sentences.

    Args:
        originals: sentences with one gold meaning representation each.
        made: the kind of partner and the seed.
        name: of the test set.
        task: says what is protected.
    """
    alter, pool = PARTNERS[made.generator], _values(originals)
    rows: list[Example] = []
    for original in originals:
        key = original.id.partition(":")[2] or original.id
        altered = alter(original, question_generator(made.seed, made.generator, key), pool)
        if altered is not None:
            protected = find_protected(task, altered.texts, altered.answers)
            fresh = replace(altered, id=f"{name}:{key}", group_id=original.group_id, protected=protected, _spans=None)
            rows.append(replace(fresh, original=original.texts, original_answers=original.answers))
    return AlteredQuestions(tuple(rows), len(originals) - len(rows), NO_PARTNER)


def write_partners(path: Path, examples: Sequence[Example], fields: Sequence[str]) -> None:
    """Writes partners as JSON lines, in one step: id, fields, answer, method, the original's fields and answer."""
    lines = []
    for example in examples:
        original = zip((f"original_{name}" for name in fields), example.original or (), strict=True)
        record = {
            "id": example.id.partition(":")[2] or example.id,
            **dict(zip(fields, example.texts, strict=True)),
            "answer": example.answers[0].text,
            "method": example.method,
            **dict(original),
            "original_answer": example.original_answers[0].text,
        }
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    draft = path.with_name(path.name + ".part")
    draft.write_text("".join(lines), encoding="utf-8")
    draft.replace(path)


def _edit(original: Example, rng: np.random.Generator, pool: Mapping[str, Sequence[str]]) -> Example | None:
    """Applies one kind of edit, drawn among the kinds that can change an unprotected part."""
    del pool
    kinds = list(EDITS)
    for index in rng.permutation(len(kinds)):
        edited = EDITS[kinds[index]](original, rng)
        if edited is not None and keeps_values(original, edited):
            return replace(edited, method=kinds[index])
    return None


def keeps_values(original: Example, edited: Example) -> bool:
    """Whether an edited sentence differs and has every slot value word for word as often as the original."""
    if edited.texts == original.texts or original.first_broken(edited.texts) is not None:
        return False
    return all(
        Counter(_standing(old, original.answers)) == Counter(_standing(new, original.answers))
        for old, new in zip(original.texts, edited.texts, strict=True)
    )


def _swap(original: Example, rng: np.random.Generator, pool: Mapping[str, Sequence[str]]) -> Example | None:
    """Replaces one slot's value, drawn among exchangeable ones, by another sentence's value."""
    found = list(_VALUE.finditer(original.answers[0].text))
    for index in rng.permutation(len(found)):
        slot, old = found[index].groups()
        for place in rng.permutation(len(pool[slot]))[:TRIES]:
            new = pool[slot][place]
            swapped = _exchange(original, found[index], new)
            if is_swapped(original, swapped, Slot(slot, _parts(old)), Slot(slot, _parts(new))):
                return replace(swapped, method=slot)
    return None


def _exchange(original: Example, found: re.Match[str], new: str) -> Example:
    gold, (start, end) = original.answers[0].text, found.span(2)
    pattern = _whole(found[2])
    texts = tuple(re.sub(pattern, lambda _: new, text) for text in original.texts)
    answers = (GoldSpan(gold[:start] + new + gold[end:], 0),)
    return replace(original, texts=texts, answers=answers, protected=(), _spans=None)


def is_swapped(original: Example, swapped: Example, old: Slot, new: Slot) -> bool:
    """Whether sentence and gold differ only in one slot's new value.

    The new value appears in the sentence as often as the old one did, at least once. The old value is gone, and every
    other value appears as often as before.
    """
    before, after = (parse_meaning(example.answers[0].text.strip()) for example in (original, swapped))
    if before is None or after is None or old == new:
        return False
    slots = Counter(before.slots)
    slots[old] -= 1
    slots[new] += 1
    if after.function != before.function or Counter(after.slots) != +slots:
        return False
    was, is_now = " ".join(original.texts), " ".join(swapped.texts)
    others = {value for slot in before.slots if slot != old for value in slot.values}
    said, says = ", ".join(old.values), ", ".join(new.values)
    return (
        _count(said, was) > 0
        and _count(said, is_now) == _count(says, was) == 0
        and _count(says, is_now) == _count(said, was)
        and all(_count(value, was) == _count(value, is_now) for value in others)
    )


def _values(originals: Sequence[Example]) -> dict[str, list[str]]:
    """By slot, ascending."""
    found = (match.groups() for example in originals for match in _VALUE.finditer(example.answers[0].text))
    pool: dict[str, set[str]] = {slot: set() for slot in SWAPPED}
    for slot, value in found:
        if "," not in value:  # it would read as a list
            pool[slot].add(value)
    return {slot: sorted(values) for slot, values in pool.items()}


def _parts(value: str) -> tuple[str, ...]:
    meaning = parse_meaning(f"f(s[{value}])")
    assert isinstance(meaning, MeaningRepresentation), "a value has no brackets"
    return meaning.slots[0].values


def _standing(text: str, answers: Sequence[GoldSpan]) -> Iterator[str]:
    return (text[start:end] for start, end in find_slot_values(text, answers))


def _whole(value: str) -> str:
    return rf"(?<!\w){re.escape(value)}(?!\w)"


def _count(value: str, text: str) -> int:
    return len(re.findall(_whole(value), text))


PARTNERS: Mapping[str, Alter] = {"edited": _edit, "counterfactual": _swap}
"""By name in a test set's file."""
