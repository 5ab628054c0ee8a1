"""What a plan will cost and can show, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from robustness.paths import expand

if TYPE_CHECKING:
    from robustness.runs.planning.estimate import Estimate, Rate
    from robustness.runs.planning.plan import Plan
    from robustness.runs.planning.rows import Draft


def draft(plan: Plan) -> Draft:
    """Reads a plan's test sets and checkpoint configs, for `estimate` and `foresee`; loads no weights.

    Raises:
        RobustnessError: a test set that cannot be read, or no pair whose checkpoints can be.
    """
    from robustness.runs.planning.rows import read_draft  # imports torch

    return read_draft(plan)


def estimate(
    plan: Plan | Draft, *, pilot: str | Path | None = None, teraflops: float | None = None
) -> tuple[Estimate, Rate]:
    """Returns what a plan will ask of its checkpoints, and the rate of this machine; loads no weights.

    Args:
        plan: what is to run, or its draft.
        pilot: a run folder whose counts stand for those of this plan, such as one of a few examples.
        teraflops: the rate, in 10^12 operations a second; None: timed for two seconds.

    Raises:
        RobustnessError: a test set or a checkpoint that cannot be read, a pilot that is none, or a rate of 0 or less.
    """
    from robustness.runs.planning.cost import Costing, given_rate  # imports torch
    from robustness.runs.planning.rows import Draft

    rate = None if teraflops is None else given_rate(teraflops)
    read = plan if isinstance(plan, Draft) else draft(plan)
    costing = Costing(read, None if pilot is None else Path(expand(pilot)))
    return costing.estimate(), rate or costing.measure()


def foresee(plan: Plan | Draft, *, pilot: str | Path | None = None) -> tuple[str, ...]:
    """Returns lines that say which gaps a plan can find; of a `pilot`, a run folder, discordant examples are counted.

    Raises:
        RobustnessError: a test set that cannot be read, or a pilot that is none.
    """
    from robustness.runs.planning.foresight import foresee as foresee_draft
    from robustness.runs.planning.rows import Draft

    read = plan if isinstance(plan, Draft) else draft(plan)
    return tuple(foresee_draft(read, None if pilot is None else Path(expand(pilot))))


def describe_peak(plan: Plan | Draft) -> tuple[str, ...]:
    """Returns lines that say how much memory a plan needs on its device at its peak, and for what.

    Raises:
        RobustnessError: a test set that cannot be read, or no pair whose checkpoints can be.
    """
    from robustness.runs.planning.peak import describe_peak as describe  # imports torch
    from robustness.runs.planning.rows import Draft

    return tuple(describe(plan if isinstance(plan, Draft) else draft(plan)))
