from __future__ import annotations

import importlib.metadata
import json
import sys
import types
from pathlib import Path

import pytest
import torch

import robustness
from robustness.training.metrics import Metric
from robustness.training.protocol import TrainingSettings
from robustness.training.record import Fingerprint, write_record
from robustness.training.trainer import TrialResult
from robustness.versions import library_versions, version_of


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source tree beside packages that nobody installed: peft was not imported, torch lies on the path."""

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("robustness.versions.version", missing)
    monkeypatch.delitem(sys.modules, "peft", raising=False)


def test_a_package_on_the_path_says_its_own_version(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("vendored")
    module.__version__ = "1.2.3"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vendored", module)

    assert version_of("vendored") == "1.2.3"
    assert version_of("torch") == torch.__version__
    assert version_of("peft") == "not installed"


def test_the_release_is_that_of_the_code_and_not_of_what_is_installed_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("robustness.versions.version", lambda name: "0.1.0")

    assert version_of("peft-robustness") == robustness.__version__ == "0.2.0.dev0"


def test_a_run_from_a_source_tree_is_recorded(bare: None) -> None:
    assert library_versions()["peft"] == "not installed"


def test_a_training_from_a_source_tree_is_recorded(bare: None, tmp_path: Path) -> None:
    fingerprint = Fingerprint(
        *("set", "sst2", "base", "digest", "lora", "digest", 0, "train", "dev"), 4, 2, 2, TrainingSettings()
    )
    counts = {"parameters_trained": 1, "parameters": 2, "peak_memory_bytes": 1}
    trial = TrialResult(1e-3, (0.5,), (0.7,), failed=False, seconds=1.0, **counts)

    write_record(tmp_path, fingerprint, Metric.ACCURACY, [trial], None, "cpu")

    (record,) = tmp_path.iterdir()
    versions = json.loads(record.read_text())["versions"]
    assert (versions["torch"], versions["peft"]) == (torch.__version__, "not installed")
