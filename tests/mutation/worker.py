"""Runs tests in forks of one process that has imported what is slow: `worker.py`, in a copy of the tree.

Reads one job a line, `{"tests": [...], "seconds": 60}`, and answers each with a line, `{"exit": 1, "seconds": 2.5,
"failed": "..."}`: pytest's exit status, 124 where the time ran out.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import hypothesis  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import sklearn.metrics  # noqa: F401
import statsmodels.api  # noqa: F401
import torch
import transformers
from transformers import BertForSequenceClassification, BertTokenizerFast  # noqa: F401

import robustness.recipes.text.transformations.transformation
import robustness.reports.report
import robustness.runs.run  # noqa: F401

TIMED_OUT = 124
SPARE_MEMORY = 6 * 2**30
"""Bytes a fork may map beyond what it starts with: a mutated size must not fill the machine."""
PLUGINS = ["_hypothesis_pytestplugin", "pytest_timeout"]
"""Others cost more than most tests."""
LEFT_OUT = ["no:cacheprovider", "no:unraisableexception"]
OPTIONS = ["-x", "-q", "--no-header", "--assert=plain", "--hypothesis-seed=0", "-rN"]
OPTIONS += [word for name in (*PLUGINS, *LEFT_OUT) for word in ("-p", name)]


class FirstFailure:
    """Writes the name of the first test that fails."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            os.write(self._pipe, report.nodeid.encode())


def run_in_fork(tests: list[str], seconds: float) -> dict[str, object]:
    """Runs pytest in a fork; ends it, with all that it started, when the time is out."""
    reading, writing = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.close(reading)
        os._exit(run_tests(tests, writing))
    os.close(writing)
    status = wait(child, started + seconds)
    failed = os.read(reading, 4096).decode().strip()
    os.close(reading)
    return {"exit": status, "seconds": round(time.monotonic() - started, 2), "failed": failed}


def run_tests(tests: list[str], pipe: int) -> int:
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + SPARE_MEMORY, mapped + SPARE_MEMORY))
    return int(pytest.main([*OPTIONS, *tests], plugins=[FirstFailure(pipe)]))


def wait(child: int, deadline: float) -> int:
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return TIMED_OUT


def main() -> None:
    """Answers jobs until standard input ends."""
    torch.set_num_threads(1)
    # What the package imports is slow and stays; the package itself is imported anew by every fork: it is mutated.
    for name in [name for name in sys.modules if name.partition(".")[0] == "robustness"]:
        del sys.modules[name]
    transformers.logging.set_verbosity_error()
    sys.dont_write_bytecode = True  # a mutant's would outlive it
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    gc.collect()
    gc.freeze()  # or every fork would look through, and so copy, all that was imported
    for line in sys.stdin:
        print(json.dumps(run_in_fork(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
