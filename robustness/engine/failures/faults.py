"""Faults: examples on which a victim or an attack fails while the other examples continue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from robustness.engine.evaluation import describe_source
from robustness.engine.outcome import Answered, Outcome, Problem
from robustness.testsets.example import Example
from robustness.victims.isolation import Fault, Isolation


def isolate_outcomes(
    find: Callable[[Sequence[Example]], Iterable[Outcome]],
    examples: Sequence[Example],
    gold: Callable[[Example], str],
) -> Iterator[Outcome]:
    """Yields one outcome for each example, in any order; an example on which `find` fails is errored.

    Args:
        find: finds the outcomes of some examples.
        examples: all of them.
        gold: returns the gold of one, in words.

    Raises:
        RobustnessError, VictimGoneError: see `Isolation.ask`.
    """
    known = {example.id: example for example in examples}

    def answer(part: Mapping[str, Example]) -> Iterator[tuple[str, Outcome]]:
        return ((outcome.example_id, outcome) for outcome in find(list(part.values())))

    for name, found in Isolation().ask(answer, known, lambda example: example.group):
        yield errored(known[name], gold(known[name]), found.reason) if isinstance(found, Fault) else found


def errored(example: Example, gold: str, reason: str) -> Outcome:
    """Returns the errored outcome of an example: its gold and the reason."""
    outcome = Outcome.of(example, gold, Problem(reason), clean=Answered(example, None))
    return describe_source(outcome, example)
