"""A measured number with its kind: a value, a bound, a certificate or an estimate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from robustness.errors import ProbeError

VACUOUS_RATIO = 1e3
"""Ratio of upper to lower bound above which a bracket is vacuous."""
ROUNDING = 1e-5
"""Share by which a lower bound may exceed an upper one; batching moves float32 logits by less."""


class Kind(StrEnum):
    """The relation of a number to its row's quantity."""

    EXACT = "exact"
    """The quantity itself, up to rounding."""
    LOWER = "lower"
    UPPER = "upper"
    CERT_DET = "cert-det"
    """A deterministic certificate."""
    CERT_PROB = "cert-prob"
    """Valid with probability at least 1 - alpha over the sampling."""
    ESTIMATE = "estimate"
    """No bound."""


class Space(StrEnum):
    """The space that is perturbed or examined."""

    INPUT = "input"
    PARAMETER = "parameter"
    STRUCTURE = "structure"


class Target(StrEnum):
    """The function that the number describes."""

    F = "f"
    """The classifier itself."""
    SMOOTHED = "smoothed"
    """The classifier under random noise."""
    THETA = "theta"
    """The classifier as a function of its weights."""


class MeasurementStatus(StrEnum):
    """Whether a number is usable."""

    OK = "ok"
    VACUOUS = "vacuous"
    """Valid, but too loose to be informative."""
    NOT_CONVERGED = "not-converged"
    """The search did not converge, or its check failed; the reason says which."""
    UNSUPPORTED = "unsupported"
    """The quantity is not defined or not computable for this checkpoint."""
    ERRORED = "errored"


class Direction(StrEnum):
    """The meaning of a larger value."""

    ROBUST = "robust"
    FRAGILE = "fragile"
    NEUTRAL = "neutral"
    """Neither; it never becomes a verdict."""


class Aggregate(StrEnum):
    """How examples' values are aggregated."""

    MEDIAN = "median"
    MEAN = "mean"


@dataclass(frozen=True, slots=True)
class Quantity:
    """The measured quantity."""

    name: str
    unit: str = "1"
    direction: Direction = Direction.NEUTRAL
    aggregate: Aggregate = Aggregate.MEDIAN
    scale_free: bool = False
    """Whether it is invariant to scaling all logits; other quantities do not compare between arms."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number with its labels; an unusable one has no value but a reason.

    Raises:
        ProbeError: a value is missing or not finite, or a status lacks its reason.
    """

    quantity: Quantity
    value: float | None
    kind: Kind
    target: Target = Target.F
    norm: str | None = None
    scope: str = "content"
    """The tokens or weights that may move."""
    radius: float | None = None
    """In median token norms of the victim for inputs, in Frobenius norm for weights."""
    sigma: float | None = None
    """Of the noise that smooths the classifier, in median token norms."""
    alpha: float | None = None
    """Error probability of a cert-prob."""
    status: MeasurementStatus = MeasurementStatus.OK
    forwards: int = 0
    """Texts run through the model for this number and those measured with it."""
    backwards: int = 0
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""

    def __post_init__(self) -> None:
        where = f"probe quantity {self.quantity.name}"
        if self.value is not None and not math.isfinite(self.value):
            raise ProbeError(f"{where}: value {self.value} is not finite; report it as errored with a reason")
        if self.value is None and self.status in (MeasurementStatus.OK, MeasurementStatus.VACUOUS):
            raise ProbeError(f"{where}: status {self.status} without a value")
        if self.status in (MeasurementStatus.UNSUPPORTED, MeasurementStatus.ERRORED):
            if not self.reason:
                raise ProbeError(f"{where}: status {self.status} needs a reason")
            if self.value is not None:
                raise ProbeError(f"{where}: status {self.status} with a value")
        if self.kind is Kind.CERT_PROB and self.value is not None and not 0 < (self.alpha or 0) < 1:
            raise ProbeError(f"{where}: a cert-prob needs an alpha in (0, 1); got {self.alpha}")
        for name, size in (("radius", self.radius), ("sigma", self.sigma)):
            if size is not None and not size > 0:
                raise ProbeError(f"{where}: {name} {size}; expected more than 0")

    def or_errored(self, reason: str) -> Measurement:
        """Returns the measurement as errored with that reason and without its value."""
        return replace(self, value=None, status=MeasurementStatus.ERRORED, reason=reason)


def measure(quantity: Quantity, value: float, kind: Kind, **labels: object) -> Measurement:
    """Returns the measurement of a number; errored if the number is not finite.

    >>> measure(Quantity("margin"), float("nan"), Kind.EXACT).status.value
    'errored'
    """
    if math.isfinite(value):
        return Measurement(quantity, value, kind, **labels)  # type: ignore[arg-type]
    blank = Measurement(quantity, 0.0, kind, **labels)  # type: ignore[arg-type]
    return blank.or_errored("the value is not finite: a bound, the logits or their gradient overflow or vanish here")


@dataclass(frozen=True, slots=True)
class Bracket:
    """A lower and an upper bound of one quantity; a certificate counts as a bound of its side.

    Bounds for different targets (a smoothed classifier's certificate and an attack on f) form no bracket:
    `comparable` is then false.

    Raises:
        ProbeError: a side is no such bound, or the lower bound exceeds the upper one for the same target: a bug, not
            a result.

    >>> radius = Quantity("radius")
    >>> Bracket(Measurement(radius, 2.0, Kind.CERT_DET), Measurement(radius, 1.0, Kind.UPPER))
    Traceback (most recent call last):
    robustness.errors.ProbeError: radius: the cert-det 2 exceeds the upper 1 for the same target f: one is wrong
    """

    lower: Measurement | None = None
    upper: Measurement | None = None

    def __post_init__(self) -> None:
        if self.lower is not None and self.lower.kind in (Kind.UPPER, Kind.ESTIMATE):
            raise ProbeError(f"{self.lower.quantity.name}: kind {self.lower.kind} is no lower bound")
        if self.upper is not None and self.upper.kind in (Kind.LOWER, Kind.ESTIMATE):
            raise ProbeError(f"{self.upper.quantity.name}: kind {self.upper.kind} is no upper bound")
        if not self.comparable:
            return
        assert self.lower is not None and self.upper is not None, "comparable sides exist"
        low, high = self.lower.value, self.upper.value
        if low is None or high is None:
            return
        if low > high + ROUNDING * max(1.0, abs(high)):
            raise ProbeError(
                f"{self.lower.quantity.name}: the {self.lower.kind} {low:.6g} exceeds the {self.upper.kind} "
                f"{high:.6g} for the same target {self.lower.target}: one is wrong"
            )

    @property
    def comparable(self) -> bool:
        """Whether both sides bound the same quantity of the same function in the same norm."""
        if self.lower is None or self.upper is None:
            return False
        sides = [(side.target, side.norm, side.quantity.unit) for side in (self.lower, self.upper)]
        return sides[0] == sides[1]

    @property
    def is_vacuous(self) -> bool:
        """Whether the upper bound is more than a thousand times the lower one."""
        if self.lower is None or self.upper is None or self.lower.value is None or self.upper.value is None:
            return False
        return self.upper.value > VACUOUS_RATIO * self.lower.value
