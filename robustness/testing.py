"""The conformance suites for anyone's attack and task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import cast

import numpy as np
import torch

from robustness.definitions.seeds import refuse_seed
from robustness.engine.attack import Access, Attack, ScoreRows
from robustness.engine.named_attack import GradientAttack, NamedAttack
from robustness.engine.outcome import Outcome, Status
from robustness.engine.respondents import Scorer
from robustness.engine.scheduler import WIDTH, Scheduler
from robustness.errors import AttackError
from robustness.recipes.building import name_attack
from robustness.recipes.limits import Limits, limit_attack
from robustness.testsets.example import Example, Span, Texts
from robustness.testsets.task_checks import check_rows, check_task
from robustness.victims.heads.head import Head, LabelHead
from robustness.victims.toy_models import toy_victims

__all__ = ["check_attack", "check_rows", "check_task"]

BUDGETS = (1, 4, 16, 64)
"""Queries an example that an attack must get along with."""

SECONDS = 20.0
"""What an attack's own code may take for one example, or for a batch of embeddings, before it seems endless."""
MOST_CANDIDATES, MOST_WHITE_BOX = 50_000, 5_000
"""What a search may ask about for one example without a budget; the second where a model with gradients answers."""

SENTENCES = (
    "a charming and often affecting journey .",
    "The plot isn't new, but Anna's 2 films in Paris are GREAT!",
    "this film is not what it was meant to be , and it never will be .",
)

PROTECTED = "Paris"
"""What no attack may edit in these texts."""

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
    """Answers 1 to every text, so that a search runs to its end."""

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        return np.tile(np.array([0.0, 1.0], dtype=np.float32), (len(texts), 1))


def check_attack(attack: object, *, seed: int = 0) -> None:
    """Checks that an attack follows the rules of the engine.

    Runs it on sentences, pairs and unusual texts against small generated models: seconds, and no model is loaded. It
    must follow the protocol and ask only for its declared access. It must never change an example in place, and
    change only unprotected parts of open segments. No text may make it fail. The same seed must give the same result
    for every width and order. It must end by itself and, with a proposal, when its budget ends. With access to
    gradients it must not change the model, must count vanished gradients, and must stay within the largest of its
    declared `radii`.

    Args:
        attack: a class, called without arguments, an instance, or a NamedAttack.
        seed: of the searches and of the models.

    Raises:
        AttackError: names the first rule that is broken, and where.
        UsageError: a seed out of range.
    """
    refuse_seed(seed)
    named = attack if isinstance(attack, NamedAttack) else name_attack(attack)
    if named.attack.access is Access.GRADIENTS:
        _check_white_box(named, seed=seed)
        return
    named = limit_attack(named, Limits(MOST_CANDIDATES, SECONDS))
    stubborn = _StubbornVictim()
    _attack(named, stubborn, _label(stubborn, _SINGLES[:1]), seed=seed)  # alone: what has no end shows soonest
    rng = np.random.default_rng(seed)
    victims: list[Scorer] = [_LetterPairVictim(rng.normal(size=(997, labels))) for labels in (2, 3)]
    for victim in (*victims, stubborn):
        examples = _examples(victim)
        outcomes = _attack(named, victim, examples, seed=seed)
        _check_same_result(named, victim, examples, outcomes, seed=seed)
        for budget in BUDGETS:
            _check_budget(named, victim, examples, budget, seed=seed)


def _check_white_box(given: NamedAttack, *, seed: int) -> None:
    named = limit_attack(given, Limits(MOST_WHITE_BOX, SECONDS))
    for victim in toy_victims(seed):
        for texts in (_SINGLES[:1], _SINGLES, _PAIRS):  # a model's batch is of one kind
            examples = _label(victim, texts)
            before = _state(victim)
            outcomes = _attack(named, victim, examples, seed=seed)
            if _state(victim) != before:
                raise AttackError(
                    f"attack {named.name}: it changed the model: its mode, what asks for gradients, or its weights; "
                    "work within robustness.victims.heads.embedded_batch.frozen(victim)"
                )
            _check_ball(given, outcomes)
            _check_same_result(named, victim, examples, outcomes, seed=seed)
            if isinstance(named.attack, Attack):
                for budget in BUDGETS[::2]:
                    _check_budget(named, victim, examples, budget, seed=seed)
        _check_vanished(named, victim, seed=seed)


def _state(victim: Head) -> tuple[object, ...]:
    model = victim.model
    parameters = list(model.parameters())
    modes = [module.training for module in model.modules()]
    wanted = [(p.requires_grad, p.grad is None) for p in parameters]
    return modes, wanted, [p.detach().double().sum().item() for p in parameters]


def _check_ball(named: NamedAttack, outcomes: dict[str, Outcome]) -> None:
    radii = getattr(getattr(named.attack, "method", None), "radii", None)
    for outcome in outcomes.values():
        if radii and outcome.distance is not None and outcome.distance > max(radii):
            raise AttackError(
                f"attack {named.name}: on {outcome.original_text!r} its find lies {outcome.distance:g} median token "
                f"norms away; the largest of its radii is {max(radii):g}"
            )


