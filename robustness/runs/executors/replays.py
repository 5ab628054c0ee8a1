"""Replays as jobs: score adversarial texts of one arm on the other arm, or on the untuned base."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import final

from robustness.engine.evaluation import Answering
from robustness.runs.cells import NO_ATTACK, UNTUNED, Cell
from robustness.runs.executors.bench import Loaded, RunBench, for_scores, for_untuned
from robustness.runs.storage.store import Store
from robustness.runs.workload import Transfer, Workload, name_part
from robustness.tasks.grading import Grade
from robustness.testsets.example import Example, digest_texts
from robustness.victims.isolation import Fault, Isolation
from robustness.workers.jobs import Booking

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answered:
    """A replay's message: the target's answers to texts of one cell."""

    source: Cell
    grades: tuple[tuple[str, Grade], ...]
    """By example id."""
    left_out: tuple[tuple[str, str], ...]
    """Ids of texts on which the target fails, with the reasons."""
    truncated: frozenset[str] = frozenset()
    """Digests of newly truncated texts."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Texts that broke the source in one cell and are not scored on the target yet, as a job."""

    transfer: Transfer
    texts: tuple[Example, ...]
    """With the adversarial texts."""
    clean: tuple[Example, ...] = ()
    """Unattacked examples to score before them; only on the untuned base, whose clean answers no cell has."""

    @property
    def key(self) -> str:
        """The transfer in words."""
        return name_part(self.transfer)

    @property
    def affinity(self) -> str:
        """The target; the base differs by the source, which gives it its head."""
        if self.transfer.target == UNTUNED:
            return for_untuned(self.transfer.source.checkpoint)
        return for_scores(self.transfer.target)

    @property
    def cost(self) -> float:
        """Characters read."""
        return sum(len(text) for example in (*self.texts, *self.clean) for text in example.texts)

    def compute(self, bench: RunBench) -> Iterator[Answered]:
        """Yields the answers, or nothing if there is no base to ask; raises as `RunJob.compute`."""
        source, target = self.transfer.source, self.transfer.target
        loaded = self._load(bench)
        if loaded is None:
            return
        if self.clean:
            yield _answer(loaded.scorer, Cell(source.checkpoint, source.testset, NO_ATTACK), self.clean)
        answered = _answer(loaded.scorer, source, self.texts)
        # A text of the source may be too long for its partner.
        yield answered if target == UNTUNED else replace(answered, truncated=loaded.take_truncated())

    def _load(self, bench: RunBench) -> Loaded | None:
        if self.transfer.target == UNTUNED:
            return bench.load_untuned(self.transfer.source.checkpoint)
        return bench.load_scored(self.transfer.target)


def _answer(victim: Answering, source: Cell, examples: Sequence[Example]) -> Answered:
    asked = {example.id: example for example in examples}

    def answer(part: Mapping[str, Example]) -> Iterator[tuple[str, Grade]]:
        rows = victim.rows(list(part.values()))
        return ((name, victim.grader.grade(row, each)) for (name, each), row in zip(part.items(), rows, strict=True))

    grades, left_out = [], []
    for name, grade in Isolation().ask(answer, asked, lambda example: digest_texts(example.texts)):
        if isinstance(grade, Fault):
            left_out.append((name, grade.reason))
        else:
            grades.append((name, grade))
    return Answered(source, tuple(grades), tuple(left_out))


@final
@dataclass(slots=True)
class Replays:
    """The replays of a run as the driver books them."""

    store: Store
    workload: Workload
    examples: Mapping[str, Sequence[Example]]
    """By test set."""
    gaps: list[str]
    """Gets a warning for each replay that lacks answers."""
    _asked: set[tuple[str, str, str]] = field(default_factory=set)
    """Checkpoint, test set and example of each clean text for the base."""

    def book(self, transfers: Sequence[Transfer]) -> list[Booking]:
        """Returns the replays of texts without a score on their target; a transfer without such texts is done."""
        booked: list[Booking] = []
        for transfer in transfers:
            found = self.store.unreplayed_successes(transfer.source, transfer.target)
            if not found:
                self.workload.skip(transfer)
                continue
            known = {example.id: example for example in self.examples[transfer.source.testset]}
            texts = tuple(known[name].with_texts(texts) for name, texts in found)
            clean = [known[name] for name, _ in found] if transfer.target == UNTUNED else []
            booked.append(ReplayBooking(Replay(transfer, texts, self._unasked(transfer.source, clean)), self))
        return booked

    def keep(self, transfer: Transfer, answered: Answered) -> None:
        """Stores a target's answers; texts without one are asked again by the same command."""
        where = name_part(transfer)
        for name, reason in answered.left_out:
            logger.warning("%s: %s is left out, the same command tries again: %s", where, name, reason)
        if answered.left_out:
            n, (_, reason) = len(answered.left_out), answered.left_out[0]
            self.gaps.append(f"{where}: {n} texts are left out, the same command tries again; the first: {reason}")
        if answered.truncated:
            self.store.note_truncated(transfer.target, answered.truncated)
        self.store.add_replays(answered.source, transfer.target, answered.grades)

    def _unasked(self, source: Cell, clean: Sequence[Example]) -> tuple[Example, ...]:
        if not clean:
            return ()
        known = self.store.replayed(Cell(source.checkpoint, source.testset, NO_ATTACK), UNTUNED)
        place = source.checkpoint, source.testset
        new = tuple(each for each in clean if each.id not in known and (*place, each.id) not in self._asked)
        self._asked |= {(*place, each.id) for each in new}
        return new


@final
class ReplayBooking:
    """A replay whose answers go to the store.

    Args:
        job: the replay.
        replays: of the run.
    """

    def __init__(self, job: Replay, replays: Replays) -> None:
        self.job = job
        self._replays = replays
        self._stored: set[Cell] = set()

    def begin(self) -> None:
        """Reports the replay as the current part."""
        self._replays.workload.start(self.job.transfer)

    def store(self, message: object) -> None:
        """Stores the answers to clean or to adversarial texts."""
        assert isinstance(message, Answered), "a replay tells of answers only"
        self._replays.keep(self.job.transfer, message)
        self._stored.add(message.source)

    def left(self) -> ReplayBooking | None:
        """Returns the replay of the texts without answers."""
        if self.job.transfer.source in self._stored:
            return None
        return ReplayBooking(replace(self.job, clean=()) if self._stored else self.job, self._replays)

    def split(self) -> list[Booking]:
        """Returns itself: texts that fail alone are left out by the target."""
        return [self]

    def give_up(self, reason: str) -> None:
        """Notes that the texts are left out."""
        self._replays.gaps.append(f"{self.job.key}: left out, the same command tries again: {reason}")

    def finish(self) -> Sequence[Booking]:
        """Counts the replay; no job waits for it."""
        if self._stored:
            self._replays.workload.finish(self.job.transfer)
        else:  # there was no base to ask
            self._replays.workload.skip(self.job.transfer)
        return ()
