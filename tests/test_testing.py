from __future__ import annotations

import numpy as np
import pytest

from robustness import Access, BudgetExhausted, Example
from robustness.definitions.catalog import ATTACKS
from robustness.engine.attack import Search
from robustness.errors import AttackError, DataError
from robustness.recipes.building import find_attack
from robustness.testing import check_attack

ASK_FOR_SCORES = [
    name
    for name in ATTACKS.names()
    if (definition := ATTACKS.find(name).definition).access == Access.SCORES
    and definition.search.kind
    != "distractor-search"  # of question answering; tests/recipes/test_distractor_search.py
]


@pytest.mark.parametrize("name", ASK_FOR_SCORES)
def test_every_shipped_attack_keeps_the_rules(name: str) -> None:
    try:
        attack = find_attack(name)
    except DataError as missing:
        pytest.skip(str(missing))

    check_attack(attack)


class Shout:
    """Upper-cases every word, one at a time."""

    access = Access.SCORES

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        for i in range(len(example.words)):
            candidate = example.replace_word(i, example.words[i].upper())
            scores = yield [candidate]
            if scores[0].argmax() != example.label:
                return candidate
        return example


class NoAccess:
    def search(self, example: Example, rng: np.random.Generator) -> Search:
        yield [example]
        return example


class NotAGenerator:
    access = Access.SCORES

    def search(self, example: Example, rng: np.random.Generator) -> Example:
        return example


class FailsOnNoWords(Shout):
    def search(self, example: Example, rng: np.random.Generator) -> Search:
        yield [example.replace_word(0, "x")]
        return example


class ReturnsText(Shout):
    def search(self, example: Example, rng: np.random.Generator) -> Search:
        yield [example]
        return example.texts[0]  # type: ignore[return-value]


class ChangesInPlace(Shout):
    def search(self, example: Example, rng: np.random.Generator) -> Search:
        changed = example.with_texts([f"{text}!" for text in example.texts])
        yield [changed]
        object.__setattr__(example, "texts", changed.texts)
        return example


class ChangesClosedSegments(Shout):
    def search(self, example: Example, rng: np.random.Generator) -> Search:
        changed = example.with_texts([f"{text}!" for text in example.texts])
        yield [changed]
        return changed


class Remembers(Shout):
    def __init__(self) -> None:
        self.seen = 0

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        self.seen += 1
        candidate = example.with_texts([example.texts[0] + "!" * self.seen, *example.texts[1:]])
        if 0 not in example.attacked:
            return example
        yield [candidate]
        return candidate


class OwnRandomness(Shout):
    generator = np.random.default_rng(0)

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        for i in range(len(example.words)):
            candidate = example.replace_word(i, str(self.generator.integers(10**6)))
            yield [candidate]
            return candidate
        return example


class IgnoresItsBudget(Shout):
    def search(self, example: Example, rng: np.random.Generator) -> Search:
        for number in range(100):
            try:
                yield [example.with_texts([f"{text}{number}" for text in example.texts])]
            except BudgetExhausted:
                continue
        return example


def test_an_attack_that_keeps_the_rules_passes_as_class_and_as_instance() -> None:
    check_attack(Shout)
    check_attack(Shout(), seed=1)


@pytest.mark.parametrize(
    ("attack", "rule"),
    [
        (NoAccess, "`access` is missing"),
        (NotAGenerator, "yields lists"),
        (FailsOnNoWords, r"no text may make it fail: on \('',\) it IndexError"),
        (ReturnsText, "returned str; expected the Example"),
        (ChangesInPlace, "never changed in place"),
        (ChangesClosedSegments, "changed segment 0, which is not open"),
        (Remembers, "same seed must give the same result"),
        (OwnRandomness, "same seed must give the same result"),
        (IgnoresItsBudget, "asked again after its budget"),
    ],
)
def test_the_first_broken_rule_is_named(attack: type, rule: str) -> None:
    with pytest.raises(AttackError, match=rule):
        check_attack(attack)
