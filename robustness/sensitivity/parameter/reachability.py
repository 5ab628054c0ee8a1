"""The share of a gradient in the directions that a PEFT method can move."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from pydantic import PositiveInt

from robustness.recipes.embedding.balls import Norm
from robustness.sensitivity.batching import measure_batches, require_float32
from robustness.sensitivity.input.distance import Ensemble
from robustness.sensitivity.measurement import Kind, Measurement, Quantity, Space, Target, measure
from robustness.sensitivity.parameter.tangent import Tangent, read_tangent
from robustness.sensitivity.parameter.weights import Delta, WeightSpace, block_parameters, squared_norm
from robustness.sensitivity.probe import Reading, Subject, Unsupported
from robustness.tasks.abilities import Ability
from robustness.testsets.example import Example
from robustness.tuners.matrices import weight_storages
from robustness.victims.heads.embedded_batch import EmbeddedBatch, margins

CLEAN = Quantity("reach-clean", "share", scale_free=True)
ADVERSARIAL = Quantity("reach-adversarial", "share", scale_free=True)
MARGIN = Quantity("reach-margin", "share", scale_free=True)
GAP = Quantity("reachability-gap", "1", scale_free=True)
CHANCE = Quantity("reach-chance", "share", scale_free=True)
ENRICHMENT = Quantity("enrichment-adversarial", "1", scale_free=True)
ENERGY_CHANCE = {
    CLEAN: Quantity("reach-chance-by-energy-clean", "share", scale_free=True),
    ADVERSARIAL: Quantity("reach-chance-by-energy-adversarial", "share", scale_free=True),
}
ENERGY_ENRICHMENT = Quantity("enrichment-adversarial-by-energy", "1", scale_free=True)
TOTALS = {
    CLEAN: Quantity("reach-clean-of-mean-loss", "share"),
    ADVERSARIAL: Quantity("reach-adversarial-of-mean-loss", "share"),
}


@final
@dataclass(frozen=True, slots=True)
class Reachability:
    """rho^2(v) = |P_T v|^2 / |v|^2 for gradients v of the merged blocks' weights, T the adapter's tangent space.

    v is the gradient of the loss at the clean point and at the nearest adversarial point found. With more than two
    labels it is also the gradient of the clean margin, otherwise a multiple of the clean loss's. Exact at the point.
    `reach-chance` is dim T / dim, the expected share of a random gradient. `reach-chance-by-energy` is the expected
    share of a gradient that is random within each module, with the module's part of |v|^2. It reflects the modules
    that a method adapts, not its directions there. `enrichment-adversarial` is the adversarial share over the first
    chance, `-by-energy` over the second. `reachability-gap` is the adversarial share over the clean share. It is
    small if the subspace cannot repair the error, to first order at this point. A full checkpoint is measured with
    its partner's T, as it is at the partner. This separates the subspace from the point. If dim T is known only to a
    bound, chances are upper bounds and enrichments lower bounds. Readings of the whole are of the mean loss.
    """

    attack_steps: PositiveInt
    """Steps of the attack that finds the adversarial points."""
    space: Space = Space.PARAMETER
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.SCORES})

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""
        require_float32(subject.victim)
        parameters = block_parameters(subject.victim.model)
        tangents = find_tangents(subject, parameters)
        found: dict[str, torch.Tensor] = {}
        ensemble = Ensemble(Norm.L2, self.attack_steps)

        def attack(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            result = ensemble.search(batch)
            for row, example in enumerate(examples):
                if result.found[row]:
                    found[example.id] = result.delta[row, batch.attended[row]]
            return []

        yield from measure_batches(subject, ADVERSARIAL, attack)
        weights = WeightSpace(parameters)
        totals: dict[Quantity, dict[str, torch.Tensor]] = {CLEAN: {}, ADVERSARIAL: {}}

        def of_example(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            with weights:
                gradients = loss_gradients(batch, weights, found.get(examples[0].id))
            for quantity, total in totals.items():
                if quantity in gradients:
                    _add(total, gradients[quantity])
            return [Reading(each, examples[0]) for each in measure_shares(gradients, tangents)]

        yield from measure_batches(subject, CLEAN, of_example, singly=True)
        for scope, tangent in tangents:
            kind = Kind.EXACT if tangent.is_exact else Kind.UPPER
            yield Reading(Measurement(CHANCE, tangent.chance, kind, target=Target.THETA, scope=scope))
            for quantity, total in totals.items():
                if total:
                    yield Reading(_measured(TOTALS[quantity], reached_share(total, tangent), scope))


@dataclass(frozen=True, slots=True)
class ScaledGradient:
    """A gradient with respect to the weights: `factor` times `slope`; both have the same share in a subspace."""

    slope: Delta
    factor: float = 1.0


def loss_gradients(
    batch: EmbeddedBatch, weights: WeightSpace, delta: torch.Tensor | None
) -> dict[Quantity, ScaledGradient]:
    """Returns the gradients of one example with respect to the weights, by the name of their share.

    With two labels the loss's gradient is computed as -(1 - p_y) times the margin's. This saves a backward pass and
    avoids underflow where the model is sure.

    Args:
        batch: of one example.
        weights: entered.
        delta: (tokens, dim), the nearest adversarial point; None: omits its gradient.
    """
    points = {CLEAN: batch.embeddings} | ({} if delta is None else {ADVERSARIAL: batch.embeddings + delta[None]})
    gradients: dict[Quantity, ScaledGradient] = {}
    for quantity, point in points.items():
        logits: list[torch.Tensor] = []

        def margin(point: torch.Tensor = point, logits: list[torch.Tensor] = logits) -> torch.Tensor:
            logits.append(batch.logits(point))
            return margins(logits[0], batch.labels).sum()

        def loss(point: torch.Tensor = point) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(batch.logits(point), batch.labels)

        value, slope = weights.gradient(margin)
        if quantity is CLEAN:
            gradients[MARGIN] = ScaledGradient(slope)
        if logits[0].shape[1] == 2:
            gradients[quantity] = ScaledGradient(slope, -float(torch.sigmoid(-value)))
        else:
            gradients[quantity] = ScaledGradient(weights.gradient(loss)[1])
    return gradients


def reached_shares(gradients: Mapping[Quantity, ScaledGradient], tangent: Tangent) -> dict[Quantity, float]:
    """Returns each gradient's rho^2; projects multiples of one slope once."""
    slopes = {id(gradient.slope): gradient.slope for gradient in gradients.values()}
    shares = {key: reached_share(slope, tangent) for key, slope in slopes.items()}
    return {quantity: shares[id(gradient.slope)] for quantity, gradient in gradients.items()}


