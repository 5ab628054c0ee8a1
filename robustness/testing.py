"""The conformance suite for anyone's attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from robustness.engine.attack import Access, NamedAttack, Scorer, ScoreRows
from robustness.engine.outcome import Outcome, Status
from robustness.engine.scheduler import WIDTH, Scheduler
from robustness.errors import AttackError
from robustness.recipes.building import name_attack
from robustness.testsets.example import Example, Texts

BUDGETS = (1, 4, 16, 64)
"""Queries an example that an attack must get along with."""

SENTENCES = (
    "a charming and often affecting journey .",
    "The plot isn't new, but Anna's 2 films in Paris are GREAT!",
    "this film is not what it was meant to be , and it never will be .",
)

UNUSUAL_TEXTS = (
    "",
    " ",
    "film",
    "...!?",
    "the and of",
    "'quoted' -dashed- under_score a*b me@home",
    "\u0641\u064a\u0644\u0645 \u062c\u0645\u064a\u0644 \u062c\u062f\u0627",
    "\u05e1\u05e8\u05d8 \u05d8\u05d5\u05d1 good \u05de\u05d0\u05d5\u05d3",
    "cafe\u0301 nai\u0308ve re\u0301sume\u0301",
    "\u7535\u5f71 \u5f88\u597d",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 family \U0001f600",
    "zero\u200bwidth and\u00adsoft \u202ereversed\u202c",
    "\u0130stanbul \u1e9etra\u00dfe \ufb01lm \U0001d557\U0001d55a\U0001d55d\U0001d55e",
    "line one\nline two\ttabbed\x00null",
    "a" * 300,
)


@dataclass(frozen=True, slots=True)
class _LetterPairVictim:
    """A linear model of letter pairs: every edit moves its scores, and many flip its answer."""

    weights: np.ndarray[tuple[int, ...], np.dtype[np.float64]]

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        return np.stack([self._score("\n".join(text)) for text in texts]).astype(np.float32)

    def _score(self, text: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        pairs = [(31 * ord(a) + ord(b)) % len(self.weights) for a, b in pairwise(f"\n{text}\n")]
        return np.asarray(self.weights[pairs].sum(axis=0) / 8)


@dataclass(frozen=True, slots=True)
class _StubbornVictim:
    """Answers 1 whatever it reads, so that a search goes on to its end."""

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        return np.tile(np.array([0.0, 1.0], dtype=np.float32), (len(texts), 1))


def check_attack(attack: object, *, seed: int = 0) -> None:
    """Checks that an attack keeps the rules by which the engine runs it; returns nothing where it does.

    Runs it on sentences, pairs and unusual texts against small models made for it: seconds, and no model is loaded.
    The rules: it follows the protocol; an example is never changed in place; nothing but the open segments is
    changed; no text makes it fail; the same seed gives the same result whatever the width and the order; it ends,
    with a proposal, when its budget does.

    Args:
        attack: a class, called without arguments, an instance, or a NamedAttack.
        seed: of the searches and of the models.

    Raises:
        AttackError: names the first rule that is broken, and where.
    """
    named = attack if isinstance(attack, NamedAttack) else name_attack(attack)
    if named.attack.access is not Access.SCORES:
        raise AttackError(f"attack {named.name}: only attacks that ask for scores can be checked")
    rng = np.random.default_rng(seed)
    victims: list[Scorer] = [_LetterPairVictim(rng.normal(size=(997, labels))) for labels in (2, 3)]
    for victim in (*victims, _StubbornVictim()):
        examples = _examples(victim)
        outcomes = _attack(named, victim, examples, seed=seed)
        _check_same_result(named, victim, examples, outcomes, seed=seed)
        for budget in BUDGETS:
            _check_budget(named, victim, examples, budget, seed=seed)


def _examples(victim: Scorer) -> list[Example]:
    """Single texts, and pairs of which one side, or both, are open; labelled as the victim answers."""
    texts: list[tuple[Texts, tuple[int, ...]]] = [((text,), (0,)) for text in (*SENTENCES, *UNUSUAL_TEXTS)]
    texts += [((SENTENCES[0], SENTENCES[1]), (1,)), ((SENTENCES[2], SENTENCES[0]), (0, 1)), (("", ""), (0, 1))]
    labels = victim.scores([each for each, _ in texts]).argmax(axis=1)
    return [
        Example(f"check-{number}", each, int(label), attacked=open_segments)
        for number, ((each, open_segments), label) in enumerate(zip(texts, labels, strict=True))
    ]


def _attack(
    named: NamedAttack, victim: Scorer, examples: Sequence[Example], *, seed: int, width: int = WIDTH
) -> dict[str, Outcome]:
    """Returns the outcomes by example, having checked that none is errored and no example was changed."""
    kept = [(replace(example, _spans=None), example.words) for example in examples]
    outcomes = {}
    for outcome in Scheduler(named, victim, seed=seed, width=width).run(examples):
        if outcome.status is Status.ERRORED:
            raise AttackError(
                f"attack {named.name}: no text may make it fail: on {outcome.original_text!r} it {_reason(outcome)}"
            )
        outcomes[outcome.example_id] = outcome
    for example, (copy, words) in zip(examples, kept, strict=True):
        if example != copy or example.words != words:
            raise AttackError(
                f"attack {named.name}: an example is never changed in place, and {copy.texts!r} was; "
                "return example.replace_word(...) or example.with_texts(...)"
            )
    return outcomes


def _check_same_result(
    named: NamedAttack, victim: Scorer, examples: Sequence[Example], outcomes: dict[str, Outcome], *, seed: int
) -> None:
    for order, width in ((examples, 1), (examples[::-1], 3)):
        again = _attack(named, victim, order, seed=seed, width=width)
        for name, outcome in outcomes.items():
            if replace(outcome, seconds=0.0) != replace(again[name], seconds=0.0):
                raise AttackError(
                    f"attack {named.name}: the same seed must give the same result for any width and order; on "
                    f"{outcome.original_text!r} it proposed {outcome.adversarial_text!r} after {outcome.queries} "
                    f"queries, then {again[name].adversarial_text!r} after {again[name].queries}; draw randomness "
                    "from the rng it is given alone, and keep nothing from one example to the next"
                )


def _check_budget(named: NamedAttack, victim: Scorer, examples: Sequence[Example], budget: int, *, seed: int) -> None:
    for outcome in _attack(replace(named, max_queries=budget), victim, examples, seed=seed).values():
        if outcome.queries > budget:
            raise AttackError(
                f"attack {named.name}: it asked {outcome.queries} queries about {outcome.original_text!r}; "
                f"its budget was {budget}"
            )


def _reason(outcome: Outcome) -> str:
    """What the engine wrote down, without the name of our own exception."""
    return (outcome.error or "ended without a reason").removeprefix("AttackError: ")
