"""Fixtures of the probes' tests: models whose numbers are known, and the tiny arms as subjects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from robustness.definitions.tasks import find_task
from robustness.sensitivity.probe import Subject
from robustness.testsets.example import Example
from robustness.victims.checkpoint import read_checkpoint
from robustness.victims.gradients import EmbeddedBatch
from robustness.victims.loading import load_checkpoint, place, to_victim
from robustness.victims.victim import Victim

Function = Callable[[torch.Tensor], torch.Tensor]


@pytest.fixture(scope="session")
def as_batch() -> Callable[..., EmbeddedBatch]:
    """A batch of given points (n, tokens, dim) whose model is a function of them, labelled as it answers."""

    def make(function: Function, points: torch.Tensor, labels: Sequence[int] | None = None) -> EmbeddedBatch:
        with torch.no_grad():
            given = function(points).argmax(dim=1) if labels is None else torch.tensor(labels)
        inputs = {"attention_mask": torch.ones(points.shape[:2], dtype=torch.long)}
        return EmbeddedBatch(
            points, torch.ones(points.shape[:2], dtype=torch.bool), given, 1.0, inputs, lambda e, _: function(e)
        )

    return make


@pytest.fixture(scope="session")
def linear() -> tuple[Function, torch.Tensor]:
    """z = W x + b in double precision, W of shape (3, 40)."""
    rng = np.random.default_rng(3)
    weights, bias = torch.from_numpy(rng.normal(size=(3, 40))), torch.from_numpy(rng.normal(size=3))
    return (lambda points: points.flatten(1).to(weights.dtype) @ weights.T + bias), weights


@pytest.fixture(scope="session")
def points() -> torch.Tensor:
    """Thirty texts of five tokens of eight numbers, in double precision."""
    return torch.from_numpy(np.random.default_rng(4).normal(size=(30, 5, 8)))


@pytest.fixture(scope="session")
def examples(tiny: Any) -> list[Example]:
    return [Example(str(number), (text,), label) for number, (text, label) in enumerate(tiny.dev)]


@pytest.fixture(scope="session")
def victims(tiny: Any) -> Callable[[Path], Victim]:
    """A folder of the tiny world as a merged victim, loaded once."""

    @cache
    def load(folder: Path) -> Victim:
        loaded = load_checkpoint(read_checkpoint(folder.name, str(folder), str(tiny.base)), find_task("sst2"))
        return to_victim(loaded, place("cpu"))

    return load


@pytest.fixture(scope="session")
def subject_of(tiny: Any, victims: Any, examples: list[Example]) -> Callable[..., Subject]:
    """A folder of the tiny world as a probe sees it."""

    def make(folder: Path, count: int = 6, victim: Victim | None = None, chosen: Sequence[Example] = ()) -> Subject:
        return Subject(
            checkpoint=read_checkpoint(folder.name, str(folder), str(tiny.base)),
            examples=chosen or examples[:count],
            reserve=examples[12:],
            seed=0,
            digest="digest",
            load_victim=lambda: victim or victims(folder),
            load_unmerged=lambda checkpoint: load_checkpoint(checkpoint, find_task("sst2")).unmerged,
        )

    return make


@pytest.fixture(scope="session")
def by_example() -> Callable[..., Any]:
    """Readings to the values of one quantity and norm by example id."""

    def collect(readings: Any, quantity: str, norm: str | None = None) -> dict[str, float]:
        return {
            reading.example.id: reading.measurement.value
            for reading in readings
            if reading.example is not None
            and reading.measurement.quantity.name == quantity
            and (norm is None or reading.measurement.norm == norm)
        }

    return collect


class Scaled(torch.nn.Module):
    """A classifier whose logits are another's, multiplied."""

    def __init__(self, model: Any, factor: float) -> None:
        super().__init__()
        self.inner, self.factor, self.config = model, factor, model.config

    def get_input_embeddings(self) -> Any:
        return self.inner.get_input_embeddings()

    def forward(self, **inputs: Any) -> Any:
        return SimpleNamespace(logits=self.inner(**inputs).logits * self.factor)


@pytest.fixture(scope="session")
def scaled(tiny: Any, victims: Any) -> Victim:
    """The LoRA arm with ten times its logits."""
    victim = victims(tiny.peft)
    return Victim(Scaled(victim.model, 10.0), victim.tokenizer, victim._columns)
