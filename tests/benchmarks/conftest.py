from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from robustness import api

RESULTS = Path(__file__).parent / "results"
TRAINING_ROWS = 600


@pytest.fixture(scope="session")
def minilm_pair(minilm: Path, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real full / LoRA pair of MiniLM on SST-2; returns its pairs.toml."""
    torch.set_num_threads(os.cpu_count() or 1)
    folder = tmp_path_factory.mktemp("minilm-pair")
    pairs = api.train(
        "sst2",
        base=str(minilm),
        methods=["full", "lora"],
        out=folder,
        data=shared_data,
        limit=TRAINING_ROWS,
        device="cpu",
        on_message=print,
    )
    torch.set_num_threads(1)
    return pairs


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
        **{name: version(name) for name in ("torch", "transformers", "peft", "textattack", "tokenizers")},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
