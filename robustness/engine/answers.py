"""Evaluation of questions as they stand: exact match and F1 of the victim's answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from robustness.engine.outcome import Outcome, Status
from robustness.engine.referee import character_similarity, count_modified_words
from robustness.tasks.answer_scores import AnswerScore, score_answer
from robustness.testsets.example import Example, Texts
from robustness.victims.heads.spans import AnsweringVictim, Prediction

CHUNK = 512
NOT_FINITE = "the victim's scores are not finite"


def evaluate_answers(victim: AnsweringVictim, examples: Sequence[Example]) -> Iterator[Outcome]:
    """Yields one outcome for each question, in order.

    Right means an exact match: `adversarial_prediction` is 1 where the answer matches, `score` is its F1. An altered
    question's clean form is its original, which is answered once for all its altered forms; where that answer is
    wrong the status is `skipped`.
    """
    known: dict[Texts, Prediction] = {}
    last_wanted = {texts: index for index, example in enumerate(examples) for texts in _texts_of(example)}
    for start in range(0, len(examples), CHUNK):
        chunk = examples[start : start + CHUNK]
        wanted = [texts for example in chunk for texts in _texts_of(example)]
        new = [texts for texts in dict.fromkeys(wanted) if texts not in known]
        started = time.perf_counter()
        known |= zip(new, victim.predict(new, n_best=1), strict=True)
        each = (time.perf_counter() - started) / max(1, len(new))
        unpaid = set(new)
        for example in chunk:
            clean = known[example.original] if example.original is not None else None
            forwards = len({example.texts, example.original} & unpaid)
            unpaid -= {example.texts, example.original}
            yield answer_outcome(example, known[example.texts], clean, forwards=forwards, seconds=each * forwards)
        known = {texts: answer for texts, answer in known.items() if last_wanted[texts] >= start + CHUNK}


def _texts_of(example: Example) -> list[Texts]:
    return [texts for texts in (example.texts, example.original) if texts is not None]


def answer_outcome(
    example: Example, given: Prediction, clean: Prediction | None, *, forwards: int, seconds: float, queries: int = 0
) -> Outcome:
    """Returns the outcome of one question from the answers to it and, where that is known, to its original."""
    score = score_answer(given.best, example.answers)
    clean_score = None if clean is None else score_answer(clean.best, example.answers)
    is_finite = bool(np.isfinite(given.scores).all()) and (clean is None or bool(np.isfinite(clean.scores).all()))
    source = example.clean_form()
    modified = None if clean is None else count_modified_words(source, example)
    return Outcome(
        example_id=example.id,
        group_id=example.group,
        label=example.label,
        status=_status(score, clean_score) if is_finite else Status.ERRORED,
        clean_prediction=None if clean_score is None else int(clean_score.exact_match),
        adversarial_prediction=int(score.exact_match),
        clean_score=None if clean_score is None else clean_score.f1,
        score=score.f1,
        queries=queries,
        forwards=forwards,
        modified_words=modified,
        modified_share=None if modified is None else modified / max(1, len(source.all_words)),
        similarity=None if clean is None else character_similarity(source.texts, example.texts),
        seconds=seconds,
        original_text=example.original,
        adversarial_text=example.texts,
        error=None if is_finite else NOT_FINITE,
        answer=given.best,
        method=example.method or None,
        construction=example.construction or None,
    )


def _status(score: AnswerScore, clean: AnswerScore | None) -> Status:
    if clean is not None and not clean.exact_match:
        return Status.SKIPPED
    return Status.FAILED if score.exact_match else Status.SUCCEEDED
