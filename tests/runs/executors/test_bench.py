"""What the bench of a run refuses when its machine, or what it is asked, is at fault."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from robustness.engine.named_attack import NamedAttack
from robustness.errors import CheckpointError, DataError, UsageError
from robustness.recipes.assets.resources import Resources
from robustness.recipes.building import find_recipe, name_recipe
from robustness.runs.cells import Cell
from robustness.runs.executors.bench import Loaded, RunBench
from robustness.runs.executors.definitions import FoundDefinitions, References
from robustness.runs.executors.shards import Shard
from robustness.runs.executors.spec import RunSpec, describe_run
from robustness.runs.planning.plan import Unready
from robustness.sensitivity.building import find_probe
from robustness.testsets.example import Example
from robustness.victims.files.bases import digest_weights
from robustness.victims.files.checkpoint import Checkpoint
from robustness.workers.packing import pack, unpack

NAME = "textfooler"
SHARD = Shard(Cell("full", "sst2", NAME), (Example("e1", ("a fine film",), 1),), 1.0)


def spec(resources: Resources | None = None, **references: Any) -> RunSpec:
    blank: dict[str, Any] = {"attacks": {}, "ready": frozenset(), "probes": {}, "parameters": {}, "digests": {}}
    found = References(**blank | references, resources=resources or Resources(device="cpu"))
    return RunSpec({}, {}, {}, found, seed=0, dtype="float32", compile=False, cache=None)


def test_a_gpu_that_is_gone_is_no_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(UsageError, match="no CUDA device"):
        spec(resources=Resources(device="cuda")).build(1)


def test_a_device_that_cannot_compute_is_found_before_it_is_given_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: uncorrectable ECC error encountered")

    monkeypatch.setattr(torch, "ones", fail)

    with pytest.raises(RuntimeError, match="uncorrectable ECC error"):
        spec().build(1)


def attack_without_assets() -> NamedAttack:
    return name_recipe(find_recipe(NAME), Unready("missing"))


def lacking(ready: Mapping[str, bool], folder: Path, monkeypatch: pytest.MonkeyPatch) -> RunBench:
    """A bench on a machine without any asset."""
    monkeypatch.delenv("ROBUSTNESS_DATA", raising=False)
    monkeypatch.delenv("NLTK_DATA", raising=False)
    victim: Any = SimpleNamespace(truncated=())
    monkeypatch.setattr(RunBench, "load_scored", lambda self, name: Loaded(victim))
    names = frozenset(name for name, is_ready in ready.items() if is_ready)
    attacks, digests = {NAME: NAME}, {f"attack {NAME}": attack_without_assets().digest}
    mine = Resources((folder,), device="cpu")
    return spec(attacks=attacks, digests=digests, ready=names, resources=mine).build(torch.get_num_threads())


def test_an_asset_that_only_the_driver_has_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=f"attack {NAME}: lacks files") as error:
        next(lacking({NAME: True}, tmp_path, monkeypatch).compute(SHARD))

    assert "asset " in str(error.value) and "is missing" in str(error.value) and str(tmp_path) in str(error.value)


def test_an_asset_that_the_driver_lacks_too_errors_the_attacks_examples_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = lacking({NAME: False}, tmp_path, monkeypatch).definitions.attack(NAME)

    assert isinstance(found, NamedAttack) and isinstance(found.attack, Unready)


def test_the_kit_says_which_attacks_lacked_nothing_and_where_to_look(tmp_path: Path) -> None:
    from robustness.recipes.building import find_attack
    from robustness.tasks.objective import Objective

    attacks = (find_attack("deepwordbug"), attack_without_assets())
    mine = Resources((tmp_path,), device="auto")
    settings = SimpleNamespace(
        suite="smoke", probes=("margin",), seed=0, dtype="float32", compile=False, cache=None, resources=mine
    )
    probes = (find_probe("margin"),)
    named = ("deepwordbug", NAME)
    plan: Any = SimpleNamespace(settings=settings, attacks=attacks, attack_references=named, probes=probes)
    prepared: Any = SimpleNamespace(checkpoints={}, tasks={}, weights_digests={})

    unpacked = unpack(pack(describe_run(plan, prepared, device="cpu", check_weights=False)))

    assert isinstance(unpacked, RunSpec)
    references = unpacked.references
    assert references.ready == {"deepwordbug"} and set(references.attacks) == {"deepwordbug", NAME}
    assert references.probes == {"margin": "margin"} and FoundDefinitions(references).probe("margin") == probes[0]
    assert references.resources == Resources((tmp_path,), device="cpu")
    assert attacks[0].objective == Objective()


@pytest.mark.parametrize("part", ["full", "lora", "base"])
def test_a_machine_with_other_weights_of_a_checkpoint_or_its_base_is_refused(tmp_path: Path, part: str) -> None:
    """Both checkpoints are on one base, whose digest is compared once."""
    checkpoints = {}
    for name in ("base", "full", "lora"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text(name)
    for name in ("full", "lora"):
        checkpoints[name] = Checkpoint(name, tmp_path / name, tmp_path / "base", name)
    weights = {name: digest_weights(each.folder) for name, each in checkpoints.items()}
    bases = {name: digest_weights(each.base) for name, each in checkpoints.items()}
    prepared: Any = SimpleNamespace(checkpoints=checkpoints, tasks={}, weights_digests=weights, base_digests=bases)
    mine = Resources(device="cpu")
    settings = SimpleNamespace(
        suite="smoke", probes=("margin",), seed=0, dtype="float32", compile=False, cache=None, resources=mine
    )
    plan: Any = SimpleNamespace(settings=settings, attacks=(), attack_references=(), probes=(find_probe("margin"),))
    sent = describe_run(plan, prepared, device="cpu", check_weights=True)

    same, other = sent.build(torch.get_num_threads()), sent.build(torch.get_num_threads())
    for name in checkpoints:
        same.check_weights(name)
    (tmp_path / part / "model.safetensors").write_text("other")

    with pytest.raises(CheckpointError, match=rf"{tmp_path / part} is missing here or has other weights than at the"):
        for name in checkpoints:
            other.check_weights(name)
