"""Expected cost of each part of a run, before it runs."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from robustness.runs.cells import NO_ATTACK, UNTUNED, Cell, ProbeCell
from robustness.runs.planning.cost import ATTACKED_SHARE, guess
from robustness.runs.planning.measured_costs import PROBES, SEARCHED, Passes
from robustness.runs.planning.plan import Plan
from robustness.runs.preparation import Prepared
from robustness.runs.workload import DistractorSearch, Load, Part, Transfer
from robustness.tasks.objective import ObjectiveKind


def expect_loads(prepared: Prepared) -> dict[Part, Load]:
    """Returns the maximum steps and passes of every part of a run: searches, cells, replays and probes."""
    loads: dict[Part, Load] = {}
    for cell in prepared.plan.cells:
        if searched := _search_load(prepared, cell):
            loads[DistractorSearch(cell.checkpoint, cell.testset)] = searched
        loads[cell] = _cell_load(prepared, cell)
    for transfer in list_transfers(prepared.plan):
        found = loads[transfer.source]
        loads[transfer] = Load(1, float(found.steps))
    return loads | {cell: _probe_load(prepared, cell) for cell in prepared.plan.probe_cells}


def list_transfers(plan: Plan) -> Iterator[Transfer]:
    """Yields the replays: each checkpoint's texts on its partners, then on the untuned base.

    Texts with a kept prediction broke nothing and are not replayed.
    """
    attacks = {attack.name for attack in plan.attacks if attack.objective.kind is ObjectiveKind.CHANGE_PREDICTION}
    partners: dict[str, dict[str, None]] = {}
    for first, second in (pair.names for pair in plan.pairs):
        partners.setdefault(first, {})[second] = None
        partners.setdefault(second, {})[first] = None
    for cell in plan.cells:
        if cell.attack in attacks:
            yield from (Transfer(cell, target) for target in (*partners.get(cell.checkpoint, ()), UNTUNED))


def _cell_load(prepared: Prepared, cell: Cell) -> Load:
    rows, plan = prepared.rows[cell.testset], prepared.plan
    steps = len(rows.examples)
    if cell.attack == NO_ATTACK:
        return Load(steps, 1.0)
    share = ATTACKED_SHARE[rows.testset.kind]
    if plan.attacked is not None:  # rows known to have right answers
        steps, share = min(steps, plan.attacked), 1.0
    attack = next(attack for attack in plan.attacks if attack.name == cell.attack)
    typical = guess(attack).at(fmean(len(example.words) for example in rows.examples))
    return Load(steps, 1 - share + share * Passes(typical.forwards, typical.backwards).in_forwards)


def _search_load(prepared: Prepared, cell: Cell) -> Load | None:
    rows = prepared.rows[cell.testset]
    generated = rows.testset.generated
    if generated is None or not generated.needs_checkpoint:
        return None
    return Load(sum(bool(example.group_id) for example in rows.examples), SEARCHED[generated.generator])


def _probe_load(prepared: Prepared, cell: ProbeCell) -> Load:
    probe = next(probe for probe in prepared.plan.probes if probe.name == cell.probe)
    steps = max(1, len(prepared.rows[cell.testset].examples[: probe.examples])) if cell.testset else 1
    return Load(steps, PROBES.get(cell.probe, Passes(1, 0)).in_forwards)