def _check_vanished(named: NamedAttack, victim: LabelHead, *, seed: int) -> None:
    """On a model with a constant answer every gradient vanishes."""
    with torch.no_grad():
        for parameter in victim.model.parameters():
            parameter.mul_(0.0)
    for outcome in _attack(named, victim, _label(victim, _SINGLES), seed=seed).values():
        if outcome.backwards and not outcome.zero_gradients:
            raise AttackError(
                f"attack {named.name}: on {outcome.original_text!r} all of its {outcome.backwards} gradients were "
                "zero, and it counted none of them; a failure without a gradient is no robustness"
            )


_Open = tuple[int, ...]
_SINGLES: list[tuple[Texts, _Open]] = [((text,), (0,)) for text in (*SENTENCES, *UNUSUAL_TEXTS)]
_PAIRS: list[tuple[Texts, _Open]] = [
    ((SENTENCES[0], SENTENCES[1]), (1,)),
    ((SENTENCES[2], SENTENCES[0]), (0, 1)),
    (("", ""), (0, 1)),
]


def _examples(victim: Scorer) -> list[Example]:
    """Single texts, and pairs of which one side, or both, are open; labelled as the victim answers."""
    return _label(victim, [*_SINGLES, *_PAIRS])


def _label(victim: Scorer, texts: Sequence[tuple[Texts, _Open]]) -> list[Example]:
    labels = victim.scores([each for each, _ in texts]).argmax(axis=1)
    return [
        Example(f"check-{number}", each, int(label), attacked=open_segments, protected=_protect(each))
        for number, ((each, open_segments), label) in enumerate(zip(texts, labels, strict=True))
    ]


def _protect(texts: Texts) -> tuple[Span, ...]:
    """The name of a place: an attack that edits it is told."""
    places = [(segment, text.find(PROTECTED)) for segment, text in enumerate(texts) if PROTECTED in text]
    return tuple((segment, start, start + len(PROTECTED)) for segment, start in places)


def _attack(
    named: NamedAttack, victim: Scorer, examples: Sequence[Example], *, seed: int, width: int = WIDTH
) -> dict[str, Outcome]:
    """Returns the outcomes by example, having checked that none is errored and no example was changed."""
    kept = [(replace(example, _spans=None), example.words) for example in examples]
    outcomes = {}
    for outcome in _run(named, victim, examples, seed=seed, width=width):
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


def _run(
    named: NamedAttack, victim: Scorer, examples: Sequence[Example], *, seed: int, width: int
) -> Iterator[Outcome]:
    if not isinstance(named.attack, GradientAttack):
        yield from Scheduler(named, victim, seed=seed, width=width, max_seconds=SECONDS).run(examples)
        return
    differentiable = cast("LabelHead", victim)  # white-box attacks are checked on planted victims alone
    for start in range(0, len(examples), width):
        yield from named.attack.run(differentiable, examples[start : start + width], seed=seed, digest=named.digest)


def _check_same_result(
    named: NamedAttack, victim: Scorer, examples: Sequence[Example], outcomes: dict[str, Outcome], *, seed: int
) -> None:
    # Passes back and forth are dear, and those of a few examples cost what those of one do.
    is_dear = isinstance(named.attack, GradientAttack)
    for order, width in ((examples[::-1], 4),) if is_dear else ((examples, 1), (examples[::-1], 3)):
        again = _attack(named, victim, order, seed=seed, width=width)
        for name, outcome in outcomes.items():
            if not _is_same(outcome, again[name]):
                raise AttackError(
                    f"attack {named.name}: the same seed must give the same result for any width and order; on "
                    f"{outcome.original_text!r} it proposed {outcome.adversarial_text!r} after {outcome.queries} "
                    f"queries, then {again[name].adversarial_text!r} after {again[name].queries}; draw randomness "
                    "from the rng it is given alone, and keep nothing from one example to the next"
                )


_MEASURED = ("seconds", "clean_quality", "quality", "distance")


def _is_same(one: Outcome, other: Outcome) -> bool:
    """Scores and distances may differ by the rounding of a model's batches, which is about 1e-7 of a logit."""
    if any(getattr(one, name) != getattr(other, name) for name in Outcome.__slots__ if name not in _MEASURED):
        return False
    pairs = [(getattr(one, name), getattr(other, name)) for name in _MEASURED[1:]]
    return all(a == b if a is None or b is None else np.isclose(a, b, rtol=1e-2, atol=1e-5) for a, b in pairs)


def _check_budget(named: NamedAttack, victim: Scorer, examples: Sequence[Example], budget: int, *, seed: int) -> None:
    for outcome in _attack(replace(named, max_queries=budget), victim, examples, seed=seed).values():
        if outcome.queries > budget:
            raise AttackError(
                f"attack {named.name}: it asked {outcome.queries} queries about {outcome.original_text!r}; "
                f"its budget was {budget}"
            )


def _reason(outcome: Outcome) -> str:
    """What the engine wrote down, as a verb: of our own exceptions, which begin with one, without their name."""
    reason = outcome.error or "ended without a reason"
    for own in ("AttackError: ", "the attack "):
        if reason.startswith(own):
            return reason.removeprefix(own).removeprefix("the attack ")
    return f"raised {reason}"
