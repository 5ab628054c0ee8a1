"""How many random changes to the statistics, the referee, the pairs and the sentences the tests notice."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "mutation.json"
COUNT = 300
SEED = 0
LEAST_KILLED = 0.9


def load_mutants() -> ModuleType:
    """The module beside this file."""
    spec = importlib.util.spec_from_file_location("mutants", HERE / "mutants.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


mutants = load_mutants()


def test_every_module_that_is_mutated_has_tests() -> None:
    stats = {f"robustness/stats/{path.name}" for path in (mutants.ROOT / "robustness" / "stats").glob("*.py")}
    modules = mutants.read_modules()

    assert stats - {"robustness/stats/__init__.py"} <= set(modules)
    assert [
        name for file, tests in modules.items() for name in (file, *tests) if not (mutants.ROOT / name).exists()
    ] == []


def test_what_is_named_equivalent_still_stands_there() -> None:
    def lines(file: str) -> str:
        return " ".join(line.strip() for line in (mutants.ROOT / file).read_text(encoding="utf-8").splitlines())

    gone = [key for key in mutants.read_equivalent() if key[1] not in lines(key[0])]

    assert gone == []
    assert all(len(reason) > 20 for reason in mutants.read_equivalent().values())


@pytest.mark.soak
@pytest.mark.timeout(3 * 3600)
def test_nine_in_ten_random_mutants_are_killed(tmp_path: Path) -> None:
    pytest.importorskip("cosmic_ray", reason="the extra `mutation` is not installed")
    equivalent = mutants.read_equivalent()
    drawn = mutants.draw_mutants(list(mutants.read_modules()), COUNT, SEED)

    started = time.monotonic()
    counted = [mutant for mutant in drawn if not mutants.is_equivalent(mutant, equivalent)]
    trials = list(mutants.try_mutants(counted, tmp_path))
    survivors = [trial.mutant for trial in trials if not trial.killed]
    save(trials, len(drawn), time.monotonic() - started)

    told = "\n".join(f"{m.file}:{m.line} {m.operator}: {m.before} -> {m.after}" for m in survivors)
    assert 1 - len(survivors) / len(trials) >= LEAST_KILLED, told


def save(trials: Sequence[Any], drawn: int, seconds: float) -> None:
    """Writes what the tests noticed, by module, with every survivor."""
    files = dict.fromkeys(trial.mutant.file for trial in trials)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps(
            {
                "drawn": drawn,
                "equivalent": drawn - len(trials),
                "killed": sum(trial.killed for trial in trials),
                "seed": SEED,
                "minutes": round(seconds / 60, 1),
                "cores": os.cpu_count(),
                "by_module": {
                    file: {
                        "tried": sum(trial.mutant.file == file for trial in trials),
                        "killed": sum(trial.killed for trial in trials if trial.mutant.file == file),
                    }
                    for file in sorted(files)
                },
                "survivors": [
                    {name: getattr(trial.mutant, name) for name in ("file", "line", "operator", "before", "after")}
                    for trial in trials
                    if not trial.killed
                ],
            },
            indent=1,
        )
        + "\n",
        encoding="utf-8",
    )
