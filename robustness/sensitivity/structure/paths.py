"""Shows which part of a weight update carries accuracy and fragility, by changing parts of the update."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from robustness.engine.seeding import example_generator
from robustness.sensitivity.batching import measure_batches, require_float32
from robustness.sensitivity.input.jacobian import margin_gradients
from robustness.sensitivity.measurement import (
    Aggregate,
    Direction,
    Kind,
    Measurement,
    MeasurementStatus,
    Quantity,
    Space,
    Target,
    measure,
)
from robustness.sensitivity.parameter.weights import replaced
from robustness.sensitivity.probe import Reading, Subject
from robustness.sensitivity.structure.randomised import Directions, find_device
from robustness.sensitivity.structure.updates import Updates, WeightUpdate, refuse_unmerged
from robustness.tasks.abilities import Ability
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import EmbeddedBatch, margins, median_token_norm

ERROR = Quantity("randomised-svd-error", scale_free=True)
Change = Callable[[WeightUpdate, Directions], torch.Tensor]
"""From a tensor before and after fine-tuning to its replacement."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One changed form of the checkpoint."""

    kind: str
    """The budget_kind of curves.csv."""
    amount: float
    change: Change
    matrices_alone: bool = True
    """Whether biases, normalisations and embeddings keep their trained values."""


