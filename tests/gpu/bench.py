"""What the steps share: the device, the size, the victims and a pair of checkpoints on disk, each made once."""

from __future__ import annotations

import contextlib
import copy
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch

from gpu.models import (
    Size,
    balance,
    label,
    make_causal,
    make_classifier,
    make_questions,
    make_reader,
    make_sentences,
    make_tokenizer,
    make_words,
)
from gpu.world import World, write_world
from robustness.definitions.tasks import find_task
from robustness.tasks.gold import GoldSpan
from robustness.testsets.example import Example, Texts
from robustness.victims.batches import recover_memory
from robustness.victims.files.checkpoint import Checkpoint
from robustness.victims.heads.head import Head
from robustness.victims.heads.labels import Victim
from robustness.victims.heads.spans.answering import AnsweringVictim
from robustness.victims.heads.verbalisers import PromptedVictim
from robustness.victims.loading import Placement, load_checkpoint, to_victim

T = TypeVar("T")
ROOM = 3_000
"""Tokens of a batch that fit where memory is made short."""
V = TypeVar("V", Victim, PromptedVictim, AnsweringVictim)


@dataclass
class Bench:
    """A device and everything that is measured on it."""

    device: torch.device
    size: Size
    folder: Path
    _loaded: tuple[str, Head] | None = None

    @property
    def on_cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    @cached_property
    def words(self) -> list[str]:
        return make_words(self.size.words)

    @cached_property
    def tokenizer(self) -> Any:
        return make_tokenizer(self.words)

    @cached_property
    def encoder(self) -> Victim:
        """Labels, of a large encoder, float32."""
        model = make_classifier(self.size.large, len(self.tokenizer), self.device)
        victim = Victim(model, self.tokenizer, (0, 1))
        balance(victim, [model.classifier.out_proj], self.sentences[:64])
        return victim

    @cached_property
    def reader(self) -> AnsweringVictim:
        """Spans, of a base encoder, float32."""
        return AnsweringVictim(make_reader(self.size.base, len(self.tokenizer), self.device), self.tokenizer)

    @cached_property
    def prompted(self) -> PromptedVictim:
        """Labels, of a causal language model of a billion weights, float32."""
        tokenizer = make_tokenizer(self.words, ends=False)
        return PromptedVictim(
            make_causal(self.size.causal, len(tokenizer), self.device), tokenizer, find_task("sst2")
        )

    @cached_property
    def sentences(self) -> list[Texts]:
        return make_sentences(self.size.texts, self.words, self.size.longest)

    @cached_property
    def questions(self) -> list[Texts]:
        return make_questions(max(4, self.size.texts // 16), self.words)

    @cached_property
    def examples(self) -> list[Example]:
        """Sentences labelled as the encoder answers: every one is attacked."""
        return label(self.encoder, self.sentences[: self.size.examples])

    @cached_property
    def prompts(self) -> list[Example]:
        return label(self.prompted, self.sentences[: self.size.probed])

    @cached_property
    def asked(self) -> list[Example]:
        """Questions of one window whose gold answer is the reader's own."""
        questions = [texts for texts in self.questions if len(texts[1].split()) < 200][: self.size.probed]
        found = [each.best for each in self.reader.predict(questions, n_best=1)]
        return [
            Example(f"q{i}", texts, 1, attacked=(1,), answers=(GoldSpan(best, texts[1].index(best)),))
            for i, (texts, best) in enumerate(zip(questions, found, strict=True))
        ]

    @cached_property
    def world(self) -> World:
        """A pair of checkpoints with their base and rows, as files."""
        return write_world(self.folder / "world", self.size, self.words, self.tokenizer, self.device)

    def load(self, checkpoint: Checkpoint) -> Head:
        """Returns a checkpoint of the world as a run loads it; the last one is kept."""
        if self._loaded is None or self._loaded[0] != checkpoint.name:
            placement = Placement(self.device, torch.float32)
            self._loaded = checkpoint.name, to_victim(load_checkpoint(checkpoint, find_task("sst2")), placement)
        return self._loaded[1]

    def synchronise(self) -> None:
        """Waits for the device."""
        if self.on_cuda:
            torch.cuda.synchronize(self.device)

    def peak_bytes(self) -> int | None:
        """The most that was allocated since the last call; None where it is not a GPU's."""
        if not self.on_cuda:
            return None
        peak = torch.cuda.max_memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        return peak

    def lost(self) -> str | None:
        """Why the device answers nothing any more, or None."""
        try:
            recover_memory()
        except RuntimeError as error:
            return str(error).splitlines()[0]
        return None

    def rate(self, work: Callable[[], int]) -> float:
        """Returns how many things a second `work`, which returns their number, does."""
        self.synchronise()
        started = time.perf_counter()
        count = work()
        self.synchronise()
        return count / (time.perf_counter() - started)

    def describe(self) -> dict[str, Any]:
        """The machine and the libraries."""
        gpu = {}
        if self.on_cuda:
            properties = torch.cuda.get_device_properties(self.device)
            gpu = {
                "gpu": properties.name,
                "gpu_bytes": properties.total_memory,
                "compute_capability": f"{properties.major}.{properties.minor}",
                "cuda": torch.version.cuda,
            }
        names = ("torch", "transformers", "tokenizers", "peft", "accelerate", "numpy", "pydantic")
        versions = {"python": platform.python_version()} | {name: _version(name) for name in names}
        return {"device": str(self.device), "size": self.size.name, **gpu, "versions": versions}

    @contextlib.contextmanager
    def short_of_memory(self, victim: Head, tokens: int) -> Iterator[None]:
        """Within it a batch of `tokens` tokens does not fit: for want of memory, or by an exception."""
        with _little_memory(self.device, victim, tokens) if self.on_cuda else _refusing(victim.model, tokens):
            yield

    def twin(self, victim: V, device: str, dtype: torch.dtype) -> V:
        """Returns the same victim elsewhere or in another precision."""
        model = copy.deepcopy(victim.model).to(device=device, dtype=dtype)
        if isinstance(victim, PromptedVictim):
            return PromptedVictim(model, victim.tokenizer, find_task("sst2"))
        if isinstance(victim, AnsweringVictim):
            return AnsweringVictim(model, victim.tokenizer)
        return Victim(model, victim.tokenizer, victim.label_columns)


@contextlib.contextmanager
def _little_memory(device: torch.device, victim: Head, tokens: int) -> Iterator[None]:
    """Lets this process have what it holds and about what a batch of so many tokens takes."""
    needed = _measure_batch(device, victim, tokens)
    recover_memory()
    total = torch.cuda.get_device_properties(device).total_memory
    allowed = torch.cuda.memory_reserved(device) + needed
    torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
        recover_memory()


def _measure_batch(device: torch.device, victim: Head, tokens: int) -> int:
    """Bytes that a forward pass over so many tokens takes."""
    recover_memory()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    length = min(128, victim.max_tokens)
    ids = torch.full((max(1, tokens // length), length), 5, device=device)
    with torch.inference_mode():
        victim.model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return torch.cuda.max_memory_allocated(device) - before


@contextlib.contextmanager
def _refusing(model: Any, tokens: int) -> Iterator[None]:
    """Raises what CUDA raises for larger batches than `tokens`."""

    def refuse(_module: Any, arguments: Any, named: dict[str, Any]) -> None:
        ids = named.get("input_ids", arguments[0] if arguments else None)
        if ids is not None and ids.numel() > tokens:
            raise torch.cuda.OutOfMemoryError(f"{ids.numel()} tokens are refused on purpose")

    hook = model.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
