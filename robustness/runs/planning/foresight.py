"""What a run can show, told before it runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from robustness.engine.outcome import Status
from robustness.runs.cells import BASELINE, NO_ATTACK
from robustness.runs.storage.record import RunRecord, read_record
from robustness.runs.storage.store import open_store
from robustness.stats.planning import (
    MIN_SEEDS,
    RARER_SHARE,
    SEED_SD,
    detectable_gap,
    detectable_gap_over_seeds,
    examples_for_equivalence,
)
from robustness.tasks.objective import ObjectiveKind
from robustness.tasks.task import Metric

if TYPE_CHECKING:  # a report asks what a run could show, without the plan's recipes
    from robustness.runs.planning.plan import Plan
    from robustness.runs.planning.rows import Draft
    from robustness.testsets.example import Example
    from robustness.testsets.loading import Testset

TOLD_SEEDS = (3, 5, 10)


@dataclass(frozen=True, slots=True)
class PlannedSet:
    """One test set as a pair will be compared on it."""

    task: str
    n: int
    """Groups of examples that share a source; examples, where none do."""
    tests: int
    """Attacks whose rows are of the pair's family, the set as it stands among them where it is adversarial."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the figures rest on."""

    rarer_share: float = RARER_SHARE
    """Share of examples that only the worse arm has right."""
    from_pilot: bool = False
    """Whether a pilot was counted for it."""
    margin: float = 0.02
    """The largest difference that does not matter, a fraction."""
    alpha: float = 0.05


def foresee(draft: Draft, pilot: Path | None = None) -> Iterator[str]:
    """Yields lines that say what the comparisons of a plan can show.

    Args:
        draft: what is to run, read.
        pilot: a run folder in which discordant examples are counted; None: the shipped assumption.

    Raises:
        RunError: a pilot that is none.
    """
    sets = [plan_set(draft.plan, rows.testset, rows.examples) for rows in draft.rows.values()]
    assumed = Assumptions() if pilot is None else Assumptions(read_rarer_share(pilot), from_pilot=True)
    seeds = count_seeds([(pair.task.name, pair.base, pair.seed) for pair in draft.plan.pairs])
    yield from describe_power(sets, seeds, assumed)


def plan_set(plan: Plan, testset: Testset, examples: Sequence[Example]) -> PlannedSet:
    """Returns what is planned on a test set, of which a run takes these examples.

    Clean sets as they stand, `identity` and baselines are controls, in no family; an attack that keeps the prediction
    has a metric of its own. Of questions, altered forms alone are compared.
    """
    counted = {
        attack.name
        for attack in plan.attacks
        if attack.family != BASELINE and attack.objective.kind == ObjectiveKind.CHANGE_PREDICTION
    }
    counted |= {NO_ATTACK} if testset.kind == "adversarial" else set()
    planned = {cell.attack for cell in plan.cells if cell.testset == testset.name}
    altered = [example for example in examples if example.original is not None]
    compared = altered if altered and testset.task.metric is Metric.EXACT_MATCH_AND_F1 else examples
    n, tests = len({example.group for example in compared}), len(planned & counted)
    if plan.attacked is not None and planned & counted - {NO_ATTACK}:
        n = min(n, plan.attacked)
    return PlannedSet(testset.task.name, n, tests)


def recorded_sets(record: RunRecord) -> list[PlannedSet]:
    """Returns the same of a run that has started."""
    return [PlannedSet(testset.task, testset.n_groups, testset.n_tests) for testset in record.testsets]


