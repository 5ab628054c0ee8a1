"""Seats: examples under attack and the known answers about their texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from robustness.engine.attack import Losses, Question, Search
from robustness.engine.calls import Part, Wanted
from robustness.engine.failures.crashes import Crash
from robustness.engine.gradient_desk import GradientAccount
from robustness.engine.outcome import Spent
from robustness.engine.questions import QueryCount
from robustness.tasks.grading import Grade, Rows
from robustness.testsets.example import Example, Texts
from robustness.victims.isolation import Fault


@final
@dataclass(slots=True)
class Seat:
    """One example under attack: its clean text is scored, the search asks questions, its proposal is judged."""

    example: Example
    asked: Sequence[Example]
    """Examples that wait for rows: first the clean example, then the search's candidates, last its proposal."""
    count: QueryCount
    decodes: bool = False
    """Whether the victim decodes, so that losses cost less than rows."""
    question: Question = ()
    """The search's current question."""
    search: Search | None = None
    is_judgement: bool = False
    missing: int = 0
    """The number of its texts that are not answered yet."""
    readings: dict[Texts, bytes] = field(default_factory=dict)
    """Digests of the model's inputs, if the victim gives them; texts with one digest share one score exactly."""
    known: dict[Texts | bytes, NDArray[np.float32]] = field(default_factory=dict)
    """Rows by reading or, without readings, by text."""
    known_losses: dict[Texts | bytes, NDArray[np.float32]] = field(default_factory=dict)
    """Loss rows of a victim that decodes, with the same keys."""
    clean: Grade | None = None
    """Of the clean text."""
    forwards: int = 0
    generated: list[int | None] = field(default_factory=list)
    """Tokens decoded for each row that the model gave."""
    seconds: float = 0.0
    search_seconds: float = 0.0
    """The part of `seconds` spent in the attack's own code."""
    gradients: GradientAccount | None = None
    """Set if the attack has access to gradients."""
    fault: Fault | None = None
    """Why the victim could not score the texts."""
    place: int = 0
    """The example's place in the given order."""
    crash: Crash | None = None
    """What the attack raised."""

    @property
    def waits_for_gradients(self) -> bool:
        """Whether it waits for gradients."""
        return self.gradients is not None and self.gradients.is_waiting

    @property
    def spent(self) -> Spent:
        """The example's cost so far, including the search's gradients."""
        spent = Spent(self.count.queries, self.forwards, self.seconds)
        if (cost := self.gradients) is None:
            return spent.with_generated(self.generated)
        return replace(
            spent,
            forwards=spent.forwards + cost.forwards,
            seconds=spent.seconds + cost.seconds,
            backwards=cost.backwards,
            zero_gradients=cost.zero_gradients,
        ).with_generated([*self.generated, *cost.generated])

    @property
    def wanted(self) -> Wanted:
        """What to ask of the victim: no more than the question needs."""
        if self.is_judgement or self.search is None or not self.decodes:
            return Wanted.ROWS
        return Wanted.LOSS_ROWS if isinstance(self.question, Losses) else Wanted.ROWS_ALONG

    def begin_part(self) -> Part:
        """Returns an empty part of a call."""
        return Part(self.example.group, self.wanted)

    def add_to(self, part: Part, candidate: Example) -> None:
        """Adds one candidate to a part."""
        part.asked.append(candidate)
        if part.wanted is Wanted.ROWS_ALONG:
            part.read.append(self.known_losses.get(self.key(candidate.texts)))

    def unanswered(self) -> list[Example]:
        """The texts that must run through the model; a judgement is never taken from known rows."""
        if self.is_judgement:
            return [self.asked[0]]
        new: dict[Texts | bytes, Example] = {}
        for candidate in self.asked:
            key = self.key(candidate.texts)
            if not (key in self.known or (self.wanted is Wanted.LOSS_ROWS and key in self.known_losses)):
                new.setdefault(key, candidate)
        return list(new.values())

    def keep(self, candidates: Sequence[Example], rows: Iterable[NDArray[np.float32]], *, losses: bool) -> None:
        """Stores rows of candidates, or loss rows."""
        kept = self.known_losses if losses else self.known
        kept |= {self.key(each.texts): row for each, row in zip(candidates, rows, strict=True)}

    def rows(self) -> Rows:
        """Returns the rows of its texts, shape (texts, numbers); loss rows have fewer numbers."""
        keys = [self.key(candidate.texts) for candidate in self.asked]
        known = [self.known[key] if key in self.known else self.known_losses[key] for key in keys]
        numbers = min(map(len, known), default=0)
        return np.array([row[:numbers] for row in known], dtype=np.float32)

    def key(self, texts: Texts) -> Texts | bytes:
        """Returns the key of a text's scores."""
        return self.readings.get(texts, texts)