@final
@dataclass(frozen=True, slots=True)
class UpdatePath:
    """Accuracy, clean and after one gradient step of fixed size, of the checkpoint with parts of dW changed.

    `t` sets all fine-tuned tensors except the head to W_0 + t dW. The others change only the linear layers' matrices.
    `rank` truncates dW to its leading directions. `top` and `rest` project dW into and out of W_0's leading
    directions. `intruders` scales the directions of arXiv 2410.21228. On an adversarial test set the accuracy is that
    of its adversarial rows. The second accuracy is an upper bound of robust accuracy in that ball, because a step may
    fail to find a wrong answer.

    Decompositions of large matrices are randomised, on the run's device. Accuracies are then estimates, and
    `randomised-svd-error` is the largest measured error, relative to the matrix's largest singular value.
    """

    steps: tuple[NonNegativeFloat, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
    """Values of t in W_0 + t dW."""
    ranks: tuple[PositiveInt, ...] = (1, 4, 16)
    """Ranks to which dW is truncated."""
    tops: tuple[PositiveInt, ...] = (8, 32)
    """Numbers of leading directions of W_0 for the projections of dW."""
    scales: tuple[NonNegativeFloat, ...] = (0.0, 0.5)
    """Factors of the intruder directions."""
    radius: PositiveFloat = 0.1
    """Radius of the gradient step, in median token norms of the trained checkpoint."""
    space: Space = Space.PARAMETER
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.SCORES})

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""
        require_float32(subject.victim)
        median_token_norm(subject.victim)  # computed now, with the trained embeddings, and kept
        with Updates(subject.checkpoint, subject) as updates:
            parameters = _parameters_by_base_name(subject, updates)
            unknown = next((each.key for each in updates.others() if bool(each.change.any())), None)
            for variant in self._variants():
                if unknown and variant.matrices_alone:
                    yield _unsupported(variant, unknown)
                else:
                    yield from self._of_variant(subject, variant, updates, parameters)

    def _variants(self) -> Iterator[Variant]:
        for t in self.steps:
            yield Variant("t", t, lambda u, _, t=t: u.before + t * u.change, matrices_alone=False)  # type: ignore[misc]
        for rank in self.ranks:
            yield Variant("rank", rank, lambda u, d, k=rank: cut_rank(u, k, d))  # type: ignore[misc]
        for top in self.tops:
            yield Variant("top", top, lambda u, d, k=top: u.before + into_top(u, k, d))  # type: ignore[misc]
            yield Variant("rest", top, lambda u, d, k=top: u.after - into_top(u, k, d))  # type: ignore[misc]
        for scale in self.scales:
            yield Variant("intruders", scale, lambda u, d, s=scale: scale_intruders(u, s, d))  # type: ignore[misc]

    def _of_variant(
        self,
        subject: Subject,
        variant: Variant,
        updates: Updates,
        parameters: Mapping[str, torch.nn.Parameter],
    ) -> list[Reading]:
        matrices = updates.matrices() if variant.matrices_alone else updates.all()
        device = find_device(subject.resources.device)
        changed: dict[str, torch.Tensor] = {}
        errors: list[float] = []
        for update in matrices:
            seed = int(example_generator(subject.seed, subject.digest, update.name).integers(2**63 - 1))
            if update.key in parameters and bool(update.change.any()):
                directions = Directions(torch.Generator().manual_seed(seed), device, errors)
                changed[update.key] = update.stored(variant.change(update, directions))
        exact, upper = (Kind.ESTIMATE, Kind.ESTIMATE) if errors else (Kind.EXACT, Kind.UPPER)
        with replaced(parameters, changed):
            clean, stepped = (_quantity(name, variant) for name in ("accuracy", "step-accuracy"))

            def of_batch(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
                right, robust = answers(batch, self.radius)
                return [
                    Reading(
                        measure(quantity, float(value), kind, target=Target.THETA, radius=radius, norm=norm), example
                    )
                    for quantity, values, kind, radius, norm in (
                        (clean, right, exact, None, None),
                        (stepped, robust, upper, self.radius, "l2"),
                    )
                    for example, value in zip(examples, values.tolist(), strict=True)
                ]

            found = list(measure_batches(subject, clean, of_batch))
        if errors:
            scope = f"{variant.kind} {variant.amount:g}"
            found.append(Reading(measure(ERROR, max(errors), Kind.EXACT, target=Target.THETA, scope=scope)))
        return found


def answers(batch: EmbeddedBatch, radius: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns which rows are right, and which stay right after a step against the margin's gradient, bool (batch,).

    The step has l2 norm `radius` times the batch's unit over all content tokens; it is zero for a zero gradient.
    """
    gradient, values = margin_gradients(batch)
    norms = gradient.flatten(1).norm(dim=1).clamp_min(1e-30)
    step = gradient / norms[:, None, None] * (radius * batch.unit)
    with torch.no_grad():
        after = margins(batch.logits(batch.embeddings - step), batch.labels)
    return values > 0, (values > 0) & (after > 0)


def cut_rank(update: WeightUpdate, rank: int, directions: Directions) -> torch.Tensor:
    """Returns W_0 plus the best approximation of dW of that rank."""
    top = directions.leading(update.change, rank)
    return update.before + ((top.left * top.values) @ top.right.T).float()


def into_top(update: WeightUpdate, k: int, directions: Directions) -> torch.Tensor:
    """Returns U_k Ukt dW V_k Vkt, with the k leading directions of W_0 on both sides."""
    top = directions.leading(update.before, k)
    core = top.left.T @ update.change.double() @ top.right
    return (top.left @ core @ top.right.T).float()


def scale_intruders(
    update: WeightUpdate, scale: float, directions: Directions, k: int = 10, threshold: float = 0.5
) -> torch.Tensor:
    """Returns W + (scale - 1) sum s_j u_j v_jt over W's intruder directions (arXiv 2410.21228): 1 changes nothing."""
    base = directions.all(update.before)
    tuned = directions.leading(update.after, k)
    strange = (tuned.left.T @ base.left).abs().amax(dim=1) < threshold
    part = (tuned.left[:, strange] * tuned.values[strange]) @ tuned.right[:, strange].T
    return update.after + (scale - 1) * part.float()


def _quantity(name: str, variant: Variant) -> Quantity:
    return Quantity(
        f"{name}-at-{variant.kind}-{variant.amount:g}",
        direction=Direction.ROBUST,
        aggregate=Aggregate.MEAN,
        scale_free=True,
    )


def _unsupported(variant: Variant, name: str) -> Reading:
    reason = f"{name} was changed too, and is no single matrix of inputs to outputs: its full change would stay"
    status = MeasurementStatus.UNSUPPORTED
    blank = Measurement(
        _quantity("accuracy", variant), None, Kind.ESTIMATE, target=Target.THETA, status=status, reason=reason
    )
    return Reading(blank)


def _parameters_by_base_name(subject: Subject, updates: Updates) -> dict[str, torch.nn.Parameter]:
    model = subject.victim.model
    refuse_unmerged(model, subject.checkpoint)
    own = dict(model.named_parameters())
    return {base: own[tuned] for base, tuned in updates.names.items() if tuned in own}
