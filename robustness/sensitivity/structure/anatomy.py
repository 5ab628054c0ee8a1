"""The anatomy of a checkpoint's weight update, per matrix and as a whole."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from robustness.engine.seeding import example_generator
from robustness.sensitivity.measurement import (
    Kind,
    Measurement,
    MeasurementStatus,
    Quantity,
    Space,
    Target,
    measure,
)
from robustness.sensitivity.probe import Reading, Subject, Unsupported
from robustness.sensitivity.side_by_side import map_side_by_side
from robustness.sensitivity.structure import forms as forms
from robustness.sensitivity.structure.growth import (
    chance_intruders,
    count_intruders,
    irreducible_share,
    measure_growth,
)
from robustness.sensitivity.structure.randomised import KEPT, complete, decompose_leading, find_device, is_large
from robustness.sensitivity.structure.spectra import (
    Factors,
    decompose,
    decompose_top,
    describe,
    singular_values,
    spectral_norm,
    squared_norm,
    subspace_overlap,
)
from robustness.sensitivity.structure.updates import (
    Updates,
    WeightUpdate,
    changed_matrices,
    low_rank_factors,
    shared_scope,
)

SUMMED = (
    "intruders",
    "intruders-by-chance",
    "log-spectral-growth",
    "log-spectral-growth-first-order",
    "log-spectral-growth-weyl",
)
"""Quantities that are summed over matrices; the whole of all others is the median."""
UPPER = ("log-spectral-growth-weyl",)
LOWER = ("fit-inputs-and-outputs",)
ESTIMATES = ("intruders-by-chance",)
WITHOUT_SPECTRUM = (
    "update-relative-norm", "fit-outputs", "fit-inputs", "fit-inputs-and-outputs", "cosine-with-full",
    "best-scale-to-full", "mpc-o-residual", "mpc-d-residual", "randomised-svd-error",
)  # fmt: skip
"""Quantities that need no singular values: those of a large matrix are no estimates."""

EVERY = "matrices"
"""The scope of rows over all matrices."""

Values = dict[str, float]


@final
@dataclass(frozen=True, slots=True)
class _Matrix:
    """The measurements of one matrix."""

    key: str
    values: Values
    moments: NDArray[np.float64]
    """|dW|^2, |W_0|^2, and with a partner <full, peft>, |full|^2, |peft|^2."""
    is_large: bool
    """Whether its decompositions are randomised."""


@final
@dataclass(frozen=True, slots=True)
class UpdateStructure:
    """Size, rank, form, overlap, intruders and growth of dW = W - W_0; exact except for the chance level.

    Decompositions of large matrices are randomised, on the run's device. Their quantities are estimates from the
    leading directions, and `randomised-svd-error` is the measured error, relative to the largest singular value.

    The functions of `spectra`, `forms` and `growth` document the formulas. Quantities are neutral: none says by
    itself that a checkpoint is fragile. The updates of a PEFT checkpoint are also compared with those of its full
    partner. Sums and medians are taken over all matrices that the checkpoint changes. They are also taken over the
    matrices that its partner changes too, because more matrices give larger sums.
    """

    top: PositiveInt = 10
    """Leading directions to compare (arXiv 2410.21228: 10)."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Largest cosine of an intruder (arXiv 2410.21228: 0.5)."""
    draws: PositiveInt = 3
    """Random updates for the chance level of intruders."""
    rank: PositiveInt = 8
    """Rank of the fitted extension-like form."""
    space: Space = Space.STRUCTURE

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""
        factors = {
            name.split("base_model.model.")[-1]: pair for name, pair in low_rank_factors(subject.checkpoint).items()
        }
        measured: list[_Matrix] = []
        with ExitStack() as stack:
            updates = stack.enter_context(Updates(subject.checkpoint, subject))
            partner = stack.enter_context(Updates(subject.full_partner, subject)) if subject.full_partner else None
            matrices = ((u, partner.read(u.key) if partner else None) for u in updates.matrices())
            compared = map_side_by_side(lambda pair: (pair[0], *self._of_matrix(*pair, factors, subject)), matrices)
            for update, values, moments in compared:
                large = is_large(update.before)
                measured.append(_Matrix(update.key, values, np.array(moments), large))
                yield from (_reading(name, each, update=update, is_estimate=large) for name, each in values.items())
            yield from _of_rest(updates)
            yield from _of_others(updates)
        if not measured:
            raise Unsupported("it shares no matrix with its base")
        yield from _of_whole(measured, EVERY)
        for other in subject.partners:
            changed = changed_matrices(other, subject)
            shared = [each for each in measured if each.key in changed and each.moments[0] > 0]
            yield from _of_whole(shared, shared_scope(subject.checkpoint, other)) if shared else ()

    def _of_matrix(
        self,
        update: WeightUpdate,
        other: WeightUpdate | None,
        factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
        subject: Subject,
    ) -> tuple[Values, Sequence[float]]:
        change = update.change
        size = squared_norm(change), squared_norm(update.before)
        values: Values = {"update-relative-norm": math.sqrt(size[0] / size[1]) if size[1] else 0.0}
        comparison = forms.compare_updates(other.change, change) if other else (0.0, 0.0, 0.0)
        if size[0] == 0:
            return values, (*size, *comparison)
        generator = _generator(subject, update.name)
        spectra = _decompose(update, subject) if is_large(change) else _decompose_fully(update)
        values |= self._of_spectrum(spectra) | self._of_form(update, spectra)
        values |= self._of_directions(update, spectra, generator)
        if spectra.error is not None:
            values["randomised-svd-error"] = spectra.error
        if comparison[1] and comparison[2]:
            values["cosine-with-full"] = comparison[0] / math.sqrt(comparison[1] * comparison[2])
            values["best-scale-to-full"] = comparison[0] / comparison[2]
        for name, (a, b) in factors.items():
            if f".{name}".endswith(f".{update.name}") and float(b.abs().max()) > 0:
                values["mpc-o-residual"], values["mpc-d-residual"] = forms.mpc_residuals(a, b)
        return values, (*size, *comparison)

    def _of_spectrum(self, spectra: _Spectra) -> Values:
        described = describe(spectra.change)
        return {
            "update-relative-spectral-norm": described.spectral / float(spectra.base.values[0]),
            "update-stable-rank": described.stable_rank,
            "update-effective-rank": described.effective_rank,
            "update-energy-rank": float(described.energy_rank),
            "update-rank": float(spectra.rank),
            "irreducible-spectral-share": irreducible_share(spectra.values, spectra.rank),
        }

    def _of_form(self, update: WeightUpdate, spectra: _Spectra) -> Values:
        change = update.change
        diagonal, off = forms.core_energy(spectra.base, change)
        return {
            "core-diagonal-share": diagonal,
            "core-off-diagonal-share": off,
            "fit-outputs": forms.fit_outputs(update.before, change),
            "fit-inputs": forms.fit_inputs(update.before, change),
            "fit-inputs-and-outputs": forms.fit_both_sides(update.before, change),
            f"fit-rank-{self.rank}": forms.fit_rank(spectra.change, self.rank),
        }

    def _of_directions(self, update: WeightUpdate, spectra: _Spectra, generator: torch.Generator) -> Values:
        base, rank = spectra.base, spectra.rank
        k = min(self.top, *update.before.shape)
        tuned = decompose_top(update.after, k, generator)
        own_k = min(k, rank)
        own = decompose_top(update.change, own_k, generator)
        growth = measure_growth(
            base,
            update.change,
            before=spectra.before,
            after=spectra.after,
            change=float(spectra.change[0]),
        )
        chance = chance_intruders(
            update.before,
            base,
            float(update.change.double().norm()),
            rank,
            k=k,
            threshold=self.threshold,
            draws=self.draws,
            generator=generator,
        )
        rows, columns = update.before.shape
        left = subspace_overlap(own.left, base.left[:, :own_k])
        right = subspace_overlap(own.right, base.right[:, :own_k])
        return {
            "overlap-left": left,
            "overlap-right": right,
            "overlap-left-over-chance": left * rows / own_k,
            "overlap-right-over-chance": right * columns / own_k,
            "intruders": float(count_intruders(base, tuned, self.threshold).count),
            "intruders-by-chance": chance,
            "log-spectral-growth": growth.log_growth,
            "log-spectral-growth-first-order": growth.first_order,
            "log-spectral-growth-weyl": growth.weyl,
        }


