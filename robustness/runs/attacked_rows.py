"""Selects the attacked rows for a suite that attacks only rows with right answers from both arms."""

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
from robustness.runs.storage.record import AttackedRecord, read_record, update_record
from robustness.runs.storage.store import Store

Place = tuple[str, str]
"""Checkpoint and test set."""


def stages(prepared: Prepared, store: Store, out: Path, gaps: list[str]) -> Iterator[list[Work]]:
    """Yields all cells with their rows, in two parts if only rows that both arms have right are attacked.

    Store the first part before asking for the second.

    Args:
        prepared: with the plan.
        store: of the run.
        out: the run folder.
        gaps: gets a warning for each pair with fewer rows than requested.
    """
    plan = prepared.plan
    everything = [Work(cell, prepared.examples[cell.testset]) for cell in plan.cells]
    if plan.attacked is None:
        yield everything
        return
    yield [work for work in everything if work.cell.attack == NO_ATTACK]
    before = {(each.checkpoint, each.testset): frozenset(each.rows) for each in read_record(out).chosen}
    chosen = find_attacked(plan, prepared, store, plan.attacked, before)
    update_record(out, chosen=record_attacked(chosen))
    whole = {name for name, used in prepared.rows.items() if len(used.examples) == len(used.testset.examples)}
    gaps += describe_shortage(chosen, plan, plan.attacked, whole)
    yield [
        Work(cell, tuple(row for row in rows if row.id in chosen[cell.checkpoint, cell.testset]))
        for cell, rows in ((work.cell, work.examples) for work in everything)
        if cell.attack != NO_ATTACK
    ]


def find_attacked(
    plan: Plan, prepared: Prepared, store: Store, limit: int, before: Mapping[Place, Set[str]]
) -> dict[Place, frozenset[str]]:
    """Returns by checkpoint and test set the ids of the rows to attack, at most `limit` for each pair.

    The arms' answers to the unattacked texts must be stored. These answers and the order of drawing decide. Rows that
    an earlier process chose remain: an errored answer that is right in the second try takes no other row's place.
    """
    attacked = {cell.testset for cell in plan.cells if cell.attack != NO_ATTACK}
    cells = [cell for cell in plan.cells if cell.attack == NO_ATTACK and cell.testset in attacked]
    right = {(cell.checkpoint, cell.testset): store.right(cell) for cell in cells}
    chosen = {place: frozenset(before.get(place, ())) for place in right}
    for testset, used in prepared.rows.items():
        allowed = {example.id for example in used.examples}
        order = [each.id for each in shuffle_examples(used.testset, plan.settings.seed) if each.id in allowed]
        pairs = [pair for pair in plan.pairs if all((name, testset) in right for name in pair.names)]
        answers = {name: right[name, testset] for pair in pairs for name in pair.names}
        kept = {name: before.get((name, testset), frozenset()) for name in answers}
        for pair, rows in zip(pairs, choose_rows(pairs, answers, order, limit, kept), strict=True):
            for name in pair.names:
                chosen[name, testset] |= rows
    return chosen


def choose_rows(
    pairs: Sequence[Pair],
    right: Mapping[str, Set[str]],
    order: Sequence[str],
    limit: int,
    before: Mapping[str, Set[str]] | None = None,
) -> list[frozenset[str]]:
    """Returns for each pair at most `limit` rows that both its arms have right.

    Rows chosen before come first. Then rows that most pairs have right, so that training seeds and methods share
    rows. Then the order of drawing decides.

    Args:
        pairs: on one test set.
        right: by checkpoint, its rows with right answers.
        order: all rows in the order of drawing.
        limit: for each pair.
        before: by checkpoint, the rows that an earlier process of the run chose.
    """
    both = [_both(right, pair) for pair in pairs]
    shared = Counter(row for rows in both for row in rows)
    ranked = sorted(order, key=lambda row: -shared[row])
    chosen = []
    for pair, rows in zip(pairs, both, strict=True):
        kept = _both(before, pair) if before else frozenset()
        first = sorted(ranked, key=lambda row: row not in kept)
        chosen.append(frozenset([row for row in first if row in rows][:limit]))
    return chosen


def _both(rows: Mapping[str, Set[str]], pair: Pair) -> Set[str]:
    return rows[pair.reference_name] & rows[pair.candidate_name]


def record_attacked(chosen: Mapping[Place, Set[str]]) -> tuple[AttackedRecord, ...]:
    """Returns the attacked rows for run.json."""
    return tuple(
        AttackedRecord(checkpoint=place[0], testset=place[1], rows=tuple(sorted(rows)))
        for place, rows in chosen.items()
    )


def describe_shortage(chosen: Mapping[Place, Set[str]], plan: Plan, limit: int, whole: Set[str]) -> list[str]:
    """Returns a warning for each pair and test set with fewer rows than were asked for.

    Args:
        chosen: the rows to attack.
        plan: with the pairs.
        limit: the number requested.
        whole: test sets that were used completely, so that no more rows can be drawn.
    """
    found = []
    for pair in plan.pairs:
        for testset in dict.fromkeys(place[1] for place in chosen if place[0] in pair.names):
            n = len(chosen[pair.reference_name, testset] & chosen[pair.candidate_name, testset])
            if n < limit:
                advice = "the test set has no more rows" if testset in whole else "raise --limit to draw from more"
                found.append(
                    f"pair {pair.name}: both arms answer {n} rows of {testset} rightly, fewer than the {limit} to be "
                    f"attacked; {advice}"
                )
    return found
