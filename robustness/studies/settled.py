"""Which jobs of a study are left to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from robustness.runs.storage.record import FILE_NAME as RUN_RECORD
from robustness.studies.graph import STUDY, Graph, Job, Kind, checkpoint_folder, run_folder
from robustness.studies.journal import Journal, State
from robustness.studies.records import read_training


def is_settled(job: Job, graph: Graph, journal: Journal, out: Path) -> bool:
    """Whether a job has ended as it always will, after all that it needs, and its folder is there.

    Args:
        job: of the graph; what it needs is settled.
        graph: the study's jobs.
        journal: of its folder.
        out: its folder.
    """
    ended = journal.find(job.id)
    if ended is None or not ended.is_final or not journal.follows(job.id, job.needs):
        return False
    if job.kind is Kind.TRAIN:
        return read_training(checkpoint_folder(out, graph.trainings[job.id])) is not None
    if job.name == STUDY or ended.state is not State.DONE:
        return True
    return (run_folder(out, graph.runs[job.id]) / RUN_RECORD).is_file()


def find_open(graph: Graph, journal: Journal, out: Path) -> Iterator[Job]:
    """Yields the jobs that the next call will do: every job that is not settled, and what needs one of them."""
    open_ids: set[str] = set()
    for job in graph.jobs:
        if open_ids.intersection(job.needs) or not is_settled(job, graph, journal, out):
            open_ids.add(job.id)
            yield job
