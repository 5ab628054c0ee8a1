"""Runs a study: trains, gates, runs and reports what is missing; the same call resumes."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import final

from robustness.errors import GateError, RobustnessError, RunError, shorten
from robustness.paths import FULL, refuse_unwritable
from robustness.runs.storage.disk import explain_failed_writes, replace_durably
from robustness.runs.storage.lock import hold_lock
from robustness.runs.storage.record import FILE_NAME as RUN_RECORD
from robustness.studies.conduct import Conduct, Reporting
from robustness.studies.design import Design, Group, Matching
from robustness.studies.digests import FileDigests
from robustness.studies.graph import (
    RUNS,
    STUDY,
    Graph,
    Job,
    Kind,
    as_content,
    build_graph,
    run_folder,
)
from robustness.studies.journal import Ended, Journal, State
from robustness.studies.pairing import Arm, choose_arms
from robustness.studies.record import FILE_NAME as STUDY_RECORD
from robustness.studies.record import refuse_foreign, write_study_record
from robustness.studies.settled import find_open, is_settled
from robustness.studies.tables import write_checkpoints, write_jobs, write_runs

GRAPH_FILE, ANSWERS_FILE = "graph.json", "answers.txt"


@dataclass(frozen=True, slots=True)
class StudyResult:
    """What became of a study's jobs."""

    folder: Path
    graph: Graph
    ended: dict[str, Ended]
    """By job id."""

    @property
    def answers(self) -> tuple[str, ...]:
        """What the study says, as sentences; empty before its report."""
        path = self.folder / ANSWERS_FILE
        return tuple(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else ()

    def count(self, kind: Kind, state: State) -> int:
        """Returns the number of jobs of a kind that ended so."""
        return sum(
            job.kind is kind and job.id in self.ended and self.ended[job.id].state is state for job in self.graph.jobs
        )


def run_study(design: Design, out: Path, reporting: Reporting, conduct: Conduct | None = None) -> StudyResult:
    """Does every job of a study that is missing in its folder; returns what became of all.

    A training that diverges and a pair that the gate refuses are results. A job that fails otherwise is tried again
    by the next call, and so is what needs it.

    Raises:
        RobustnessError: the folder holds something else, another process works in it, or the disk is full.
    """
    refuse_unwritable(out)
    refuse_foreign(out, design.file.name)
    out.mkdir(parents=True, exist_ok=True)
    with explain_failed_writes(out), hold_lock(out):
        digests = FileDigests(out)
        graph = build_graph(design, digests)
        digests.save(out)
        journal = Journal(out)
        study = _Study(design, graph, journal, out, reporting, conduct or Conduct())
        is_finished = study.is_finished()
        if not is_finished:
            write_study_record(design, graph, out)  # before all else: it says that the folder is a study's
        try:
            if not is_finished:
                replace_durably(out / GRAPH_FILE, json.dumps(as_content(graph), indent=1) + "\n")
                study.finish()
        finally:
            write_jobs(graph, journal, out)  # also if the last call was killed before it could
        return StudyResult(out, graph, {job.id: ended for job in graph.jobs if (ended := journal.find(job.id))})


def report_again(out: Path, reporting: Reporting) -> tuple[str, ...]:
    """Writes the tables and pages of a study and of its runs again; returns the answers as sentences.

    Raises:
        RobustnessError: the folder is no study, another process works in it, or a file of it cannot be read.
    """
    if not (out / STUDY_RECORD).is_file():
        raise RunError(f"{out}: no {STUDY_RECORD}; expected a folder that `robustness study` wrote")
    with explain_failed_writes(out), hold_lock(out):
        for record in sorted((out / RUNS).glob(f"*/{RUN_RECORD}")):
            reporting.run(record.parent)
        return _report(out, reporting)


def _report(out: Path, reporting: Reporting) -> tuple[str, ...]:
    answers = tuple(reporting.study(out))
    replace_durably(out / ANSWERS_FILE, "".join(f"{each}\n" for each in answers))
    return answers


@final
class _Study:
    """The jobs of one call, done in order."""

    def __init__(
        self, design: Design, graph: Graph, journal: Journal, out: Path, reporting: Reporting, conduct: Conduct
    ) -> None:
        self._design, self._graph, self._journal = design, graph, journal
        self._out, self._reporting, self._conduct = out, reporting, conduct
        self._arms: dict[tuple[str, Matching], list[Arm]] = {}

    def is_finished(self) -> bool:
        """Whether no job is left to do."""
        return next(find_open(self._graph, self._journal, self._out), None) is None

    def finish(self) -> None:
        """Does what is missing, and writes the study's tables."""
        *others, last = (job for job in self._graph.jobs if job.kind is not Kind.TRAIN)
        self._train()
        for job in others:
            self._do(job)
        self._write_tables()
        self._do(last)

    def _is_settled(self, job: Job) -> bool:
        return is_settled(job, self._graph, self._journal, self._out)

    def _train(self) -> None:
        missing = [job for job in self._graph.jobs if job.kind is Kind.TRAIN and not self._is_settled(job)]
        if not missing:
            return
        from robustness.studies.checking import check_design  # both import torch
        from robustness.studies.training import train_checkpoints

        check_design(self._design)
        for job in missing:
            self._begin(job)
        jobs = {self._graph.trainings[job.id].name: job for job in missing}
        wanted = [self._graph.trainings[job.id] for job in missing]
        for checkpoint, ended in train_checkpoints(self._design, wanted, self._out, self._conduct):
            self._end(jobs[checkpoint.name], ended)

    def _do(self, job: Job) -> None:
        if self._is_settled(job):
            return
        blocking = [self._journal.find(need) for need in job.needs]
        is_final = all(each is not None and each.is_final for each in blocking)
        stop = next((each for each in blocking if each is None or each.state is not State.DONE), None)
        if job.kind in (Kind.RUN, Kind.REPORT) and job.name != STUDY and stop is not None:
            self._end(job, Ended(State.REFUSED, 0.0, f"the job before it was {stop.state}", is_final))
            return
        self._begin(job)
        started = time.perf_counter()
        try:
            self._work(job)
        except RobustnessError as error:
            if is_disk_full(error):
                raise
            is_refused = isinstance(error, GateError)
            state = State.REFUSED if is_refused else State.FAILED
            seconds = time.perf_counter() - started
            self._end(job, Ended(state, seconds, shorten(str(error)), is_final and is_refused))
        else:
            self._end(job, Ended(State.DONE, time.perf_counter() - started, is_final=is_final))

    def _work(self, job: Job) -> None:
        if job.name == STUDY:
            _report(self._out, self._reporting)
            return
        run = self._graph.runs[job.id]
        folder = run_folder(self._out, run)
        if job.kind is Kind.REPORT:
            self._reporting.run(folder)
            return
        from robustness.studies.running import fill, start  # imports torch

        if job.kind is Kind.GATE:
            arms = self._choose(run.group, run.matching)
            start(self._design, run, arms, self._out, self._conduct)
        else:
            fill(self._design, run, self._out, self._conduct)

    def _choose(self, group: Group, matching: Matching) -> list[Arm]:
        key = (group.label, matching)
        if key not in self._arms:
            floor = 0.0
            if matching is Matching.CLEAN:
                from robustness.studies.running import find_floor  # imports torch

                floor = find_floor(self._design, group)
            self._arms[key] = choose_arms(group, matching, self._out, floor)
        return self._arms[key]

    def _write_tables(self) -> None:
        matchings = list(dict.fromkeys(run.matching for run in self._design.runs))
        arms = {(g.label, m): self._choose(g, m) for g in self._design.groups for m in matchings}
        reasons = {
            self._graph.trainings[job.id].name: ended.reason
            for job in self._graph.jobs
            if job.kind is Kind.TRAIN and (ended := self._journal.find(job.id)) is not None
        }
        write_checkpoints(self._design, arms, reasons, self._out)
        write_runs(self._design, arms, self._out)
        write_jobs(self._graph, self._journal, self._out)

    def _begin(self, job: Job) -> None:
        self._journal.begin(job.id, job.kind, job.name)

    def _end(self, job: Job, ended: Ended) -> None:
        self._journal.add(job.id, job.kind, job.name, ended)
        reason = f": {ended.reason}" if ended.reason else ""
        self._conduct.say(f"{job.kind} {job.name}: {ended.state} in {ended.seconds:.1f} s{reason}")


def is_disk_full(error: BaseException) -> bool:
    """Whether an error follows from a disk without space, so that no other job can succeed either."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in FULL:
            return True
        cause = cause.__cause__
    return False
