"""What a probe definition file may say."""

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
    """Its kinds, and the keys of each, are those of `robustness.sensitivity.parts`."""
    examples: PositiveInt | None = None
    """At most so many examples of each test set; None: all that the run uses."""
    deviations: tuple[Deviation, ...] = ()
