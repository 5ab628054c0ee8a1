"""Altered questions: adds a distractor before or after the paragraph of every original question."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from robustness.definitions.testsets import GeneratedSet
from robustness.tasks.gold import GoldSpan
from robustness.testsets.answer_kinds import fake_answer
from robustness.testsets.distractors import answer_context, denied_answer
from robustness.testsets.example import Example


@dataclass(frozen=True, slots=True)
class AlteredQuestions:
    """Originals, each followed by its altered form."""

    examples: tuple[Example, ...]
    skipped: int
    """Number of questions or sentences without a valid altered form."""
    why: str = "questions have no valid distractor and stay unchanged"
    """What the test set has instead."""


def alter_questions(originals: Sequence[Example], made: GeneratedSet, name: str) -> AlteredQuestions:
    """Returns the rows of a generated test set called `name`; alters only originals, in an adversarial set too.

    If a checkpoint is needed, the altered rows still have the original texts; `insert_distractor` completes them. The
    result depends on the seed, the question and, for fake answers, on the answers of all questions.
    """
    originals = [example for example in originals if not example.group_id]
    pool = list(dict.fromkeys(example.answers[0].text for example in originals))
    rows: list[Example] = []
    skipped = 0
    for question in originals:
        key = question.id.partition(":")[2] or question.id
        original = replace(question, id=f"{name}:{key}", group_id="", original=None, _spans=None)
        rows.append(original)
        altered = replace(
            original, id=f"{name}:{key}-{made.generator}", group_id=original.id, original=original.texts
        )
        if made.needs_checkpoint:
            rows.append(altered)
            continue
        distractor = _distractor(altered, made, pool)
        if distractor is None:
            skipped += 1
        else:
            rows.append(insert_distractor(altered, distractor, made.place))
    return AlteredQuestions(tuple(rows), skipped)


def insert_distractor(example: Example, distractor: str, place: str) -> Example:
    """Returns the example with the distractor before or after its paragraph; moves the gold answers with it."""
    altered = put_beside(example, 1, distractor, place)
    if place == "after":
        return altered
    shift = len(distractor) + 1
    return replace(altered, answers=tuple(GoldSpan(answer.text, answer.start + shift) for answer in example.answers))


def put_beside(example: Example, segment: int, words: str, place: str) -> Example:
    """Returns the example with words before or after one segment; gold answers keep their places."""
    texts = list(example.texts)
    text = texts[segment]
    texts[segment] = f"{words} {text}" if place == "before" else f"{text.rstrip()} {words}" if text else words
    return example.with_texts(texts)


def question_generator(seed: int, generator: str, key: str) -> np.random.Generator:
    """A generator for one question, independent of other questions."""
    material = f"{seed}\x1f{generator}\x1f{key}".encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(material).digest()[:16]))


def _distractor(example: Example, made: GeneratedSet, pool: Sequence[str]) -> str | None:
    if made.generator == "addansctx":
        return answer_context(example)
    key = example.id.partition(":")[2]
    rng = question_generator(made.seed, made.generator, key)
    fake = fake_answer([answer.text for answer in example.answers], pool, example.texts[1], rng)
    return None if fake is None else denied_answer(example, fake)
