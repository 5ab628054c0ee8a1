"""A study's own cost: scheduling of jobs that cost nothing, and the return of a finished study."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_study import run_apart, write_study

from robustness.definitions.studies import find_study
from robustness.studies.conduct import Conduct, Reporting
from robustness.studies.design import resolve
from robustness.studies.graph import STUDY, Graph, Job, Kind
from robustness.studies.journal import Journal
from robustness.studies.run import _Study

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1200)]
JOBS = 500
SECONDS_A_JOB, SECONDS_FINISHED = 0.05, 6.0


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


def test_a_finished_study_returns_at_once(tmp_path: Path, save_result: Callable[[str, dict[str, Any]], None]) -> None:
    file = write_study(tmp_path, more='match = "clean"')
    run_apart(file, tmp_path / "out")
    command = [sys.executable, "-m", "robustness", "study", str(file), "--out", str(tmp_path / "out")]
    command += ["--device", "cpu"]

    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)

    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    save_result("study-finished", {"seconds": seconds, "processor_seconds": used, "limit": SECONDS_FINISHED})
    assert used <= SECONDS_FINISHED
