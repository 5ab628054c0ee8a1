from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from robustness import TrainSettings, api
from robustness.definitions.catalog import TESTSETS
from robustness.definitions.pairs import read_pairs
from robustness.definitions.tasks import find_task
from robustness.testsets.example import Example
from robustness.testsets.loading import load_testset
from robustness.versions import version_of
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.heads.labels import Victim
from robustness.victims.loading import load_checkpoint, place, to_victim

RESULTS = Path(__file__).parent / "results"
TRAINING_ROWS = 600


@pytest.fixture(scope="session")
def minilm_pair(minilm: Path, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real full / LoRA pair of MiniLM on SST-2, that of ROBUSTNESS_BENCH_PAIRS if it is set; its pairs.toml."""
    given = os.environ.get("ROBUSTNESS_BENCH_PAIRS")
    if given:
        return Path(given)
    torch.set_num_threads(os.cpu_count() or 1)
    folder = tmp_path_factory.mktemp("minilm-pair")
    pairs = api.train(
        "sst2",
        base=str(minilm),
        methods=["full", "lora"],
        out=folder,
        on_progress=print,
        settings=TrainSettings(data=shared_data, limit=TRAINING_ROWS, device="cpu"),
    )
    torch.set_num_threads(1)
    return pairs


@pytest.fixture(scope="session")
def minilm_victim(minilm_pair: Path) -> Victim:
    """The fully fine-tuned MiniLM, on one thread."""
    torch.set_num_threads(1)
    pair = read_pairs(minilm_pair)[0]
    checkpoint = read_checkpoint(pair.reference_name, pair.reference, pair.base)
    return to_victim(load_checkpoint(checkpoint, find_task("sst2")), place("cpu"))


@pytest.fixture(scope="session")
def sst2(shared_data: Path) -> Sequence[Example]:
    """SST-2's development set, on which every recipe's word lists are at hand."""
    return load_testset(TESTSETS.find("sst2"), shared_data).examples


@pytest.fixture
def save_result() -> Callable[[str, dict[str, Any]], None]:
    """Prints figures and writes them, with the environment they were measured in, as JSON."""

    def save(name: str, figures: dict[str, Any]) -> None:
        content = {"figures": figures, "environment": describe_environment()}
        text = json.dumps(content, indent=2)
        print(f"\n{name}: {text}")
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(text + "\n")

    return save


def describe_environment() -> dict[str, Any]:
    return {
        "measured": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        **{name: version_of(name) for name in ("torch", "transformers", "peft", "textattack", "tokenizers")},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
