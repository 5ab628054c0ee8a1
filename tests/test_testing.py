from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import lists, sampled_from
from small_recipes import TEXT_RECIPES, small

from robustness import Access, BudgetExhausted, Example, testing
from robustness.definitions.catalog import ATTACKS
from robustness.engine.attack import Gradients, Search
from robustness.engine.named_attack import GradientAttack
from robustness.engine.outcome import Status
from robustness.engine.scheduler import Scheduler
from robustness.errors import AttackError, DataError
from robustness.recipes.embedding.attack import WithinRadii
from robustness.recipes.embedding.ball_attacks import Fgsm
from robustness.recipes.embedding.balls import Norm
from robustness.recipes.embedding.trial import EmbeddingResult
from robustness.tasks.task import Protected, Task
from robustness.testing import check_attack
from robustness.testsets.protection import find_protected
from robustness.victims.toy_models import toy_victims


@pytest.mark.parametrize("name", ATTACKS.names())
def test_every_shipped_attack_keeps_the_rules(name: str) -> None:
    try:
        attack = small(name)
    except DataError as missing:
        pytest.skip(str(missing))

    check_attack(attack)


WORDS = ["the", "film", "is", "good", "plot", "dull", "story", "acting", "movies", "great", "awful", "not", "played"]
NUMBERS = ["7", "42", "1990", "twelve", "half"]
NUMBERED = Task(
    "mood", ("text",), ("sad", "glad"), ("text",), protected=Protected(words=("film", "not"), numbers=True)
)


def keeps_in_order(clean: str, adversarial: str) -> bool:
    """Whether every number, "film" and "not" of the clean text is a word of the other one, in order."""
    left, kept = iter(re.findall(r"\w+", adversarial)), {*NUMBERS, "film", "not"}
    return all(word in left for word in re.findall(r"\w+", clean) if word in kept)


@pytest.mark.parametrize("name", TEXT_RECIPES)
@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow], database=None, derandomize=True)
@given(words=lists(sampled_from([*WORDS, *NUMBERS, *NUMBERS]), min_size=4, max_size=9))
def test_what_is_protected_survives_every_shipped_text_recipe(name: str, words: list[str]) -> None:
    try:
        attack = small(name)
    except DataError as missing:
        pytest.skip(str(missing))
    texts = (" ".join(words) + " .",)
    victim = next(iter(toy_victims(0)))
    label = int(victim.scores([texts])[0].argmax())
    example = Example("1", texts, label, protected=find_protected(NUMBERED, texts, ()))

    (outcome,) = (
        attack.attack.run(victim, [example], seed=0, digest=attack.digest)
        if isinstance(attack.attack, GradientAttack)
        else Scheduler(attack, victim, seed=0).run([example])
    )

    assert outcome.status is not Status.ERRORED, outcome.error
    assert outcome.adversarial_text is not None
    assert keeps_in_order(texts[0], outcome.adversarial_text[0]), outcome.adversarial_text


def test_an_attack_that_edits_what_is_protected_is_told() -> None:
    class Lower:
        access = Access.SCORES

        def search(self, example: Example, rng: np.random.Generator) -> Search:
            candidate = example.with_texts([text.lower() for text in example.texts])
            yield [candidate]
            return candidate

    with pytest.raises(
        AttackError, match="changed 'Paris', which the task protects; edit the words of example.words"
    ):
        check_attack(Lower)


class Shout:
    """Upper-cases every word, one at a time."""

    access = Access.SCORES

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        for i in range(len(example.words)):
            candidate = example.replace_word(i, example.words[i].upper())
            answer = yield [candidate]
            if answer.reached[0]:
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
        (NotAGenerator, r"answer = yield \[candidate\]"),
        (FailsOnNoWords, r"no text may make it fail: on \('',\) it raised IndexError"),
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


class Perturbs:
    """One step in a ball, by the shipped part."""

    access = Access.GRADIENTS
    norm = "l2"
    radii = (0.5,)

    def perturb(self, victim: Any, examples: Any, generators: Any) -> EmbeddingResult:
        return WithinRadii(Fgsm(Norm.L2), self.radii).perturb(victim, examples, generators)


class LeavesItsBall(Perturbs):
    def perturb(self, victim: Any, examples: Any, generators: Any) -> EmbeddingResult:
        return WithinRadii(Fgsm(Norm.L2), (50.0,)).perturb(victim, examples, generators)


class HidesItsZeros(Perturbs):
    def perturb(self, victim: Any, examples: Any, generators: Any) -> EmbeddingResult:
        result = super().perturb(victim, examples, generators)
        return replace(result, zero_gradients=torch.zeros_like(result.zero_gradients))


class WrongShape(Perturbs):
    def perturb(self, victim: Any, examples: Any, generators: Any) -> EmbeddingResult:
        result = super().perturb(victim, examples, generators)
        return replace(result, delta=result.delta[:, :, :1])


