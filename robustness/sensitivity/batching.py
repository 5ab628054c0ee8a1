"""Measures examples in batches: halves a batch that does not fit, and errors single examples that fail."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, final

import torch

from robustness.engine.seeding import example_generator
from robustness.errors import CheckpointError, UsageError
from robustness.sensitivity.measurement import Kind, Measurement, MeasurementStatus, Quantity
from robustness.sensitivity.probe import Reading, Subject, Unsupported
from robustness.testsets.example import Example
from robustness.victims.batches import recover_memory
from robustness.victims.heads.embedded_batch import EmbeddedBatch, frozen
from robustness.victims.heads.head import Head

logger = logging.getLogger(__name__)
T = TypeVar("T")

MeasureBatch = Callable[[Sequence[Example], EmbeddedBatch], Sequence[Reading]]
"""From examples and their embeddings, as one batch, to readings."""


def measure_batches(
    subject: Subject,
    quantity: Quantity,
    measure: MeasureBatch,
    *,
    singly: bool = False,
    any_precision: bool = False,
    of_responses: bool = False,
    needs_margin: bool = True,
) -> Iterator[Reading]:
    """Yields the readings of all examples, batched by token length, with the victim's parameters frozen.

    A batch that fails for lack of memory or because of one example is halved until the example at fault is alone.
    That example is errored. An example without a margin is unsupported, unless the numbers need none.

    Args:
        subject: the examples and their victim.
        quantity: named by the rows of errored examples.
        measure: measures a batch.
        singly: whether each example is a batch of its own, unpadded.
        any_precision: whether the numbers are valid in bfloat16 too.
        of_responses: whether they are meaningful for the margin of a response of several tokens.
        needs_margin: False: an example without a margin is measured too, as a batch of its own.

    Raises:
        Unsupported: the victim's embeddings are not accessible, or its responses are not measured.
    """
    victim = subject.any_victim if of_responses else subject.deciding_victim
    if not any_precision:
        require_float32(victim)
    with refusals_as_unsupported():
        unfit = victim.find_unfit(subject.examples)
        marginless = [each for each in subject.examples if each.id in unfit]
        batches = victim.gradient_batches([each for each in subject.examples if each.id not in unfit])[::-1]
        if needs_margin:
            yield from (_unsupported(quantity, unfit[each.id], each) for each in marginless)
        else:
            batches = [[each] for each in marginless] + batches
        stack = [[example] for batch in batches for example in batch[::-1]] if singly else batches
        while stack:
            examples = stack.pop()
            try:
                with frozen(victim):
                    readings = measure(examples, victim.embed(examples))
            except (Unsupported, CheckpointError, UsageError):
                raise
            except Exception as error:  # memory, or an error of one text: the other examples continue
                if victim.device.type == "cuda":
                    torch.cuda.empty_cache()
                if len(examples) > 1:
                    stack += [examples[len(examples) // 2 :], examples[: len(examples) // 2]]
                    continue
                readings = [errored_reading(quantity, f"{type(error).__name__}: {error}", examples[0])]
            yield from readings


@final
@dataclass(frozen=True, slots=True)
class FittingBatches:
    """The batches of a function of all examples together, as large as the memory allows."""

    batches: list[EmbeddedBatch]
    """Halved in place, so that whoever holds the list sees it."""

    def run(self, function: Callable[[], T]) -> T:
        """Returns what a function returns; starts it again with the largest batches halved if it lacks memory.

        Raises:
            OutOfMemoryError: single texts do not fit.
        """
        while True:
            try:
                return function()
            except torch.OutOfMemoryError:
                if all(len(batch.labels) == 1 for batch in self.batches):
                    raise
            recover_memory()
            self._halve()

    def _halve(self) -> None:
        limit = max(batch.content.numel() for batch in self.batches if len(batch.labels) > 1) // 2
        logger.warning("out of memory: batches are now of %d tokens", limit)
        self.batches[:] = [part for batch in self.batches for part in _parts(batch, limit)]


def _parts(batch: EmbeddedBatch, limit: int) -> list[EmbeddedBatch]:
    rows, tokens = batch.content.shape
    parts = torch.split(torch.arange(rows, device=batch.labels.device), max(1, limit // tokens))
    return [batch] if len(parts) == 1 else [batch.select(part) for part in parts]


@contextmanager
def refusals_as_unsupported() -> Iterator[None]:
    """Raises Unsupported for a limit of the victim or the task, which is no example's fault."""
    try:
        yield
    except (CheckpointError, UsageError) as error:
        raise Unsupported(str(error)) from None


def require_float32(victim: Head) -> None:
    """Raises Unsupported in a lower precision, which rounds small perturbations away, so that no bound holds."""
    if any(parameter.dtype is torch.int8 for parameter in victim.model.parameters()):
        raise Unsupported("its activations are rounded to eight bits and have no derivative")
    dtype = next(victim.model.parameters()).dtype
    if dtype not in (torch.float32, torch.float64):
        raise Unsupported(f"in {str(dtype).removeprefix('torch.')} a bound would not hold; run with --dtype float32")


def errored_reading(quantity: Quantity, reason: str, example: Example | None = None) -> Reading:
    """Returns a row with the error."""
    blank = Measurement(quantity, None, Kind.ESTIMATE, status=MeasurementStatus.ERRORED, reason=reason)
    return Reading(blank, example)


def _unsupported(quantity: Quantity, reason: str, example: Example) -> Reading:
    status = MeasurementStatus.UNSUPPORTED
    return Reading(Measurement(quantity, None, Kind.ESTIMATE, status=status, reason=reason), example)


def torch_generator(subject: Subject, example: Example) -> torch.Generator:
    """Returns the example's own generator on the CPU, seeded by (run seed, probe digest, example id)."""
    draw = example_generator(subject.seed, subject.digest, example.id).integers(2**63)
    return torch.Generator().manual_seed(int(draw))
