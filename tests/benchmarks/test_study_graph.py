"""A study's own cost: scheduling of jobs that cost nothing, and the return of a finished study."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_study import write_base, write_study

from robustness.definitions.studies import find_study
from robustness.studies.conduct import Conduct, Reporting
from robustness.studies.design import resolve
from robustness.studies.digests import FileDigests
from robustness.studies.graph import STUDY, Graph, Job, Kind, build_graph, checkpoint_folder, run_folder
from robustness.studies.journal import Ended, Journal, State
from robustness.studies.record import write_study_record
from robustness.studies.run import ANSWERS_FILE, RUN_RECORD, _Study
from robustness.victims.files.selection import TRAINING_RECORD

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1200)]
JOBS = 500
SECONDS_A_JOB, SECONDS_FINISHED = 0.05, 6.0
LARGEST = "capacity"
TRAINED = {
    "reason": "",
    "epoch": 1,
    "selecting_scores": [0.9],
    "fingerprint": {"rows_trained": 64},
    "parameters_trained": 10,
    "parameters": 100,
    "seconds": 1.0,
}


def test_a_job_that_costs_nothing_is_scheduled_in_fifty_milliseconds(
    tmp_path: Path, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    design = resolve(find_study(str(write_study(tmp_path))), None)
    run = design.runs[0]
    jobs = [Job(f"{place:016x}", Kind.REPORT, f"free-{place}", ()) for place in range(JOBS)]
    last = Job("study", Kind.REPORT, STUDY, tuple(job.id for job in jobs))
    graph = Graph((*jobs, last), {}, {job.id: run for job in jobs}, "")
    out = tmp_path / "out"
    out.mkdir()
    empty = replace(design, groups=(), runs=())
    study = _Study(empty, graph, Journal(out), out, Reporting(lambda _: None, lambda _: ()), Conduct())

    started, processor = time.perf_counter(), time.process_time()
    study.finish()
    seconds, used = time.perf_counter() - started, time.process_time() - processor

    figures = {"jobs": JOBS, "seconds_a_job": seconds / JOBS, "processor_seconds_a_job": used / JOBS}
    save_result("study-scheduling", {**figures, "limit": SECONDS_A_JOB})
    assert used / JOBS <= SECONDS_A_JOB


def write_finished(folder: Path, data: Path) -> Path:
    """The largest shipped study, on a tiny base, with the files of jobs that have ended; returns the study's file."""
    write_base(folder / "base")
    text = re.sub(r"(?m)^base = .*$", f'base = "{folder / "base"}"', find_study(LARGEST).path.read_text())
    (file := folder / f"{LARGEST}.toml").write_text(text)
    design, out = resolve(find_study(str(file)), data), folder / "out"
    out.mkdir()
    graph = build_graph(design, digests := FileDigests(out))
    digests.save(out)
    write_study_record(design, graph, out)
    (out / ANSWERS_FILE).write_text("It is done.\n")
    journal = Journal(out)
    for job in graph.jobs:
        journal.add(job.id, job.kind, job.name, Ended(State.DONE, 1.0))
    for training in graph.trainings.values():
        (place := checkpoint_folder(out, training)).mkdir(parents=True)
        (place / TRAINING_RECORD).write_text(json.dumps(TRAINED))
    for run in graph.runs.values():
        run_folder(out, run).mkdir(parents=True, exist_ok=True)
        (run_folder(out, run) / RUN_RECORD).touch()
    return file


def run_undelayed(command: list[str]) -> tuple[float, str]:
    """Seconds from start to end of a command less those that its main thread waited for a processor; its output."""
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a process that is not reaped keeps its times
        seconds = time.perf_counter() - started
        delay = int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[1]) / 1e9
        assert process.stdout is not None and process.wait() == 0
        return seconds - delay, process.stdout.read()


def test_a_finished_study_returns_at_once(
    tmp_path: Path, shared_data: Path, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    """By the wall of an idle machine: what other processes take away is not counted."""
    file = write_finished(tmp_path, shared_data)
    command = [sys.executable, "-m", "robustness", "study", str(file), "--out", str(tmp_path / "out")]

    seconds, printed = run_undelayed([*command, "--device", "cpu", "--data", str(shared_data)])

    jobs = len((tmp_path / "out" / "journal.jsonl").read_text().splitlines())
    assert printed.split() == f"It is done. {jobs} of {jobs} jobs are done: {tmp_path / 'out' / 'jobs.csv'}".split()
    save_result("study-finished", {"jobs": jobs, "seconds": seconds, "limit": SECONDS_FINISHED})
    assert jobs > 150 and seconds <= SECONDS_FINISHED