@dataclass(frozen=True, slots=True)
class _Spectra:
    """The decompositions of one matrix and its update."""

    base: Factors
    """W_0's; of a large matrix the leading ones."""
    values: torch.Tensor
    """All singular values of W_0."""
    change: torch.Tensor
    """All singular values of dW."""
    before: float
    """|W_0|_2."""
    after: float
    """|W_0 + dW|_2."""
    error: float | None = None
    """Of a randomised decomposition, relative to |W_0|_2."""

    @property
    def rank(self) -> int:
        """Singular values above what rounding W_0 + dW to float32 leaves, and at least one."""
        floor = max(1e-4 * float(self.change[0]), torch.finfo(torch.float32).eps * float(self.values.norm()))
        return max(1, int((self.change > floor).sum()))


def _decompose_fully(update: WeightUpdate) -> _Spectra:
    base, change = decompose(update.before), singular_values(update.change)
    return _Spectra(base, base.values, change, spectral_norm(update.before), spectral_norm(update.after))


def _decompose(update: WeightUpdate, subject: Subject) -> _Spectra:
    device, generator = find_device(subject.resources.device), _generator(subject, f"{update.name} large")
    count = min(update.before.shape)
    base, change = (
        decompose_leading(each, min(KEPT, count), generator, device) for each in (update.before, update.change)
    )
    # A growth is a small difference of two norms: the first values of a flat spectrum would be too rough.
    before, after = (
        float(decompose_top(each.to(device), 1, generator).values[0]) for each in (update.before, update.after)
    )
    error = base.error / before
    return _Spectra(base.factors, complete(base, count), complete(change, count), before, after, error)


