"""What a plan asks for in all, and how long that takes on a device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

from robustness.runs.cells import NO_ATTACK, Cell, ProbeCell
from robustness.runs.durations import spell_duration

ENGINE_SECONDS = 1 / 3000
"""Of one processor core for each forward, beside its operations: searching, tokenising, batching, launching.

Source: DeepWordBug on a BERT of two layers of 32 units, whose operations cost next to nothing, asks 2,700 to 3,100
texts a second of one core.
"""
REFERENCE_NAME = "A100"
REFERENCE_PEAK = 312e12
"""Operations a second of one A100 in bfloat16, dense; source: NVIDIA A100 Tensor Core GPU data sheet, 2020."""
REFERENCE_SHARE = 0.4
"""Of the peak that a forward pass reaches: an assumption; training has reached 46 % (PaLM, arXiv 2204.02311)."""
REFERENCE_RATE = REFERENCE_PEAK * REFERENCE_SHARE


@dataclass(frozen=True, slots=True)
class CellCost:
    """What one cell asks for."""

    cell: Cell | ProbeCell
    forwards: float
    """Texts run through the model."""
    backwards: float
    flops: float
    is_guess: bool = False
    """Whether no run has been measured for this attack or probe."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast a device is."""

    flops: float
    """Operations a second."""
    device: str
    """In words, with how the rate was measured."""


class Share(NamedTuple):
    """What one attack or probe asks for in all its cells."""

    name: str
    cells: int
    forwards: float
    backwards: float


@final
@dataclass(frozen=True, slots=True)
class Estimate:
    """What a plan asks for."""

    cells: tuple[CellCost, ...]
    gate_flops: float
    gate_forwards: float
    fixed_seconds: float
    """Starting, loading, tables and page."""
    left_out: tuple[str, ...] = ()
    """What is not used of the test sets, and why, in words."""

    @property
    def forwards(self) -> float:
        """Texts run through the models, the gate's included."""
        return sum(cell.forwards for cell in self.cells) + self.gate_forwards

    @property
    def backwards(self) -> float:
        """Gradients taken."""
        return sum(cell.backwards for cell in self.cells)

    @property
    def flops(self) -> float:
        """Floating-point operations."""
        return sum(cell.flops for cell in self.cells) + self.gate_flops

    @property
    def guessed(self) -> tuple[str, ...]:
        """Attacks and probes whose figure is a guess."""
        return tuple(dict.fromkeys(_named(each) for each in self.cells if each.is_guess))

    @property
    def engine_seconds(self) -> float:
        """What one processor core takes beside the models' operations."""
        return ENGINE_SECONDS * self.forwards

    def hours(self, rate: float) -> float:
        """Returns the hours of the models' operations alone, on a device that does `rate` of them a second."""
        return self.flops / rate / 3600

    def seconds(self, rate: float) -> float:
        """Returns how long the run takes there: operations, engine, and start, loading and tables."""
        return self.flops / rate + self.engine_seconds + self.fixed_seconds

    def shares(self) -> list[Share]:
        """Returns what each attack and probe asks for, the dearest first."""
        names = dict.fromkeys(_named(each) for each in self.cells)
        costs = {name: [each for each in self.cells if _named(each) == name] for name in names}
        found = [
            Share(name, len(own), sum(c.forwards for c in own), sum(c.backwards for c in own))
            for name, own in costs.items()
        ]
        return sorted(found, key=lambda share: -(share.forwards + share.backwards))

    def describe(self, rate: Rate) -> Iterator[str]:
        """Yields how long the run takes here and on a reference device, and what that rests on."""
        yield from self.left_out
        yield f"about {self._spell(rate.flops)} on this machine ({rate.flops / 1e12:.2g} TFLOP/s: {rate.device})"
        yield (
            f"about {self._spell(REFERENCE_RATE)} on one {REFERENCE_NAME} ({REFERENCE_RATE / 1e12:.0f} TFLOP/s "
            f"assumed: {REFERENCE_SHARE:.0%} of its data sheet's {REFERENCE_PEAK / 1e12:.0f} in bfloat16)"
        )
        if self.guessed:
            yield (
                f"guessed, for lack of a measured run: {', '.join(self.guessed)}; run a few examples of them "
                "(--limit 10) and give that folder as --like"
            )

    def _spell(self, rate: float) -> str:
        parts = (
            (self.flops / rate, "the model"),
            (self.engine_seconds, "one core's search and tokenising"),
            (self.fixed_seconds, "start, loading and tables"),
        )
        shown = ", ".join(f"{spell_duration(seconds)} {what}" for seconds, what in parts)
        return f"{spell_duration(self.seconds(rate))} ({shown})"


def _named(cost: CellCost) -> str:
    name = cost.cell.attack if isinstance(cost.cell, Cell) else cost.cell.probe
    return "no attack" if name == NO_ATTACK else name


def round_count(count: float) -> str:
    """Returns a count in two digits: an expected one is known no better.

    >>> round_count(48_416), round_count(7), round_count(3_640_000)
    ('48,000', '7', '3,600,000')
    """
    return f"{float(f'{count:.2g}'):,.0f}"
