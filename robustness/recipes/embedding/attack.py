"""Embedding attacks on a victim: batches by token length, each result judged by a fresh forward pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Protocol, final, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from robustness.engine.failures.crashes import Crash, Crashes
from robustness.engine.failures.watchdog import SearchTimeout, Watchdog
from robustness.engine.outcome import Status
from robustness.engine.seeding import example_generator
from robustness.errors import AttackError, CheckpointError, UsageError
from robustness.recipes.embedding.ball_attacks import BallAttack
from robustness.recipes.embedding.balls import Norm, sizes
from robustness.recipes.embedding.minimal_norm import MinimalAttack
from robustness.recipes.embedding.responses import lengthen
from robustness.recipes.embedding.trial import COSTS, EmbeddingResult
from robustness.tasks.abilities import Ability
from robustness.tasks.grading import Grade, grade_finite
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import EmbeddedBatch, frozen, margins
from robustness.victims.heads.head import Head
from robustness.victims.isolation import recover, without_frames

CHUNK = 1024
"""Examples sorted by length at a time; bounds memory."""

ROUNDING = 1e-5
"""Shrinks balls by this share, so that the rounded norm of a perturbation never exceeds its radius."""

MAX_SECONDS = 900.0
"""For one batch, with the model's passes; far more than a shipped recipe needs on one core."""

GeneratorOf = Callable[[Example], torch.Generator]
"""Gives an example a new generator on the CPU, with the same stream each time."""


@runtime_checkable
class EmbeddingAttack(Protocol):
    """The protocol of white-box attacks on embeddings."""

    def perturb(
        self, victim: Head, examples: Sequence[Example], generators: Sequence[torch.Generator]
    ) -> EmbeddingResult:
        """Attacks examples as one batch; delta is in the order and shape of `victim.embed(examples)`.

        Args:
            victim: what to attack.
            examples: a batch that fits the device.
            generators: one for each example, on the CPU, so that an outcome does not depend on the rest of the batch.
        """
        ...


@final
@dataclass(frozen=True, slots=True)
class WithinRadii:
    """A ball attack at growing radii: each radius attacks only the examples that survived the smaller ones.

    One run gives the curve of robust accuracy against epsilon, and the curve never rises.
    """

    method: BallAttack
    radii: tuple[float, ...]
    """In median token norms, smallest first."""

    def perturb(
        self, victim: Head, examples: Sequence[Example], generators: Sequence[torch.Generator]
    ) -> EmbeddingResult:
        """See EmbeddingAttack."""
        with frozen(victim):
            return attack_radii(self.method, victim.embed(examples), self.radii, generators)


@final
@dataclass(frozen=True, slots=True)
class Smallest:
    """A minimal-norm attack: its distances give the curve for every epsilon."""

    method: MinimalAttack

    def perturb(
        self, victim: Head, examples: Sequence[Example], generators: Sequence[torch.Generator]
    ) -> EmbeddingResult:
        """See EmbeddingAttack; draws nothing."""
        del generators
        with frozen(victim):
            batch = victim.embed(examples)
            return lengthen(batch, self.method.perturb(batch))


def attack_radii(
    method: BallAttack, batch: EmbeddedBatch, radii: Sequence[float], generators: Sequence[torch.Generator]
) -> EmbeddingResult:
    """Returns the result of a ball attack at its smallest successful radius, in median token norms."""
    result: EmbeddingResult | None = None
    for radius in radii:
        if result is None:
            result = method.perturb(batch, _radii(batch, radius), generators)
            continue
        rows = (~result.found & ~result.skipped).nonzero().flatten()
        if not len(rows):
            break
        part = batch.select(rows)
        later = method.perturb(part, _radii(part, radius), [generators[row] for row in rows.tolist()])
        result = _merge(result, rows, later)
    if result is None:
        raise AttackError("an attack within radii needs at least one radius")
    return result


def _radii(batch: EmbeddedBatch, radius: float) -> torch.Tensor:
    inside = radius * batch.unit * (1 - ROUNDING)
    return torch.full((len(batch.labels),), inside, device=batch.embeddings.device)


def _merge(result: EmbeddingResult, rows: torch.Tensor, later: EmbeddingResult) -> EmbeddingResult:
    """The result with some rows attacked again."""
    return replace(
        result,
        delta=result.delta.index_copy(0, rows, later.delta),
        found=result.found.index_copy(0, rows, later.found),
    ).with_costs_of(later, rows)


