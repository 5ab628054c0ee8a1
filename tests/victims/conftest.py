"""Fixtures of the victims' tests: copies of the tiny checkpoints that a test may break."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftConfig, get_peft_model
from transformers import BertForSequenceClassification, BertTokenizerFast

from robustness.definitions.tasks import find_task
from robustness.testsets.example import Example
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.heads.head import Head
from robustness.victims.heads.labels import Victim
from robustness.victims.loading import LoadedCheckpoint, load_checkpoint, place, to_victim

LABELS = {0: "negative", 1: "positive"}


@pytest.fixture
def copied(tiny: Any, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a folder of the tiny world: `base`, `full` or `lora`."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(tiny.folder / name, tmp_path / name))

    return copy


@pytest.fixture
def load(tiny: Any) -> Callable[..., LoadedCheckpoint]:
    """Reads and loads a folder as a checkpoint of the tiny base."""

    def load_folder(folder: Path, base: Path | None = None, task: str = "sst2") -> LoadedCheckpoint:
        checkpoint = read_checkpoint(folder.name, str(folder), str(base or tiny.base))
        return load_checkpoint(checkpoint, find_task(task))

    return load_folder


@pytest.fixture(scope="session")
def clean(tiny: Any) -> list[Example]:
    return [Example(str(number), (text,), label) for number, (text, label) in enumerate(tiny.dev)]


@pytest.fixture(scope="session")
def texts(tiny: Any) -> list[tuple[str, ...]]:
    """Texts of many lengths, some repeated, one empty."""
    sentences = [text for text, _ in tiny.dev]
    joined = [" ".join(sentences[:count]) for count in (1, 2, 3, 2)]
    return [(text,) for text in [*sentences, *joined, "", "fine", "...", sentences[0]]]


@pytest.fixture
def full_victim(tiny: Any, load: Callable[..., LoadedCheckpoint]) -> Victim:
    return to_victim(load(tiny.full), place("cpu"))


@pytest.fixture(scope="session")
def save_adapter(tiny: Any) -> Callable[[Path, PeftConfig], torch.nn.Module]:
    """Writes an adapter whose weights are random but not zero, with labels beside it; returns the model."""

    def save(folder: Path, config: PeftConfig) -> torch.nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            model = BertForSequenceClassification.from_pretrained(tiny.base, id2label=LABELS, num_labels=2)
            adapted = get_peft_model(model, config).eval()
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    torch.nn.init.normal_(parameter, std=0.3)
        adapted.save_pretrained(folder)
        shutil.copy(tiny.peft / "config.json", folder / "config.json")
        return adapted

    return save


@pytest.fixture(scope="session")
def tokenizer(tiny: Any) -> BertTokenizerFast:
    return BertTokenizerFast.from_pretrained(tiny.base)


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[Head, int], list[int]]:
    """Lets a victim's model run out of memory on more than so many rows; gives the sizes that were tried."""

    def limit(victim: Head, largest: int) -> list[int]:
        forward, sizes = victim.model.forward, []

        def limited(**inputs: Any) -> Any:
            sizes.append(len(inputs["input_ids"]))
            if sizes[-1] > largest:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return forward(**inputs)

        monkeypatch.setattr(victim.model, "forward", limited)
        return sizes

    return limit