class LeavesTrainingMode(Perturbs):
    def perturb(self, victim: Any, examples: Any, generators: Any) -> EmbeddingResult:
        result = super().perturb(victim, examples, generators)
        victim.model.train()
        return result


class DependsOnTheBatch(Perturbs):
    radii = (50.0,)

    def perturb(self, victim: Any, examples: Any, generators: Any) -> EmbeddingResult:
        radius = 0.05 * len(examples)
        return WithinRadii(Fgsm(Norm.L2), (radius,)).perturb(victim, examples, generators)


class AsksForGradients:
    access = Access.GRADIENTS

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        gradients = yield Gradients([example])
        sizes = np.abs(gradients[0].gradient).sum(axis=1)
        if not len(sizes):
            return example
        segment, start, end = gradients[0].places[int(sizes.argmax())]
        texts = list(example.texts)
        texts[segment] = texts[segment][:start] + "x" + texts[segment][end:]
        return example.with_texts(texts)


class HasNoAccess(AsksForGradients):
    access = Access.SCORES


class OverspendsOnGradients(AsksForGradients):
    def search(self, example: Example, rng: np.random.Generator) -> Search:
        for number in range(20):
            try:
                yield Gradients([example.with_texts([f"{text} {number}" for text in example.texts])])
            except BudgetExhausted:
                continue
        return example


def test_white_box_attacks_of_both_kinds_that_keep_the_rules_pass() -> None:
    check_attack(Perturbs)
    check_attack(AsksForGradients)


@pytest.mark.parametrize(
    ("attack", "rule"),
    [
        (LeavesItsBall, "the largest of its radii is 0.5"),
        (HidesItsZeros, "it counted none of them"),
        (WrongShape, "delta has shape"),
        (LeavesTrainingMode, "it changed the model"),
        (DependsOnTheBatch, "same seed must give the same result"),
        (HasNoAccess, "asked for gradients; its access is scores"),
        (OverspendsOnGradients, "asked again after its budget"),
    ],
)
def test_the_first_broken_rule_of_a_white_box_attack_is_named(attack: type, rule: str) -> None:
    with pytest.raises(AttackError, match=rule):
        check_attack(attack)


class Silent(Shout):
    def search(self, example: Example, rng: np.random.Generator) -> Search:
        yield [example]
        while True:
            pass


class RepeatsItself(Shout):
    def search(self, example: Example, rng: np.random.Generator) -> Search:
        while True:
            yield [example]


class InventsForEver(Shout):
    def search(self, example: Example, rng: np.random.Generator) -> Search:
        number = 0
        while True:
            number += 1
            yield [example.with_texts([f"{text} {number}.{i}" for text in example.texts]) for i in range(500)]


class EndlessOnNoWords(Shout):
    def search(self, example: Example, rng: np.random.Generator) -> Search:
        while not example.words:
            yield [example]
        yield [example]
        return example


class OutlivesItsBudget(Shout):
    def search(self, example: Example, rng: np.random.Generator) -> Search:
        try:
            for number in range(5):
                yield [example.with_texts([f"{text} {number}" for text in example.texts])]
        except BudgetExhausted:
            while True:
                pass
        return example


class PerturbsForEver(Perturbs):
    def perturb(self, victim: Any, examples: Any, generators: Any) -> EmbeddingResult:
        while True:
            pass


class ClimbsForEver(AsksForGradients):
    def search(self, example: Example, rng: np.random.Generator) -> Search:
        number = 0
        while True:
            number += 1
            yield Gradients([example.with_texts([f"{text} {number}" for text in example.texts])])


@pytest.mark.parametrize(
    ("attack", "rule"),
    [
        (Silent, r"no text may make it fail: on \('a charm.*\) it took more than 0.5 seconds for this example"),
        (RepeatsItself, "asked 1,000 questions in a row about nothing new: a search must end without a budget too"),
        (InventsForEver, "asked about more than 50,000 candidates: a search must end without a budget too"),
        (EndlessOnNoWords, r"on \('',\) it asked 1,000 questions in a row about nothing new"),
        (OutlivesItsBudget, "it took more than 0.5 seconds for this example"),
        (PerturbsForEver, "it took more than 0.5 seconds for a batch of 1: perturb must end"),
        (ClimbsForEver, "asked about more than 200 candidates"),
    ],
)
def test_an_attack_without_an_end_is_named_by_the_rule_it_breaks(
    attack: type, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing, "SECONDS", 0.5 if "0.5 seconds" in rule else 30.0)  # a busy machine asks slowly
    monkeypatch.setattr(testing, "MOST_WHITE_BOX", 200)
    started = time.monotonic()

    with pytest.raises(AttackError, match=rule):
        check_attack(attack)

    assert time.monotonic() - started < 60
