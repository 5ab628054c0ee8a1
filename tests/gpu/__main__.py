"""`make gpu`: checks and measures what needs CUDA, without network; prints a table and writes gpu.json."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true", "TRANSFORMERS_VERBOSITY": "error"}
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]  # this package, and the one it checks
BUDGET = 440.0
"""Seconds; with what it takes to start, eight minutes."""


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 where nothing failed, or where there is no GPU; else 1."""
    given = read_arguments(arguments)
    started = time.perf_counter()
    if given.device == "pretend":
        from gpu.pretend import pretending

        with pretending():
            return check(given, started)
    return check(given, started)


def read_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser("tests/gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda; cpu; or pretend, which refuses mixed devices as CUDA")
    parser.add_argument("--size", choices=("real", "tiny"), default="real")
    parser.add_argument("--seconds", type=float, default=BUDGET, help=f"for all steps; default {BUDGET:g}")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")), help="folder of gpu.json")
    parser.add_argument("--only", action="append", help="steps whose name holds this; may be repeated")
    return parser.parse_args(arguments)


def check(given: argparse.Namespace, started: float) -> int:
    """Runs the steps that were asked for, in the order of their importance."""
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here: nothing was checked; --device cpu --size tiny runs every step on small models")
        return 0
    from gpu.bench import Bench
    from gpu.catalogue import all_steps
    from gpu.models import SIZES
    from gpu.steps import Result, header, line, run_steps, write_rows

    if given.size == "tiny":
        torch.set_num_threads(1)  # small models are slower on more
    steps = [step for step in all_steps(given.device) if any(part in step.name for part in given.only or [""])]
    with tempfile.TemporaryDirectory() as folder:
        device = torch.device(
            "cuda:0" if given.device == "cuda" else given.device
        )  # parts of torch.cuda want the index
        bench = Bench(device, SIZES[given.size], Path(folder))
        machine = bench.describe()
        print(", ".join(f"{key} {value}" for key, value in machine.items() if key != "versions"))
        print(", ".join(f"{name} {value}" for name, value in machine["versions"].items()))
        print(header(), flush=True)
        rows = []

        def show(row: object) -> None:
            rows.append(row)
            print(line(row), flush=True)
            write_rows(given.out / "gpu.json", machine, rows)

        run_steps(steps, bench, given.seconds - (time.perf_counter() - started), bench.lost, show)
    counts = {result: sum(row.result is result for row in rows) for result in Result}
    print(
        ", ".join(f"{count} {result}" for result, count in counts.items()),
        f"in {time.perf_counter() - started:.0f} s",
    )
    return 1 if counts[Result.FAILED] else 0


if __name__ == "__main__":
    sys.exit(main())
