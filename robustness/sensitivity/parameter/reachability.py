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
    copies: ClassVar[int] = 2
    """Copies of the blocks' weights beside the model: the gradient, and the sum over examples."""

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
        shares: dict[str, Shares] = {}
        totals: dict[Quantity, list[Share]] = {}
        weights = WeightSpace(parameters)

        def at_clean(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            with weights:
                shares[examples[0].id] = total.add(clean_gradients(batch, weights))
            return []

        def at_adversarial(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            own, delta = shares.get(examples[0].id), found.get(examples[0].id)
            if own is None:
                return []
            if delta is not None:
                with weights:
                    own |= total.add(adversarial_gradient(batch, weights, delta))
            return [Reading(each, examples[0]) for each in measure_shares(own, tangents)]

        # One sweep after the other: the sums of both gradients would be two copies of the weights.
        for quantity, sweep in ((CLEAN, at_clean), (ADVERSARIAL, at_adversarial)):
            total = _Total(quantity, weights, [tangent for _, tangent in tangents])
            yield from measure_batches(subject, quantity, sweep, singly=True)
            totals[quantity] = total.shares()
        for place, (scope, tangent) in enumerate(tangents):
            kind = Kind.EXACT if tangent.is_exact else Kind.UPPER
            yield Reading(Measurement(CHANCE, tangent.chance, kind, target=Target.THETA, scope=scope))
            for quantity, of_tangents in totals.items():
                if of_tangents:
                    yield Reading(_measured(TOTALS[quantity], of_tangents[place].reached, scope))


@dataclass(frozen=True, slots=True)
class Share:
    """The share of a gradient's squared norm in a tangent space."""

    reached: float
    """rho^2."""
    by_energy: float
    """Its expectation for a gradient that is random within each module."""


Shares = dict[Quantity, list[Share]]
"""Of one example's gradients, in each tangent space."""

Gradients = Iterator[dict[Quantity, float]]
"""Gradients, one after the other in the slope of the weights: the quantities that are multiples of it, by factor."""


@final
class _Total:
    """The sum of one quantity's gradients, and the shares of each."""

    def __init__(self, quantity: Quantity, weights: WeightSpace, tangents: Sequence[Tangent]) -> None:
        self._quantity, self._weights, self._tangents = quantity, weights, tangents
        self._total: dict[str, torch.Tensor] = {}

    def add(self, gradients: Gradients) -> Shares:
        """Returns the shares of an example's gradients, and adds those of the quantity to the sum."""
        found: Shares = {}
        for factors in gradients:
            slope = self._weights.slope
            shares = [share_of(slope, tangent) for tangent in self._tangents]
            found |= dict.fromkeys(factors, shares)
            for name, value in slope.items() if self._quantity in factors else ():
                total = self._total.setdefault(name, torch.zeros_like(value))
                total.add_(value, alpha=factors[self._quantity])
        return found

    def shares(self) -> list[Share]:
        """Returns the shares of the sum; empty without a gradient."""
        return [share_of(self._total, tangent) for tangent in self._tangents] if self._total else []


def clean_gradients(batch: EmbeddedBatch, weights: WeightSpace) -> Gradients:
    """Computes the gradients of one example's loss and, with more than two labels, of its margin.

    Args:
        batch: of one example.
        weights: entered; their slope holds the gradient of each step.
    """
    labels, factor = _differentiate(batch, weights, batch.embeddings)
    yield {CLEAN: factor}
    if labels > 2:
        weights.clear()
        weights.add_slope(lambda: margins(batch.logits(batch.embeddings), batch.labels).sum())
        yield {MARGIN: 1.0}


def adversarial_gradient(batch: EmbeddedBatch, weights: WeightSpace, delta: torch.Tensor) -> Gradients:
    """Computes the gradient of one example's loss at its nearest adversarial point.

    Args:
        batch: of one example.
        weights: entered; their slope holds the gradient.
        delta: (tokens, dim), from the clean to the adversarial point.
    """
    yield {ADVERSARIAL: _differentiate(batch, weights, batch.embeddings + delta[None])[1]}


def _differentiate(batch: EmbeddedBatch, weights: WeightSpace, point: torch.Tensor) -> tuple[int, float]:
    """Sets the slope to a gradient of which the loss's is a multiple; returns the number of labels, and the factor.

    With two labels the loss's gradient is -(1 - p_y) times the margin's, which does not vanish where the model is
    sure.
    """
    found: list[tuple[int, float]] = []

    def function() -> torch.Tensor:
        logits = batch.logits(point)
        if logits.shape[1] > 2:
            found.append((logits.shape[1], 1.0))
            return torch.nn.functional.cross_entropy(logits, batch.labels)
        margin = margins(logits, batch.labels).sum()
        found.append((2, -float(torch.sigmoid(-margin.detach()))))
        return margin

    weights.clear()
    weights.add_slope(function)
    return found[0]


def share_of(gradient: Delta, tangent: Tangent) -> Share:
    """Returns a gradient's share in a tangent space, and the one expected by chance."""
    return Share(reached_share(gradient, tangent), tangent.chance_by_energy(gradient))


def reached_share(gradient: Delta, tangent: Tangent) -> float:
    """Returns rho^2; not finite where the gradient vanishes."""
    whole = squared_norm(gradient)
    return tangent.projected_square(gradient) / whole if whole > 0 else float("nan")


def find_tangents(subject: Subject, parameters: Mapping[str, torch.Tensor]) -> list[tuple[str, Tangent]]:
    """Returns the named tangent spaces for a checkpoint: its own or its partners'.

    Raises:
        Unsupported: there is none; the message has every adapter's reason.
    """
    arms = [subject.checkpoint] if subject.checkpoint.is_adapter else subject.partners
    adapters = [arm for arm in arms if arm.is_adapter]
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
            "; ".join(dict.fromkeys(reasons)) or "a full checkpoint without an adapter as partner reaches everything"
        )
    return tangents


def measure_shares(shares: Shares, tangents: Sequence[tuple[str, Tangent]]) -> Iterator[Measurement]:
    """Yields the shares of one example's gradients in each named tangent space."""
    paid = {"forwards": len(shares), "backwards": len(shares)}
    for place, (scope, tangent) in enumerate(tangents):
        own = {quantity: of_tangents[place] for quantity, of_tangents in shares.items()}
        for quantity, share in own.items():
            yield _measured(quantity, share.reached, scope, **paid)
        for quantity, share in own.items():
            if quantity in ENERGY_CHANCE:
                yield _bounded(ENERGY_CHANCE[quantity], share.by_energy, scope, tangent, Kind.UPPER)
        if ADVERSARIAL in own:
            found = own[ADVERSARIAL]
            yield _bounded(ENRICHMENT, found.reached / tangent.chance, scope, tangent, Kind.LOWER)
            if found.by_energy > 0:
                yield _bounded(ENERGY_ENRICHMENT, found.reached / found.by_energy, scope, tangent, Kind.LOWER)
            if own[CLEAN].reached > 0:
                yield _measured(GAP, found.reached / own[CLEAN].reached, scope)


def _bounded(quantity: Quantity, value: float, scope: str, tangent: Tangent, otherwise: Kind) -> Measurement:
    """Readings that follow from dim T: exact if dim T is exact, otherwise a bound."""
    measured = _measured(quantity, value, scope)
    return measured if tangent.is_exact else replace(measured, kind=otherwise)


def _measured(quantity: Quantity, value: float, scope: str, **paid: int) -> Measurement:
    return measure(quantity, value, Kind.EXACT, target=Target.THETA, scope=scope, norm="frobenius", **paid)