def reached_share(gradient: Delta, tangent: Tangent) -> float:
    """Returns rho^2; not finite where the gradient vanishes."""
    whole = squared_norm(gradient)
    return tangent.projected_square(gradient) / whole if whole > 0 else float("nan")


def find_tangents(subject: Subject, parameters: Mapping[str, torch.Tensor]) -> list[tuple[str, Tangent]]:
    """Returns the named tangent spaces for a checkpoint: its own or its partners'.

    Raises:
        Unsupported: there is none; the message has every adapter's reason.
    """
    adapters = [subject.checkpoint] if subject.checkpoint.is_adapter else list(subject.partners)
    storages = weight_storages(subject.any_victim.model)
    tangents, reasons = [], []
    for adapter in adapters:
        try:
            tangent = read_tangent(adapter, parameters, storages, subject.load_unmerged)
            tangents.append((f"tangent of {adapter.name}", tangent))
        except Unsupported as error:
            reasons.append(str(error))
    if not tangents:
        raise Unsupported(
            "; ".join(dict.fromkeys(reasons)) or "a full checkpoint without a partner reaches everything"
        )
    return tangents


def measure_shares(
    gradients: Mapping[Quantity, ScaledGradient], tangents: Sequence[tuple[str, Tangent]]
) -> Iterator[Measurement]:
    """Yields the shares of one example's gradients in each named tangent space.

    The margin has a row only if it differs: with two labels its gradient is a multiple of the clean loss's.
    """
    passes = len({id(gradient.slope) for gradient in gradients.values()})
    paid = {"forwards": passes, "backwards": passes}
    same = gradients[MARGIN].slope is gradients[CLEAN].slope
    for scope, tangent in tangents:
        shares = reached_shares(gradients, tangent)
        chances = {key: tangent.chance_by_energy(gradients[key].slope) for key in ENERGY_CHANCE if key in gradients}
        for quantity, share in shares.items():
            if quantity is not MARGIN or not same:
                yield _measured(quantity, share, scope, **paid)
        for quantity, chance in chances.items():
            yield _bounded(ENERGY_CHANCE[quantity], chance, scope, tangent, Kind.UPPER)
        if ADVERSARIAL in shares:
            found, by_energy = shares[ADVERSARIAL], chances[ADVERSARIAL]
            yield _bounded(ENRICHMENT, found / tangent.chance, scope, tangent, Kind.LOWER)
            if by_energy > 0:
                yield _bounded(ENERGY_ENRICHMENT, found / by_energy, scope, tangent, Kind.LOWER)
            if shares[CLEAN] > 0:
                yield _measured(GAP, found / shares[CLEAN], scope)


def _bounded(quantity: Quantity, value: float, scope: str, tangent: Tangent, otherwise: Kind) -> Measurement:
    """Readings that follow from dim T: exact if dim T is exact, otherwise a bound."""
    measured = _measured(quantity, value, scope)
    return measured if tangent.is_exact else replace(measured, kind=otherwise)


def _measured(quantity: Quantity, value: float, scope: str, **paid: int) -> Measurement:
    return measure(quantity, value, Kind.EXACT, target=Target.THETA, scope=scope, norm="frobenius", **paid)


def _add(total: dict[str, torch.Tensor], gradient: ScaledGradient) -> None:
    for name, value in gradient.slope.items():
        total.setdefault(name, torch.zeros_like(value)).add_(value, alpha=gradient.factor)
