"""A run's fingerprint tells which cells it has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from robustness.runs.cells import NO_ATTACK
from robustness.runs.planning.plan import PlanSettings, make_plan


def test_other_cells_are_another_run_and_the_same_ones_in_any_order_are_not(tiny: Any) -> None:
    plan = make_plan(
        PlanSettings(
            suite="attacks-quick", pairs=tiny.pairs, data=tiny.data, testsets=(tiny.testset,), attacks=("identity",)
        )
    )
    evaluated = replace(plan, cells=tuple(cell for cell in plan.cells if cell.attack == NO_ATTACK))
    turned = replace(plan, cells=plan.cells[::-1])

    before, now = plan.fingerprint(), evaluated.fingerprint()

    changed = {topic for topic in before.keys() | now.keys() if before.get(topic) != now.get(topic)}
    assert changed == {f"cells: {plan.testsets[0].name}"}
    assert turned.fingerprint() == before