@final
@dataclass(frozen=True, slots=True)
class Judgement:
    """Fresh forward passes on a batch, clean and perturbed."""

    clean_logits: torch.Tensor
    """(batch, labels), float32."""
    logits: torch.Tensor
    """(batch, labels), float32, at the perturbed embeddings."""
    succeeded: torch.Tensor
    """(batch,): right before, wrong after; a tie is not wrong."""
    clean_grades: Sequence[Grade] | None = None
    """Grades of responses that must be read; None where the margin decides."""
    grades: Sequence[Grade] | None = None


def judge_embeddings(batch: EmbeddedBatch, delta: torch.Tensor) -> Judgement:
    """Evaluates perturbed embeddings afresh, independent of the attack.

    Args:
        batch: a fresh `embed` of the attacked examples.
        delta: (batch, tokens, dim), float32.

    Raises:
        AttackError: delta has another shape, is not finite, or is not zero outside the content.
    """
    if delta.shape != batch.embeddings.shape:
        raise AttackError(f"delta has shape {tuple(delta.shape)}; expected {tuple(batch.embeddings.shape)}")
    if not delta.isfinite().all():
        raise AttackError("delta is not finite")
    if delta[~batch.content].any():
        raise AttackError("delta is not zero at tokens that are not open to attack")
    with torch.no_grad():
        clean = batch.logits(batch.embeddings)
        logits = batch.logits(batch.embeddings + delta)
        before, after = batch.grades(batch.embeddings), batch.grades(batch.embeddings + delta)
    succeeded = (margins(clean, batch.labels) >= 0) & (margins(logits, batch.labels) < 0)
    if after is not None:
        succeeded &= torch.tensor([not grade.correct for grade in after], device=succeeded.device)
    return Judgement(clean, logits, succeeded, before, after)


@final
@dataclass(frozen=True, slots=True)
class EmbeddingOutcome:
    """What came of one example under an attack on embeddings."""

    example: Example
    status: Status
    """succeeded by the judge's pass, not by the attack's belief."""
    clean_logits: NDArray[np.float32] | None
    """(labels,)."""
    logits: NDArray[np.float32] | None
    """(labels,), of the perturbed embeddings."""
    l2: float
    """Norm of the perturbation, in embedding units."""
    linf: float
    unit: float
    """Median token norm: l2 / unit and linf / unit compare between models."""
    tokens: int
    """Content tokens; l2 / sqrt(tokens) compares between lengths."""
    queries: int
    """Points that the attack asked about, the clean one not included."""
    forwards: int
    """The judge's two included."""
    backwards: int
    zero_gradients: int
    """Points at which the gradient vanished; above 0, a failed attack is weak evidence."""
    seconds: float
    error: str | None = None
    clean_grade: Grade | None = None
    """None where nothing is graded: of a question the logits say whether it is right, not what is answered."""
    grade: Grade | None = None

    def relative_distance(self, norm: Norm) -> float:
        """Upper bound of the smallest norm that changes the answer, in median token norms.

        0 where it was wrong already, infinite where nothing was found.
        """
        if self.status is Status.SKIPPED:
            return 0.0
        return (self.l2 if norm is Norm.L2 else self.linf) / self.unit if self.status is Status.SUCCEEDED else np.inf


