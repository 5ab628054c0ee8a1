"""Answers a scheduler's gradient questions in batches that all waiting searches share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np

from robustness.engine.attack import Gradients
from robustness.engine.respondents import Respondent, Scorer
from robustness.errors import AttackError
from robustness.tasks.objective import Objective, ObjectiveKind
from robustness.testsets.example import Example
from robustness.victims.heads.text_gradients import TextGradient
from robustness.victims.isolation import recover, without_frames

TEXTS = 256
"""At most so many gradients are held at a time, or one longer question's; the rest wait for the next round."""


@runtime_checkable
class Differentiable(Protocol):
    """A victim that gives gradients with respect to a text."""

    def text_gradients(self, asked: Sequence[Example]) -> list[TextGradient]:
        """Returns the gradient at each example's text, in their order."""
        ...


@dataclass(slots=True)
class GradientAccount:
    """One search's gradient question, its answer, and what all its gradients have cost so far."""

    question: Gradients | None = None
    answer: Sequence[TextGradient] | None = None
    fault: Exception | None = None
    """Why there is no answer."""
    backwards: int = 0
    zero_gradients: int = 0
    forwards: int = 0
    generated: list[int | None] = field(default_factory=list)
    """Tokens decoded for each; None for a victim that decodes nothing."""
    seconds: float = 0.0
    """Of the model."""

    @property
    def is_waiting(self) -> bool:
        """Whether a question is open."""
        return self.question is not None and self.answer is None and self.fault is None

    def take(self) -> Sequence[TextGradient]:
        """Returns the answer and closes the question; raises what went wrong instead."""
        answer, fault = self.answer, self.fault
        self.question = self.answer = self.fault = None
        if fault is not None:
            raise fault
        assert answer is not None, "only an answered question is taken"
        return answer


def answer_gradients(victim: Respondent | Scorer, accounts: Sequence[GradientAccount], objective: Objective) -> None:
    """Answers waiting questions in the order of asking, as many as may be held.

    A batch that fails for lack of memory or because of one text is halved until the question at fault is alone.

    Raises:
        VictimGoneError: the device is lost.
    """
    chosen: list[GradientAccount] = []
    count = 0
    for account in accounts:
        if account.question is None or not account.is_waiting:
            continue
        count += len(account.question.candidates)
        if chosen and count > TEXTS:
            break
        chosen.append(account)
    stack = [chosen] if chosen else []
    while stack:
        part = stack.pop()
        try:
            _answer(victim, part, objective)
            continue
        except Exception as error:  # the fault of one example's text or of the model; that example's row says which
            fault = without_frames(error)
        recover(f"{type(fault).__name__}: {fault}")  # only here is its memory free
        if len(part) == 1:
            part[0].fault = fault
        else:
            stack += [part[len(part) // 2 :], part[: len(part) // 2]]


def _answer(victim: Respondent | Scorer, accounts: Sequence[GradientAccount], objective: Objective) -> None:
    if not isinstance(victim, Differentiable):
        raise AttackError(f"asked for gradients, which a {type(victim).__name__} does not give; load a checkpoint")
    questions: list[Sequence[Example]] = [a.question.candidates for a in accounts if a.question is not None]
    started = time.perf_counter()
    gradients = victim.text_gradients([example for question in questions for example in question])
    if objective.kind is not ObjectiveKind.CHANGE_PREDICTION:
        wrong = np.array([gradient.reached for gradient in gradients])
        gradients = [
            replace(gradient, reached=bool(reached))
            for gradient, reached in zip(gradients, objective.reached(~wrong), strict=True)
        ]
    each = (time.perf_counter() - started) / len(gradients)
    start = 0
    for account, question in zip(accounts, questions, strict=True):
        own = gradients[start : start + len(question)]
        start += len(question)
        account.answer = own
        account.backwards += len(own)
        account.forwards += len(own)
        account.generated += [gradient.generated for gradient in own]
        account.zero_gradients += sum(gradient.vanished for gradient in own)
        account.seconds += each * len(own)
