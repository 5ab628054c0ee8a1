"""Faults: examples on which a victim, or an attack on it, fails while the others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from robustness.engine.outcome import Outcome, Status
from robustness.testsets.example import Example
from robustness.victims.isolation import Fault, Isolation


def isolate_outcomes(
    find: Callable[[Sequence[Example]], Iterable[Outcome]], examples: Sequence[Example]
) -> Iterator[Outcome]:
    """Yields one outcome for each example as `find` does, in any order; an example on which it fails is errored.

    Raises:
        RobustnessError, VictimGoneError: see `Isolation.ask`.
    """
    known = {example.id: example for example in examples}

    def answer(part: Mapping[str, Example]) -> Iterator[tuple[str, Outcome]]:
        return ((outcome.example_id, outcome) for outcome in find(list(part.values())))

    for name, found in Isolation().ask(answer, known, lambda example: example.group):
        yield errored(known[name], found.reason) if isinstance(found, Fault) else found


def errored(example: Example, reason: str) -> Outcome:
    """Returns the outcome of an example of which nothing is known but why."""
    return Outcome(
        example_id=example.id,
        group_id=example.group,
        label=example.label,
        status=Status.ERRORED,
        clean_prediction=None,
        adversarial_prediction=None,
        clean_score=None,
        score=None,
        queries=0,
        forwards=0,
        modified_words=None,
        modified_share=None,
        similarity=None,
        seconds=0.0,
        original_text=example.texts,
        adversarial_text=None,
        error=reason.encode("utf-8", "backslashreplace").decode(),
        method=example.method or None,
        construction=example.construction or None,
    )
