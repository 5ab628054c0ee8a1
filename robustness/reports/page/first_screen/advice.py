"""What would answer what a run leaves open: examples and seeds, the command, and its cost."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from robustness.engine.outcome import Status
from robustness.reports.comparisons.comparison import Family
from robustness.reports.comparisons.controls import control_attacks
from robustness.reports.summaries.kept import Kept
from robustness.reports.summaries.run_facts import command_line
from robustness.reports.summaries.summary import Summary
from robustness.reports.summaries.tallies import of_family
from robustness.reports.summaries.wording import points
from robustness.reports.tables.examples import keeps_prediction
from robustness.runs.cells import NO_ATTACK, WORST_CASE
from robustness.runs.storage.record import RunRecord
from robustness.stats import Reason, Verdict
from robustness.stats.planning import (
    MIN_SEEDS,
    detectable_gap,
    detectable_gap_over_seeds,
    examples_for_equivalence,
)

MORE_SEEDS = (5, 10)
MAX_EXAMPLES = 2**16
"""Beyond it no one attacks a test set."""
_CLOSE = 1.02
"""Of a bisection over numbers of examples."""


@dataclass(frozen=True, slots=True)
class Advice:
    """The next step that the first screen suggests."""

    title: str
    sentences: tuple[str, ...]
    command: str = ""
    cost: str = ""
    """Of the command, relative to this run."""


@dataclass(frozen=True, slots=True)
class Needed:
    """Numbers of examples; None: more than anyone has."""

    equal: int | None
    """To show equal arms to be equal."""
    gap: int | None
    """To find a gap as large as the one seen."""


def advise(answer: Summary, rows: pd.DataFrame, examples: pd.DataFrame, record: RunRecord, folder: Path) -> Advice:
    """Returns what to do next about one pair or method.

    Args:
        answer: Its answer.
        rows: Its rows of pairs.csv.
        examples: examples.csv's rows.
        record: The run's.
        folder: Where the run lies.
    """
    planned = of_family(rows, Family.PLANNED)
    if planned.empty:
        words = "Attack the pair, or ask it an adversarial test set, for a verdict on fragility."
        return Advice("To get an answer", (words,), "robustness run attacks-quick --pairs FILE --out DIR")
    seeds = int(planned["n_seeds"].max())
    reasons = set(planned["reason"].dropna())
    undecided = next((each for each in answer.kept if each.verdict is Verdict.INCONCLUSIVE), None)
    if undecided is None or answer.verdict is not Verdict.INCONCLUSIVE:
        return Advice("How far this reaches", tuple(_scope(answer, seeds)))
    if reasons & {Reason.SHARED_REFERENCE, Reason.SHARED_CANDIDATE}:
        return Advice("To get an answer", ("Train both arms anew with every seed: three seeds or more of each.",))
    if seeds == MIN_SEEDS - 1:
        words = "Train and run a third seed of both arms, better five."
        return Advice("To get an answer", (words,), cost="each further seed costs about half of this run again")
    if set(planned["reason"]) == {Reason.CEILING}:
        return Advice("To get an answer", ("Both are nearly always right: take stronger attacks.",))
    if set(planned["reason"]) == {Reason.FLOOR}:
        return Advice("To get an answer", tuple(_at_floor(answer, seeds)))
    if seeds >= MIN_SEEDS:
        return Advice("To get an answer", tuple(_more_seeds(undecided, answer, seeds, examples, record)))
    return _more_examples(answer, undecided, planned, examples, (record, folder))


def _scope(answer: Summary, seeds: int) -> Iterator[str]:
    if seeds < MIN_SEEDS:
        yield _of_method(answer)
    bases = {pair.base for pair in answer.pairs}
    sets = {each.testset for each in answer.kept}
    yield (
        f"It holds for {_count(len(bases), 'base model')} and {_count(len(sets), 'test set')} under the attacks "
        "above; other models, tasks or attacks may answer otherwise."
    )


def _at_floor(answer: Summary, seeds: int) -> Iterator[str]:
    yield "Both arms get nearly everything wrong, so more examples would not show a difference."
    yield "Compare the effort that breaking takes, below, or give the attacks a smaller budget."
    if seeds < MIN_SEEDS:
        yield _of_method(answer)


def _of_method(answer: Summary) -> str:
    return (
        f"This compares two checkpoints. To speak of {answer.arms.candidate.name} itself, train and run "
        f"{MIN_SEEDS} seeds or more of both arms."
    )


def _more_seeds(kept: Kept, answer: Summary, seeds: int, examples: pd.DataFrame, record: RunRecord) -> Iterator[str]:
    share = count_rarer_share(kept, answer, examples, record)
    gaps = [
        f"{more} seeds a gap of {points(math.ceil(1000 * gap) / 1000)}"
        for more in MORE_SEEDS
        if more > seeds and not math.isnan(gap := detectable_gap_over_seeds(more, kept.n, rarer_share=share))
    ]
    if gaps:
        yield f"With {kept.n:,} examples, {' and '.join(gaps)} would be found (power .80)."
    yield "More training seeds say more about the method than more examples."


def _more_examples(
    answer: Summary, kept: Kept, planned: pd.DataFrame, examples: pd.DataFrame, run: tuple[RunRecord, Path]
) -> Advice:
    record, folder = run
    share, gap = count_rarer_share(kept, answer, examples, record), abs(kept.robust[0] - kept.robust[1])
    margin, alpha = record.statistics.margin, record.statistics.alpha / len(planned)
    needed = find_needed(share, gap, margin, alpha)
    wanted = needed.gap if gap > margin and needed.gap is not None else needed.equal
    sentences = list(_needed_sentences(needed, gap, margin))
    testset = next((each for each in record.testsets if each.name == kept.testset), None)
    if testset is None:  # tables of other runs
        return Advice("To get an answer", (*sentences, _of_method(answer)))
    available = testset.n - testset.n_selecting
    limit = min(_round_up(wanted or available), available)
    if wanted is None or wanted > available:
        found = detectable_gap(available, rarer_share=share, alpha=alpha)
        whole = "" if math.isnan(found) else f", which would find a gap of {points(math.ceil(1000 * found) / 1000)}"
        sentences.append(f"{kept.testset} has {available:,}{whole}: add test sets or training seeds.")
    sentences.append(_of_method(answer))
    if record.attacked is not None or limit <= testset.n_used:
        return Advice("To get an answer", tuple(sentences))
    command, factor = raise_limit(record, folder, limit), limit / testset.n_used
    cost = f"about {factor:.2g} \u00d7 the cost of this run"
    return Advice("To get an answer", tuple(sentences), command, cost)


def _needed_sentences(needed: Needed, gap: float, margin: float) -> Iterator[str]:
    if gap > margin and needed.gap is not None:
        yield f"A gap of {points(gap)}, as seen here, would be found with about {_round_up(needed.gap):,} examples."
    if needed.equal is not None:
        count = f"about {_round_up(needed.equal):,} examples"
        yield f"To show two equal arms equal within {points(margin)} takes {count}."
    else:
        yield f"The arms disagree so often that no usual test set shows them equal within {points(margin)}."


def find_needed(rarer_share: float, gap: float, margin: float, alpha: float) -> Needed:
    """Returns how many examples would answer, with power .80.

    Args:
        rarer_share: The share of the examples that only the worse arm has right.
        gap: The difference that was seen, a fraction.
        margin: The difference that counts as equal.
        alpha: The level of a single test of the family.
    """
    try:
        equal: int | None = examples_for_equivalence(margin=margin, rarer_share=rarer_share)
    except ValueError:  # more than a million
        equal = None
    few, many = 1.0, 64.0
    if gap <= 0:
        return Needed(equal, None)

    def finds(n: float) -> bool:
        return detectable_gap(int(n), rarer_share=rarer_share, alpha=alpha) <= gap

    while not finds(many):
        few, many = many, 2 * many
        if many > MAX_EXAMPLES:
            return Needed(equal, None)
    while many / few > _CLOSE:
        middle = math.sqrt(few * many)
        few, many = (few, middle) if finds(middle) else (middle, many)
    return Needed(equal, math.ceil(many))


def count_rarer_share(kept: Kept, answer: Summary, examples: pd.DataFrame, record: RunRecord) -> float:
    """Returns the share of examples that only the worse arm has right, one more of either as in `rarer_share`.

    Args:
        kept: The test set and the attack.
        answer: Of whose pairs.
        examples: examples.csv's rows.
        record: The run's; it says which attacks enter its worst case.
    """
    here = examples[examples["testset"] == kept.testset]
    left_out = [NO_ATTACK, *control_attacks(record)]
    planned = ~here["attack"].isin(left_out) & ~keeps_prediction(here)
    names = planned if kept.attack == WORST_CASE else here["attack"] == kept.attack
    here = here[names & (here["status"] != Status.ERRORED)]
    right = here["correct"] == 1 if kept.attack == NO_ATTACK else here["status"] == Status.FAILED
    by_arm = right.groupby([here["checkpoint"], here["example_id"]]).min().unstack("checkpoint")
    rarer = n = 0
    for pair in answer.pairs:
        if {pair.reference, pair.candidate} <= set(by_arm.columns):
            both = by_arm[[pair.reference, pair.candidate]].dropna().astype(bool)
            only = [int((both.iloc[:, arm] & ~both.iloc[:, 1 - arm]).sum()) for arm in (0, 1)]
            rarer, n = rarer + min(only), n + len(both)
    return min(0.5, (rarer + 1) / (n + 2))


def raise_limit(record: RunRecord, folder: Path, limit: int) -> str:
    """Returns the command of a run with another limit, into a folder beside it."""
    words = shlex.split(command_line(record, folder.with_name(f"{folder.name}-{limit}")))
    if "--limit" in words:
        words[words.index("--limit") + 1] = str(limit)
    else:
        words[-2:-2] = ["--limit", str(limit)]
    return shlex.join(words)


def _round_up(count: int) -> int:
    """Two digits."""
    unit: int = 10 ** max(0, len(str(count)) - 2)
    return -(-count // unit) * unit


def _count(n: int, noun: str) -> str:
    return f"{'one' if n == 1 else n} {noun}{'' if n == 1 else 's'}"