def _generator(subject: Subject, name: str) -> torch.Generator:
    seed = int(example_generator(subject.seed, subject.digest, name).integers(2**63 - 1))
    return torch.Generator().manual_seed(seed)


def _of_rest(updates: Updates) -> Iterator[Reading]:
    """The change of biases and normalisations, and of embeddings, relative to their norm."""
    for name, tensors in (("vector-relative-norm", updates.vectors()), ("embedding-drift", updates.embeddings())):
        moved = size = 0.0
        for tensor in tensors:
            moved += squared_norm(tensor.after, tensor.before)
            size += squared_norm(tensor.before)
        if size:
            yield _reading(name, math.sqrt(moved / size))


def _of_others(updates: Updates) -> Iterator[Reading]:
    """Changed tensors that are no matrices."""
    for update in updates.others():
        if bool(update.change.any()):
            blank = Measurement(
                Quantity("update-structure", scale_free=True),
                None,
                Kind.ESTIMATE,
                target=Target.THETA,
                scope=EVERY,
                status=MeasurementStatus.UNSUPPORTED,
                reason=f"{update.key} of shape {tuple(update.before.shape)} is no single matrix of inputs to outputs",
            )
            yield Reading(blank, layer=update.layer, module=update.name)


def _of_whole(measured: Sequence[_Matrix], scope: str) -> Iterator[Reading]:
    whole: dict[str, list[float]] = {}
    is_estimate = any(matrix.is_large for matrix in measured)
    for matrix in measured:
        for name, value in matrix.values.items():
            whole.setdefault(name, []).append(value)
    moved, size, inner, full, peft = np.sum([matrix.moments for matrix in measured], axis=0).tolist()
    totals: Values = {"update-relative-norm": math.sqrt(moved / size)}
    if full and peft:
        totals |= {"cosine-with-full": inner / math.sqrt(full * peft), "best-scale-to-full": inner / peft}
    for name, values in whole.items():
        value = sum(values) if name in SUMMED else float(np.median(values))
        yield _reading(name, totals.get(name, value), scope=scope, is_estimate=is_estimate)


def _reading(
    name: str,
    value: float,
    *,
    update: WeightUpdate | None = None,
    scope: str = EVERY,
    is_estimate: bool = False,
) -> Reading:
    kind = Kind.UPPER if name in UPPER else Kind.LOWER if name in LOWER else Kind.EXACT
    if name in ESTIMATES or (is_estimate and name not in WITHOUT_SPECTRUM):
        kind = Kind.ESTIMATE
    measurement = measure(Quantity(name, scale_free=True), value, kind, target=Target.THETA, scope=scope)
    return Reading(measurement, layer=update.layer if update else None, module=update.name if update else None)
