"""Scripts in a process of their own, with the seconds that it and each of its workers had of a processor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

SCRIPT = """
import json, sys, threading, time
import psutil
import torch

torch.set_num_threads(int(sys.argv.pop(1)))
spent = {{}}

def look():
    me = psutil.Process()
    for process in [me, *me.children()]:
        try:
            times = process.cpu_times()
            spent[process.pid] = times.user + times.system
        except psutil.NoSuchProcess:
            pass

def watch():
    while True:
        look()
        time.sleep(0.5)

threading.Thread(target=watch, daemon=True).start()
{body}
wall = time.perf_counter() - started
look()
driver = spent.pop(psutil.Process().pid)
print(json.dumps({{"wall_seconds": wall, "driver": driver, "workers": sorted(spent.values(), reverse=True)}}))
"""


def run_watched(body: str, words: Sequence[str], threads: int) -> dict[str, Any]:
    """Runs a script in a process; returns its seconds and those of its workers, the busiest first.

    Args:
        body: of the script; it sets `started`.
        words: its arguments.
        threads: of the process, which its workers share.
    """
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(body=body), str(threads), *words],
        env=dict(os.environ) | {"OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    path = found["driver"] + max(found["workers"], default=0.0)
    return found | {"critical_processor_seconds": path}
