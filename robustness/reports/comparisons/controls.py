"""Which comparisons are controls: what no attack did."""

from __future__ import annotations

from robustness.reports.comparisons.grid import OutcomeGrid
from robustness.runs.cells import BASELINE, NO_ATTACK
from robustness.runs.storage.record import RunRecord

IDENTITY = "identity"
UNCHANGED = (NO_ATTACK, IDENTITY)
"""Attacks that do not change a text: on a clean set a difference is of clean accuracy."""
CLEAN = "clean"


def control_attacks(record: RunRecord) -> frozenset[str]:
    """Returns the names of the run's attacks that are controls: `identity` and the random baselines."""
    return frozenset(attack.name for attack in record.attacks if attack.family == BASELINE or attack.name == IDENTITY)


def is_control(record: RunRecord, testset: str, attack: str) -> bool:
    """Whether a comparison is a control: of a clean test set as it stands, or under a control attack."""
    if attack == NO_ATTACK:
        return record.find_testset(testset).kind == CLEAN
    return attack in control_attacks(record)


def planned_attacks(grid: OutcomeGrid, record: RunRecord) -> tuple[str, ...]:
    """Returns the attacks of the run that enter a worst case: no controls, and none that keeps the prediction."""
    left_out = control_attacks(record) | grid.keeping | {NO_ATTACK}
    found = dict.fromkeys(attack for cells in grid.cells.values() for _, attack in cells)
    return tuple(attack for attack in found if attack not in left_out)
