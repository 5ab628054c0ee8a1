"""What a worker reports when its machine, or what it is asked, is at fault."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from robustness.engine.named_attack import NamedAttack
from robustness.recipes.assets.resources import Resources
from robustness.recipes.building import find_recipe, name_recipe
from robustness.runs.cells import Cell
from robustness.runs.executors import worker as worker_module
from robustness.runs.executors.executor import Work
from robustness.runs.executors.reports import Lost, Refused, Report, Started
from robustness.runs.executors.worker import Worker, WorkerSpec, pack_worker_spec
from robustness.runs.planning.plan import Unready
from robustness.testsets.example import Example

NAME = "textfooler"
SHARD = Work(Cell("full", "sst2", NAME), (Example("e1", ("a fine film",), 1),))


def spec(**changes: Any) -> WorkerSpec:
    settings: dict[str, Any] = {
        "checkpoints": {},
        "tasks": {},
        "weights": {},
        "attacks": {},
        "digests": {},
        "ready": frozenset(),
        "seed": 0,
        "dtype": "float32",
        "compile": False,
        "cache": None,
        "resources": Resources(device="cpu"),
        "threads": 1,
    }
    return WorkerSpec(**settings | changes)


def first_report(packed: bytes) -> Report:
    (report,) = Worker(packed).begin()
    return report


def test_a_worker_that_starts_says_where_it_is() -> None:
    report = first_report(pickle.dumps(spec()))

    assert isinstance(report, Started) and report.where.startswith("process ")
    assert torch.__version__ == report.versions["torch"]


def test_a_gpu_that_is_gone_loses_the_worker_and_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    report = first_report(pickle.dumps(spec(resources=Resources(device="cuda"))))

    assert isinstance(report, Lost) and "worker on " in report.reason and "no CUDA device" in report.reason


def test_a_device_that_cannot_compute_is_found_before_it_is_given_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: uncorrectable ECC error encountered")

    monkeypatch.setattr(torch, "ones", fail)

    report = first_report(pickle.dumps(spec()))

    assert isinstance(report, Lost) and "uncorrectable ECC error" in report.reason


class Unreadable:
    """Raises when it is unpickled."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _raise, (self._error,)


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ImportError("no module named mine"), Refused), (OSError("stale file handle"), Lost), (MemoryError(), Lost)],
)
def test_a_kit_that_cannot_be_read_ends_the_run_unless_the_machine_is_at_fault(
    error: Exception, kind: type[Report]
) -> None:
    report = first_report(pickle.dumps(Unreadable(error)))

    assert isinstance(report, kind) and type(error).__name__ in report.reason


def attack_without_assets() -> NamedAttack:
    return name_recipe(find_recipe(NAME), Unready("missing"))


def lacking(ready: Mapping[str, bool], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker that has begun on a machine without any asset."""
    monkeypatch.delenv("ROBUSTNESS_DATA", raising=False)
    monkeypatch.delenv("NLTK_DATA", raising=False)
    monkeypatch.setattr(Worker, "_load", lambda self, name: (SimpleNamespace(truncated=()), None))
    names = frozenset(name for name, is_ready in ready.items() if is_ready)
    attacks, digests = {NAME: NAME}, {NAME: attack_without_assets().digest}
    mine = Resources((folder,), device="cpu")
    worker = Worker(pickle.dumps(spec(attacks=attacks, digests=digests, ready=names, resources=mine)))
    assert isinstance(next(worker.begin()), Started)
    return worker


def test_a_worker_without_an_asset_that_the_driver_has_ends_the_run_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (report,) = lacking({NAME: True}, tmp_path, monkeypatch).run(SHARD)

    assert isinstance(report, Refused)
    assert report.reason.startswith(f"worker on {worker_module.socket.gethostname()}: attack {NAME}: lacks files")
    assert "asset " in report.reason and "is missing" in report.reason and str(tmp_path) in report.reason


def test_an_asset_that_the_driver_lacks_too_errors_the_attacks_examples_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = lacking({NAME: False}, tmp_path, monkeypatch)

    assert isinstance(worker._find_attack(NAME).attack, Unready)


def test_the_kit_says_which_attacks_lacked_nothing_and_where_to_look(tmp_path: Path) -> None:
    from robustness.recipes.building import find_attack
    from robustness.tasks.objective import Objective

    attacks = (find_attack("deepwordbug"), attack_without_assets())
    mine = Resources((tmp_path,), device="auto")
    settings = SimpleNamespace(seed=0, dtype="float32", compile=False, cache=None, resources=mine)
    plan: Any = SimpleNamespace(settings=settings, attacks=attacks, attack_references=("deepwordbug", NAME))
    prepared: Any = SimpleNamespace(checkpoints={}, tasks={}, weights_digests={})

    packed = pack_worker_spec(plan, prepared, device="cpu", threads=1, check_weights=False)

    unpacked = pickle.loads(packed)
    assert unpacked.ready == {"deepwordbug"} and set(unpacked.attacks) == {"deepwordbug", NAME}
    assert unpacked.resources == Resources((tmp_path,), device="cpu")
    assert attacks[0].objective == Objective()
