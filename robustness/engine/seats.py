"""Seats: examples under attack, with what is known of the texts that their searches ask about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from robustness.engine.attack import Losses, Question, Search
from robustness.engine.calls import Part, Wanted
from robustness.engine.crashes import Crash
from robustness.engine.gradient_desk import GradientAccount
from robustness.engine.outcome import Spent
from robustness.engine.questions import QueryCount
from robustness.tasks.grading import Grade, Rows
from robustness.testsets.example import Example, Texts
from robustness.victims.isolation import Fault


@final
@dataclass(slots=True)
class Seat:
    """One example under attack: the clean text is scored, then the search asks, then its proposal is judged."""

    example: Example
    asked: Sequence[Example]
    """What waits for rows: the clean example, then the search's questions, at last its proposal."""
    count: QueryCount
    decodes: bool = False
    """Whether the victim does, so that losses cost less than rows."""
    question: Question = ()
    """What the search has asked."""
    search: Search | None = None
    is_judgement: bool = False
    missing: int = 0
    """Of what it asked, how much has not been answered."""
    readings: dict[Texts, bytes] = field(default_factory=dict)
    """What the victim reads of each text, if it says so: texts read alike share one score, to its last digit."""
    known: dict[Texts | bytes, NDArray[np.float32]] = field(default_factory=dict)
    """Rows by reading or, where the victim does not tell it, by text."""
    known_losses: dict[Texts | bytes, NDArray[np.float32]] = field(default_factory=dict)
    """Loss rows of a victim that decodes, in the same way."""
    clean: Grade | None = None
    """Of the clean text."""
    forwards: int = 0
    generated: list[int | None] = field(default_factory=list)
    """Tokens decoded for each row that the model gave."""
    seconds: float = 0.0
    search_seconds: float = 0.0
    """The part of it that the attack's own code took."""
    gradients: GradientAccount | None = None
    """Where the attack has access to gradients."""
    fault: Fault | None = None
    """Why the victim has not scored what was asked."""
    place: int = 0
    """Among the examples, in the order in which they were given."""
    crash: Crash | None = None
    """What the attack raised."""

    @property
    def waits_for_gradients(self) -> bool:
        """Whether it has asked for gradients that are not there yet."""
        return self.gradients is not None and self.gradients.is_waiting

    @property
    def spent(self) -> Spent:
        """What the example has cost so far, the search's gradients included."""
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
        """What it asks for: no more than its question needs."""
        if self.is_judgement or self.search is None or not self.decodes:
            return Wanted.ROWS
        return Wanted.LOSS_ROWS if isinstance(self.question, Losses) else Wanted.ROWS_ALONG

    def begin_part(self) -> Part:
        """Returns what it has in a call, still empty."""
        return Part(self.example.group, self.wanted)

    def add_to(self, part: Part, candidate: Example) -> None:
        """Asks about one more text in a call."""
        part.asked.append(candidate)
        if part.wanted is Wanted.ROWS_ALONG:
            part.read.append(self.known_losses.get(self.key(candidate.texts)))

    def unanswered(self) -> list[Example]:
        """What must run through the model; a judgement never comes from the cache."""
        if self.is_judgement:
            return [self.asked[0]]
        new: dict[Texts | bytes, Example] = {}
        for candidate in self.asked:
            key = self.key(candidate.texts)
            if not (key in self.known or (self.wanted is Wanted.LOSS_ROWS and key in self.known_losses)):
                new.setdefault(key, candidate)
        return list(new.values())

    def keep(self, candidates: Sequence[Example], rows: Iterable[NDArray[np.float32]], *, losses: bool) -> None:
        """Remembers what is given of texts: rows, or losses alone."""
        kept = self.known_losses if losses else self.known
        kept |= {self.key(each.texts): row for each, row in zip(candidates, rows, strict=True)}

    def rows(self) -> Rows:
        """Returns what is known of what it asked, shape (texts, numbers): of losses alone no more than these take."""
        keys = [self.key(candidate.texts) for candidate in self.asked]
        known = [self.known[key] if key in self.known else self.known_losses[key] for key in keys]
        numbers = min(map(len, known), default=0)
        return np.array([row[:numbers] for row in known], dtype=np.float32)

    def key(self, texts: Texts) -> Texts | bytes:
        """Returns under what the scores of a text are known."""
        return self.readings.get(texts, texts)
