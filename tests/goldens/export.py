"""Runs the goldens' recipes and writes what came of each example, or compares it with what is stored."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

os.environ["HF_HUB_OFFLINE"] = "1"  # before any library reads it: goldens ask no hub
HERE = Path(__file__).resolve().parent
if __package__ in (None, ""):  # run as a file, whose package lies one folder up
    sys.path.insert(0, str(HERE.parent))

import torch

from goldens import minilm, tiny
from goldens.comparison import Comparison, compare
from goldens.records import (
    Golden,
    LeftOut,
    Record,
    describe_environment,
    digest_segment,
    read_golden,
    write_golden,
)
from goldens.weights import digest_tensors
from goldens.worlds import Run
from robustness import RunSettings, api
from robustness.definitions.catalog import TESTSETS
from robustness.errors import RobustnessError
from robustness.recipes.building import find_attack
from robustness.runs.planning import rows
from robustness.runs.run import execute
from robustness.runs.storage.store import read_outcomes
from robustness.testsets.loading import load_testset
from robustness.victims import gate

SEED = 0
MAKERS: dict[str, Callable[[Path], Sequence[Run]]] = {"tiny": tiny.make_runs, "minilm": minilm.make_runs}
"""By file: what writes its checkpoints and rows into a folder."""
QUOTED = ("tiny",)
"""Files whose texts are this project's own and may be copied."""


def collect(name: str, folder: Path, tell: Callable[[str], None] = lambda _: None) -> Golden:
    """Makes the checkpoints of a file in an empty folder, runs its recipes there, and returns what came of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        runs = MAKERS[name](folder)
        inputs: dict[str, str] = {}
        left_out: list[LeftOut] = []
        records: list[Record] = []
        for run in runs:
            started = time.perf_counter()
            ready = tuple(_find_ready(run, inputs, left_out))
            inputs |= _digest_files(run)
            records += _execute(run, ready, quoted=name in QUOTED)
            tell(f"{run.name}: {len(ready)} recipes, {time.perf_counter() - started:.1f} s")
    finally:
        torch.set_num_threads(threads)
    return Golden(
        describe_environment(),
        inputs,
        tuple(sorted(left_out, key=lambda row: (row.run, row.attack))),
        tuple(sorted(records, key=lambda record: record.key)),
    )


def _find_ready(run: Run, inputs: dict[str, str], left_out: list[LeftOut]) -> Iterator[str]:
    """Yields the recipes that can be built here; books the digests of these and the reasons of the others."""
    left_out += [LeftOut(run.name, attack, reason) for attack, reason in run.left_out.items()]
    for reference in run.attacks:
        try:
            attack = find_attack(reference)
        except RobustnessError as error:
            # What was looked for where is another sentence on every machine.
            left_out.append(LeftOut(run.name, Path(reference).stem, str(error).partition("; looked in")[0]))
        else:
            inputs[f"recipe: {attack.name}"] = attack.digest
            yield reference


def _digest_files(run: Run) -> dict[str, str]:
    """Digests of weights and rows."""
    world = run.world
    digests = {
        f"rows: {name}": load_testset(TESTSETS.find(str(world.locate_testset(name))), world.folder).digest[:16]
        for name in run.testsets
    }
    folders = {"base": world.base, "full": world.folder / "full", "lora": world.folder / "lora"}
    weights = {f"weights: {world.folder.name}/{name}": digest_tensors(path) for name, path in folders.items()}
    return digests | weights


def _execute(run: Run, attacks: Sequence[str], *, quoted: bool) -> Iterator[Record]:
    """Runs by the public plan, so that what is compared is what a user gets."""
    world = run.world
    suite = world.folder / f"{run.name}-suite.toml"
    testsets = [str(world.locate_testset(name)) for name in run.testsets]
    suite.write_text(f'summary = "{run.name}"\ntestsets = {json.dumps(testsets)}\nattacks = {json.dumps(attacks)}\n')
    plan = api.plan(
        str(suite),
        world.write_pairs(),
        RunSettings(data=world.folder, limit=run.limit, seed=SEED, device="cpu", dtype="float32"),
    )
    out = world.folder / f"{run.name}-run"
    # The stored outcomes are of the first rows, whichever rows a limit draws today.
    draw = patch.object(rows, "draw_examples", lambda testset, limit, _seed: testset.examples[:limit])
    # Drawn full arms are of no base, which outcomes do not depend on.
    with draw, patch.object(gate, "UNRELATED", -1.0):
        execute(plan, out)
    return read_outcomes_of(run.name, out, quoted=quoted)


def read_outcomes_of(run: str, folder: Path, *, quoted: bool) -> Iterator[Record]:
    """Yields what the store of a run folder holds: the one function that knows how outcomes are stored."""
    for row in read_outcomes(folder).to_dict("records"):
        stored = row["adversarial_text"]
        segments = json.loads(stored) if isinstance(stored, str) else None
        yield Record(
            run=run,
            checkpoint=row["checkpoint"],
            testset=row["testset"],
            attack=row["attack"],
            example=row["example_id"].partition(":")[2],
            status=row["status"],
            text=None if segments is None else tuple(s if quoted else digest_segment(s) for s in segments),
            queries=int(row["queries"]),
            forwards=int(row["forwards"]),
        )


def repeat(name: str, stored: Path, folder: Path, tell: Callable[[str], None] = lambda _: None) -> Comparison:
    """Runs what a stored file holds again, in an empty folder, and compares."""
    return compare(read_golden(stored), collect(name, folder, tell))


def main(words: Sequence[str] | None = None) -> int:
    """Writes or compares files; returns 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--out", type=Path, metavar="DIR", help="write the files into this folder")
    action.add_argument("--compare", action="store_true", help="compare with the files beside this one")
    parser.add_argument("--only", choices=sorted(MAKERS), help="one of the files")
    given = parser.parse_args(words)
    logging.getLogger("transformers").setLevel(logging.ERROR)  # heads that are fitted next are not initialised yet
    failed = False
    for name in [given.only] if given.only else MAKERS:
        with tempfile.TemporaryDirectory() as folder:
            if given.compare:
                comparison = repeat(name, HERE / f"{name}.json", Path(folder), _tell)
                sys.stdout.write(f"{name}: {comparison}\n")
                failed |= not comparison.is_same
            else:
                given.out.mkdir(parents=True, exist_ok=True)
                write_golden(given.out / f"{name}.json", collect(name, Path(folder), _tell))
    return int(failed)


def _tell(message: str) -> None:
    sys.stderr.write(f"{message}\n")


if __name__ == "__main__":
    sys.exit(main())
