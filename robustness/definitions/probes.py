"""The schema of a probe definition file."""

from __future__ import annotations

from pydantic import PositiveInt, SerializeAsAny

from robustness.definitions.attacks import Deviation
from robustness.definitions.model import Definition
from robustness.definitions.parts import Part


class ProbeDefinition(Definition):
    """One probe as data; a suite may replace `examples` and the parameters of `measure`."""

    summary: str
    paper: str | None = None
    measure: SerializeAsAny[Part]
    """`robustness.sensitivity.parts` defines its kinds and their keys."""
    examples: PositiveInt | None = None
    """Maximum of examples of each test set; None: all that the run uses."""
    deviations: tuple[Deviation, ...] = ()
