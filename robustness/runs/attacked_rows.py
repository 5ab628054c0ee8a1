"""Which rows are attacked where a suite asks for rows that both arms answer rightly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path

from robustness.definitions.pairs import Pair
from robustness.runs.cells import NO_ATTACK
from robustness.runs.executors.executor import Work
from robustness.runs.planning.plan import Plan
from robustness.runs.planning.rows import shuffle_examples
from robustness.runs.preparation import Prepared
from robustness.runs.storage.record import AttackedRecord, read_record, write_record
from robustness.runs.storage.store import Store

Place = tuple[str, str]
"""Checkpoint and test set."""


def stages(prepared: Prepared, store: Store, out: Path, doubts: list[str]) -> Iterator[list[Work]]:
    """Yields all cells with their rows, in two parts where only rows that both arms have right are attacked.

    The first part must be stored before the second is asked for.

    Args:
        prepared: with the plan.
        store: of the run.
        out: the run folder.
        doubts: takes a warning for each pair with fewer rows than were asked for.
    """
    plan = prepared.plan
    everything = [Work(cell, prepared.examples[cell.testset]) for cell in plan.cells]
    if plan.attacked is None:
        yield everything
        return
    yield [work for work in everything if work.cell.attack == NO_ATTACK]
    chosen = find_attacked(plan, prepared, store, plan.attacked)
    write_record(out, read_record(out).model_copy(update={"chosen": count_attacked(chosen)}))
    whole = {name for name, used in prepared.rows.items() if len(used.examples) == len(used.testset.examples)}
    doubts += describe_shortage(chosen, plan, plan.attacked, whole)
    yield [
        Work(cell, tuple(row for row in rows if row.id in chosen[cell.checkpoint, cell.testset]))
        for cell, rows in ((work.cell, work.examples) for work in everything)
        if cell.attack != NO_ATTACK
    ]


def find_attacked(plan: Plan, prepared: Prepared, store: Store, limit: int) -> dict[Place, frozenset[str]]:
    """Returns by checkpoint and test set the ids of the rows to attack, at most `limit` for each pair.

    What the arms answer to the texts as they stand must be stored. It alone decides, with the order in which the run
    draws its rows: the same rows are chosen again whatever has been attacked already.
    """
    attacked = {cell.testset for cell in plan.cells if cell.attack != NO_ATTACK}
    cells = [cell for cell in plan.cells if cell.attack == NO_ATTACK and cell.testset in attacked]
    right = {(cell.checkpoint, cell.testset): store.right(cell) for cell in cells}
    chosen: dict[Place, frozenset[str]] = {place: frozenset() for place in right}
    for testset, used in prepared.rows.items():
        allowed = {example.id for example in used.examples}
        order = [each.id for each in shuffle_examples(used.testset, plan.settings.seed) if each.id in allowed]
        pairs = [pair for pair in plan.pairs if all((name, testset) in right for name in pair.names)]
        answers = {name: right[name, testset] for pair in pairs for name in pair.names}
        for pair, rows in zip(pairs, choose_rows(pairs, answers, order, limit), strict=True):
            for name in pair.names:
                chosen[name, testset] |= rows
    return chosen


def choose_rows(
    pairs: Sequence[Pair], right: Mapping[str, Set[str]], order: Sequence[str], limit: int
) -> list[frozenset[str]]:
    """Returns for each pair at most `limit` rows that both its arms have right.

    Rows that most pairs have right come first, so that training seeds and methods meet on the same ones; then the
    order in which rows are drawn.

    Args:
        pairs: on one test set.
        right: by checkpoint, the rows that it answers rightly.
        order: all rows, as they are drawn.
        limit: for each pair.
    """
    both = [right[pair.reference_name] & right[pair.candidate_name] for pair in pairs]
    shared = Counter(row for rows in both for row in rows)
    ranked = sorted(order, key=lambda row: -shared[row])
    return [frozenset([row for row in ranked if row in rows][:limit]) for rows in both]


def count_attacked(chosen: Mapping[Place, Set[str]]) -> tuple[AttackedRecord, ...]:
    """Returns how many rows are attacked where, as run.json has it."""
    return tuple(AttackedRecord(checkpoint=place[0], testset=place[1], n=len(rows)) for place, rows in chosen.items())


def describe_shortage(chosen: Mapping[Place, Set[str]], plan: Plan, limit: int, whole: Set[str]) -> list[str]:
    """Returns a warning for each pair and test set with fewer rows than were asked for.

    Args:
        chosen: the rows to attack.
        plan: with the pairs.
        limit: how many were asked for.
        whole: test sets all of whose rows were asked about, so that there are no more to draw from.
    """
    found = []
    for pair in plan.pairs:
        for testset in dict.fromkeys(place[1] for place in chosen if place[0] in pair.names):
            n = len(chosen[pair.reference_name, testset] & chosen[pair.candidate_name, testset])
            if n < limit:
                advice = "it has no more to draw them from" if testset in whole else "raise --limit to draw from more"
                found.append(
                    f"pair {pair.name}: both arms answer {n} rows of {testset} rightly, fewer than the {limit} to be "
                    f"attacked; {advice}"
                )
    return found
