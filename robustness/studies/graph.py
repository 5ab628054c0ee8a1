"""The jobs of a study as data: each named by a digest of what it depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from robustness.definitions.catalog import SUITES
from robustness.definitions.studies import StudyFile, StudyMethod
from robustness.studies.design import Design, PlannedCheckpoint, PlannedRun, find_study_method, served
from robustness.studies.digests import FileDigests, digest_of, digest_rewriting, digest_suite
from robustness.versions import compared_versions, library_versions


class Kind(StrEnum):
    """What a job does."""

    TRAIN = "train"
    """Makes one checkpoint."""
    GATE = "gate"
    """Pairs the checkpoints of a run folder, checks each pair, and starts the folder."""
    RUN = "run"
    """Fills a run folder."""
    REPORT = "report"
    """Writes tables and page: of a run folder, or of the study."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job."""

    id: str
    """Digest of all that its result depends on."""
    kind: Kind
    name: str
    """Of the checkpoint or the run folder; of the last report `study`."""
    needs: tuple[str, ...]
    """Ids of the jobs that come first."""


@dataclass(frozen=True, slots=True)
class Graph:
    """The jobs of a study, each after the jobs that it needs."""

    jobs: tuple[Job, ...]
    trainings: Mapping[str, PlannedCheckpoint]
    """By id of the training."""
    runs: Mapping[str, PlannedRun]
    """By id of gate, run and report."""
    protocol_digest: str

    def of(self, name: str, kind: Kind) -> Job:
        """Returns the job of a name and kind, which the graph must have."""
        return next(job for job in self.jobs if (job.name, job.kind) == (name, kind))


STUDY = "study"
"""Name of the last job."""


def build_graph(design: Design, digests: FileDigests) -> Graph:
    """Returns the jobs of a study; reads files whose digests are not known yet."""
    base = digests.of_base(design.base)
    data = {group.testset.name: digests.of_testset(group.testset, design.data) for group in design.groups}
    trainings = {_training_id(each, base, data[each.testset.name]): each for each in design.checkpoints}
    jobs = [Job(key, Kind.TRAIN, each.name, ()) for key, each in trainings.items()]
    versions = compared_versions(library_versions())
    suites = {run.suite.name: digest_suite(run.suite) for run in design.runs}
    runs: dict[str, PlannedRun] = {}
    for run in design.runs:
        names = {each.name for each in run.group.checkpoints}
        needs = tuple(job.id for job in jobs if job.kind is Kind.TRAIN and job.name in names)
        testsets = [digests.of_testset(each, design.data) for each in served(run.suite.definition, run.group.task)]
        settings = [design.definition.limit, design.definition.seed, versions, suites[run.suite.name], testsets]
        for job in _jobs_of(run, needs, digest_of([needs, run.matching, settings])):
            jobs.append(job)
            runs[job.id] = run
    protocol = digest_protocol(design.file)
    reports = tuple(job.id for job in jobs if job.kind is Kind.REPORT)
    jobs.append(Job(digest_of([reports, protocol]), Kind.REPORT, STUDY, reports))
    return Graph(tuple(jobs), trainings, runs, protocol)


def _training_id(checkpoint: PlannedCheckpoint, base: str, data: str) -> str:
    method = checkpoint.variant.method
    seed, rows, settings = checkpoint.seed, checkpoint.rows, asdict(checkpoint.settings)
    added = digest_rewriting(checkpoint.variant.defence)
    return digest_of([base, data, method.name, method.digest, seed, rows, settings, *added])


def _jobs_of(run: PlannedRun, needs: Sequence[str], content: str) -> Iterator[Job]:
    gate = Job(digest_of(["gate", content]), Kind.GATE, run.name, tuple(needs))
    filled = Job(digest_of(["run", gate.id]), Kind.RUN, run.name, (gate.id,))
    return iter((gate, filled, Job(digest_of(["report", filled.id]), Kind.REPORT, run.name, (filled.id,))))


def digest_protocol(file: StudyFile) -> str:
    """Returns the digest of a study as a protocol: the file's content, with the content of all that it names.

    Raises:
        DefinitionError: a name in it is unknown.
    """
    definition = file.definition
    methods = [digest for each in definition.methods for digest in _method_digests(file, each)]
    suites = [digest_suite(SUITES.find(file.beside(name))) for name in definition.suites]
    return digest_of([definition.behaviour_digest(), methods, suites])


def _method_digests(file: StudyFile, table: StudyMethod) -> Iterator[str]:
    method, defence = find_study_method(file, table)
    yield method.digest
    yield from digest_rewriting(defence)


def as_content(graph: Graph) -> dict[str, object]:
    """Returns the jobs as JSON holds them."""
    return {"protocol": graph.protocol_digest, "jobs": [asdict(job) for job in graph.jobs]}


def checkpoint_folder(out: Path, checkpoint: PlannedCheckpoint) -> Path:
    """Returns the folder of a checkpoint in a study's folder."""
    return out / CHECKPOINTS / checkpoint.name


def run_folder(out: Path, run: PlannedRun) -> Path:
    """Returns the folder of a run in a study's folder."""
    return out / RUNS / run.name


CHECKPOINTS, RUNS = "checkpoints", "runs"
"""Folders of a study."""