def read_rarer_share(folder: Path) -> float:
    """Returns the share of examples that only the worse arm of a pair has right, over all rows of a stored run.

    One example more on either side, as in Bonett and Price's interval: a pilot of few examples may show none.

    Raises:
        RunError: the folder is no run.
    """
    right = f"CASE WHEN attack='{NO_ATTACK}' THEN correct ELSE status='{Status.FAILED}' END"
    arm = (
        f"SELECT testset, attack, example_id, {right} AS good FROM outcomes "
        f"WHERE checkpoint=? AND status != '{Status.ERRORED}'"
    )
    joined = (
        "SELECT COALESCE(SUM(r.good > c.good), 0), COALESCE(SUM(r.good < c.good), 0), COUNT(*) "
        f"FROM ({arm}) AS r JOIN ({arm}) AS c USING (testset, attack, example_id)"
    )
    pairs = read_record(folder).pairs
    with open_store(folder) as connection:
        counts = [connection.execute(joined, (pair.reference, pair.candidate)).fetchone() for pair in pairs]
    rarer, n = sum(int(min(b, c)) for b, c, _ in counts), sum(int(both) for _, _, both in counts)
    return min(0.5, (rarer + 1) / (n + 2))


def describe_power(sets: Sequence[PlannedSet], seeds: int, assumed: Assumptions | None = None) -> Iterator[str]:
    """Yields what the planned comparisons can show, a line for each number of examples, at most 80 columns each.

    Args:
        sets: those of all tasks; the tests of one task are one pair's family.
        seeds: distinct training seeds that the plan has of its methods; 0: none is named.
        assumed: None: the shipped assumptions.
    """
    assumed = assumed or Assumptions()
    compared = [each for each in sets if each.tests]
    if not compared:
        yield "no comparison under attack is planned: clean sets and baselines are controls"
        return
    tests = {each.task: sum(other.tests for other in compared if other.task == each.task) for each in compared}
    yield "what this run can show (gaps in points of accuracy, found with power .80):"
    for n, family in sorted({(each.n, tests[each.task]) for each in compared}):
        plural = "s" if family > 1 else ""
        yield f"  n = {n:,}, {family} test{plural} a pair: {_gaps(n, assumed.alpha / family, assumed.rarer_share)}"
    needed = examples_for_equivalence(margin=assumed.margin, rarer_share=assumed.rarer_share)
    yield f"  equality within {100 * assumed.margin:g} points: about {_two_digits(needed):,} examples"
    yield f"  a claim about a method: {MIN_SEEDS} training seeds or more; here {seeds or 'none is named'}"
    yield f"  n counts groups where rows share a source; level {assumed.alpha:g} / tests of a pair"
    source = "counted in the pilot" if assumed.from_pilot else "assumed"
    yield f"  {source}: the worse arm alone is right on {100 * assumed.rarer_share:.1f} % of the examples"
    yield f"  assumed: between seeds, differences have a standard deviation of {100 * SEED_SD:g} point"


def _gaps(n: int, alpha: float, rarer_share: float) -> str:
    single = detectable_gap(n, rarer_share=rarer_share, alpha=alpha)
    over = [
        _points(detectable_gap_over_seeds(seeds, n, rarer_share=rarer_share, alpha=alpha)) for seeds in TOLD_SEEDS
    ]
    return f"{_points(single)}; over {', '.join(map(str, TOLD_SEEDS))} seeds {', '.join(over)}"


def _points(gap: float) -> str:
    """Tenths of a point, rounded up.

    >>> _points(0.0541), _points(float("nan"))
    ('5.5', 'none')
    """
    return "none" if math.isnan(gap) else f"{math.ceil(1000 * gap - 1e-6) / 10:.1f}"


def _two_digits(count: int) -> int:
    """Rounded up.

    >>> _two_digits(2604), _two_digits(7)
    (2700, 7)
    """
    unit: int = 10 ** max(0, len(str(count)) - 2)
    return -(-count // unit) * unit


def count_seeds(pairs: Sequence[tuple[str, str, int | None]]) -> int:
    """Returns the most distinct training seeds that pairs of one task and base have; None is no seed.

    >>> count_seeds([("sst2", "bert", 0), ("sst2", "bert", 0), ("sst2", "bert", 1), ("rte", "bert", None)])
    2
    """
    seeds: dict[tuple[str, str], set[int]] = {}
    for task, base, seed in pairs:
        seeds.setdefault((task, base), set()).update(() if seed is None else (seed,))
    return max(map(len, seeds.values()))