def attack_embeddings(
    attack: EmbeddingAttack,
    victim: Head,
    examples: Iterable[Example],
    generator_of: GeneratorOf,
    *,
    name: str = "on embeddings",
    max_seconds: float = MAX_SECONDS,
) -> Iterator[EmbeddingOutcome]:
    """Yields one judged outcome for each example, in the order in which batches end.

    A batch that fails for lack of memory or time, or because of one example, is halved until the example at fault is
    alone. That example is `errored`.

    Args:
        attack: what to run.
        victim: what to attack.
        examples: streamed in chunks, sorted by token length within each.
        generator_of: see `seeded_generators`.
        name: of the attack.
        max_seconds: what a batch may take; past it, it is halved.

    Raises:
        AttackError: it fails on three examples in a row.
        CheckpointError: a victim whose embeddings cannot be attacked.
        UsageError: an attack that does not fit the task.
        VictimGoneError: the device is lost.
    """
    waiting = iter(examples)
    places = count()
    crashes = Crashes(name)
    with Watchdog() as watchdog:
        while chunk := list(islice(waiting, CHUNK)):
            stack = victim.gradient_batches(chunk)[::-1]
            while stack:
                batch = stack.pop()
                crash: Crash | None = None
                failure: BaseException | None = None
                started = time.perf_counter()
                try:
                    with watchdog.limit(max_seconds):
                        outcomes = _attack_batch(attack, victim, batch, [generator_of(each) for each in batch])
                except (CheckpointError, UsageError):
                    raise
                except (Exception, SearchTimeout) as error:  # a user's attack may raise anything; the row says what
                    failure = without_frames(error)
                if failure is not None:  # only here is its memory free
                    recover(_reason(failure, max_seconds))
                    if len(batch) > 1:
                        stack += [batch[len(batch) // 2 :], batch[: len(batch) // 2]]
                        continue
                    crash = None if isinstance(failure, SearchTimeout) else Crash(batch[0], failure)
                    outcomes = [errored(batch[0], _reason(failure, max_seconds))]
                each = (time.perf_counter() - started) / len(batch)
                for outcome in outcomes:
                    yield replace(outcome, seconds=each)
                    crashes.add(next(places), crash or outcome.status is not Status.ERRORED)


def _reason(error: BaseException, max_seconds: float) -> str:
    if isinstance(error, SearchTimeout):
        return f"the attack took more than {max_seconds:g} seconds for this example"
    return f"{type(error).__name__}: {error}"


def seeded_generators(seed: int, attack_digest: str) -> GeneratorOf:
    """Returns the function from an example to its generator, seeded by (run seed, attack digest, example id)."""

    def generator_of(example: Example) -> torch.Generator:
        draw = example_generator(seed, attack_digest, example.id).integers(2**63)
        return torch.Generator().manual_seed(int(draw))

    return generator_of


def _attack_batch(
    attack: EmbeddingAttack, victim: Head, examples: Sequence[Example], generators: Sequence[torch.Generator]
) -> list[EmbeddingOutcome]:
    result: object = attack.perturb(victim, examples, generators)
    if not isinstance(result, EmbeddingResult):
        raise AttackError(f"perturb returned {type(result).__name__}; expected an EmbeddingResult")
    batch = victim.embed(examples)
    judgement = judge_embeddings(batch, result.delta)
    clean, logits = judgement.clean_logits.cpu().numpy(), judgement.logits.cpu().numpy()
    l2, linf = sizes(result.delta, Norm.L2).tolist(), sizes(result.delta, Norm.LINF).tolist()
    succeeded, tokens = judgement.succeeded.tolist(), batch.content.sum(dim=1).tolist()
    labels = batch.labels.tolist()
    clean_grades = _grades(victim, examples, clean, judgement.clean_grades)
    grades = _grades(victim, examples, logits, judgement.grades)
    costs = [getattr(result, name).tolist() for name in COSTS]
    return [
        EmbeddingOutcome(
            example=example,
            status=_status(labels[row], clean[row], logits[row], succeeded=succeeded[row]),
            clean_logits=clean[row],
            logits=logits[row],
            l2=l2[row],
            linf=linf[row],
            unit=batch.unit,
            tokens=tokens[row],
            queries=queries,
            forwards=forwards + 2,
            backwards=backwards,
            zero_gradients=zero_gradients,
            seconds=0.0,
            error=None if _is_finite(clean[row], logits[row]) else "the victim's scores are not finite",
            clean_grade=clean_grades[row],
            grade=grades[row],
        )
        for row, (example, queries, forwards, backwards, zero_gradients) in enumerate(
            zip(examples, *costs, strict=True)
        )
    ]


def _grades(
    victim: Head, examples: Sequence[Example], logits: NDArray[np.float32], known: Sequence[Grade] | None
) -> Sequence[Grade | None]:
    """What a judgement says of responses, or the victim's grader of scores."""
    if known is not None:
        return known
    if Ability.SCORES not in victim.can:
        return [None] * len(examples)
    return [grade_finite(victim.grader, row, example) for row, example in zip(logits, examples, strict=True)]


def _status(label: int, clean: NDArray[np.float32], logits: NDArray[np.float32], *, succeeded: bool) -> Status:
    if not _is_finite(clean, logits):
        return Status.ERRORED
    if int(clean.argmax()) != label:
        return Status.SKIPPED
    return Status.SUCCEEDED if succeeded else Status.FAILED


def _is_finite(clean: NDArray[np.float32], logits: NDArray[np.float32]) -> bool:
    return bool(np.isfinite(clean).all() and np.isfinite(logits).all())


def errored(example: Example, reason: str) -> EmbeddingOutcome:
    """Returns the outcome of an example that could not be attacked."""
    return EmbeddingOutcome(example, Status.ERRORED, None, None, 0.0, 0.0, 1.0, 0, 0, 0, 0, 0, 0.0, reason)
