"""Searches for the distractors of a generated test set as jobs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from robustness.definitions.testsets import GeneratedSet
from robustness.errors import RobustnessError, RunError, first_line
from robustness.recipes.distractors.generated_words import search_distractors
from robustness.runs.executors.bench import RunBench, for_scores
from robustness.runs.executors.shards import Cutting, cut_groups
from robustness.runs.generation import DistractorLog
from robustness.runs.planning.measured_costs import SEARCHED
from robustness.runs.workload import DistractorSearch, Workload, name_part
from robustness.testsets.example import Example
from robustness.testsets.squad import write_squad
from robustness.victims.heads.spans.answering import AnsweringVictim
from robustness.victims.isolation import VictimGoneError
from robustness.workers.jobs import Booking

FOLDER = "generated"
"""Subfolder of a run folder: one file in SQuAD's format for each set and checkpoint."""


@dataclass(frozen=True, slots=True)
class FoundDistractor:
    """A search's message: the distractor of one question."""

    example_id: str
    sentence: str
    queries: int


@dataclass(frozen=True, slots=True)
class Search:
    """Questions of a generated set without a distractor, as a job."""

    part: DistractorSearch
    made: GeneratedSet
    examples: tuple[Example, ...]
    cost: float
    """Of all questions, so that a set's searches stay together."""

    @property
    def key(self) -> str:
        """Checkpoint and set in words."""
        return name_part(self.part)

    @property
    def affinity(self) -> str:
        """The checkpoint."""
        return for_scores(self.part.checkpoint)

    def compute(self, bench: RunBench) -> Iterator[FoundDistractor]:
        """Yields distractors as they are found; raises as `RunJob.compute`."""
        victim = bench.load_scored(self.part.checkpoint).victim
        assert isinstance(victim, AnsweringVictim), "only questions have distractors"
        try:
            for found in search_distractors(victim, self.examples, self.made):
                yield FoundDistractor(found.example.id, found.sentence, found.queries)
        except RobustnessError:
            raise
        except Exception as error:  # out of memory, or any error of a model at a paragraph
            raise VictimGoneError(
                f"the search for distractors failed: {type(error).__name__}: {first_line(error)}; finished questions "
                "are kept"
            ) from error


@final
class SearchedSet:
    """A generated set for one checkpoint, whose searches share it.

    Args:
        part: the search.
        made: the generator with its settings.
        rows: of the set in the run, without distractors.
        out: the run folder; the finished set is written there, where it can be copied for other checkpoints.
        workload: counts the questions.
    """

    def __init__(
        self, part: DistractorSearch, made: GeneratedSet, rows: Sequence[Example], out: Path, workload: Workload
    ) -> None:
        self.part = part
        self.workload = workload
        self._made = made
        self._rows = rows
        (out / FOLDER).mkdir(exist_ok=True)
        readable = re.sub(r"\W+", "-", part.checkpoint).strip("-")[-40:]
        digest = hashlib.sha256(part.checkpoint.encode()).hexdigest()[:8]
        self._file = out / FOLDER / f"{part.testset}-{readable}-{digest}.json"
        self._log = DistractorLog(self._file, fingerprint="")
        self._end: Callable[[Sequence[Example]], Sequence[Booking]] = lambda _: ()

    def book(self, cutting: Cutting | None, end: Callable[[Sequence[Example]], Sequence[Booking]]) -> list[Booking]:
        """Returns the searches of missing questions, or what waits for the set if none is missing.

        Args:
            cutting: for workers; None in one process.
            end: returns what waits for the set, from its rows.
        """
        missing = self._log.missing(self._rows)
        self._end = end
        if not missing:
            return list(self.finish())
        characters = sum(len(text) for example in missing for text in example.texts)
        whole = Search(self.part, self._made, tuple(missing), characters * SEARCHED[self._made.generator])
        parts = cut_groups(missing, cutting.size(len(missing))) if cutting else [whole.examples]
        return [SearchBooking(replace(whole, examples=part), self) for part in parts]

    def add(self, found: FoundDistractor) -> None:
        """Keeps a distractor."""
        self._log.add(found.example_id, found.sentence, found.queries)
        self.workload.add(self.part)

    def finish(self) -> Sequence[Booking]:
        """Returns what waits for the set, once it is whole."""
        if self._log.missing(self._rows):
            return ()
        self.workload.skip(self.part)  # an earlier run's results were not counted
        end, self._end = self._end, lambda _: ()
        rows = self._log.insert(self._rows, self._made)
        if not self._file.is_file():
            write_squad(self._file, rows, title=self.part.testset)
        return end(rows)


@final
class SearchBooking:
    """A search whose distractors go to the set's log.

    Args:
        job: the search.
        searched: the set.
    """

    def __init__(self, job: Search, searched: SearchedSet) -> None:
        self.job = job
        self._searched = searched
        self._missing = {example.id: example for example in job.examples}

    def begin(self) -> None:
        """Reports the search as the current part."""
        self._searched.workload.start(self.job.part)

    def store(self, message: object) -> None:
        """Keeps a distractor."""
        assert isinstance(message, FoundDistractor), "a search tells of distractors only"
        self._searched.add(message)
        del self._missing[message.example_id]

    def left(self) -> SearchBooking | None:
        """Returns the search of the questions without a distractor."""
        return self._part(self._missing.values()) if self._missing else None

    def split(self) -> list[Booking]:
        """Returns a search of each question."""
        return [self._part([example]) for example in self._missing.values()]

    def give_up(self, reason: str) -> None:
        """Ends the run, because a set with missing rows is another set.

        Raises:
            RunError: always.
        """
        raise RunError(
            f"{self.job.key}: no distractor for {', '.join(self._missing)}: {reason}; finished questions are kept, "
            "and the same command resumes"
        )

    def finish(self) -> Sequence[Booking]:
        """Returns the cells of the set, if this was its last search."""
        return self._searched.finish()

    def _part(self, examples: Iterable[Example]) -> SearchBooking:
        return SearchBooking(replace(self.job, examples=tuple(examples)), self._searched)
