"""Searches on a model that generates: they see losses and whether the response is wrong, as on every other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architectures import END, WORDS, make_tokenizer
from causal_models import generate_plainly, tiny_model

from robustness.engine.attack import Access, Losses, Search
from robustness.engine.evaluation import evaluate
from robustness.engine.named_attack import NamedAttack
from robustness.engine.outcome import Outcome, Status
from robustness.engine.query_cache import QueryCache
from robustness.engine.scheduler import Scheduler
from robustness.recipes.building import find_attack
from robustness.tasks.gold import GoldSpan
from robustness.tasks.task import Task, TaskKind
from robustness.tasks.text.answering import TextAnswer
from robustness.tasks.text.metrics import TextMetric
from robustness.testsets.example import Example
from robustness.victims.heads.texts import TextVictim

TASK = Task(
    "copying",
    ("text",),
    (),
    ("text",),
    kind=TaskKind.TEXT,
    template="a {text} is",
    answer=TextAnswer("whole", TextMetric.EXACT, max_new_tokens=5),
)


class Swap:
    """Replaces the word that raises the loss most, until the response is wrong."""

    access = Access.SCORES

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        changed = example
        for _ in range(3):
            candidates = [changed.replace_word(i, str(rng.choice(WORDS))) for i in range(len(example.words))]
            answer = yield Losses(candidates)
            changed = candidates[int(answer.losses.argmax())]
            if (yield [changed]).reached[0]:
                break
        return changed


@pytest.fixture(scope="module")
def victim() -> TextVictim:
    return TextVictim(tiny_model("llama"), make_tokenizer("none"), TASK)


def plain_tokens(victim: TextVictim, text: str) -> list[int]:
    prompt = victim.tokenizer(f"a {text} is")["input_ids"]
    return generate_plainly(victim.causal, prompt, max_new_tokens=5, eos_token_id=END)


def respond_plainly(victim: TextVictim, text: str) -> str:
    return str(victim.tokenizer.decode(plain_tokens(victim, text), skip_special_tokens=True))


@pytest.fixture(scope="module")
def examples(victim: TextVictim) -> list[Example]:
    """Texts whose gold is what the model says of them, but for every fifth."""
    rng = np.random.default_rng(0)
    made: list[Example] = []
    while len(made) < 15:
        text = " ".join(rng.choice(WORDS, size=6))
        said = respond_plainly(victim, text)
        gold = said if len(made) % 5 else "no such answer"
        if said:
            made.append(Example(str(len(made)), (text,), 1, answers=(GoldSpan(gold, 0),)))
    return made


def attack(victim: TextVictim, examples: list[Example]) -> list[Outcome]:
    """Outcomes in the order of the examples."""
    found = Scheduler(NamedAttack("swap", "digest", Swap()), victim, seed=0).run(examples)
    by_id = {outcome.example_id: outcome for outcome in found}
    return [by_id[example.id] for example in examples]


def test_outcomes_are_what_generate_says_of_the_proposals(victim: TextVictim, examples: Any) -> None:
    outcomes = attack(victim, examples)

    assert [outcome.status is Status.SKIPPED for outcome in outcomes] == [number % 5 == 0 for number in range(15)]
    for example, outcome in zip(examples, outcomes, strict=True):
        assert outcome.gold == example.answers[0].text
        assert outcome.clean_response == respond_plainly(victim, example.texts[0])
        if outcome.status is not Status.SKIPPED:
            assert outcome.adversarial_text is not None
            assert outcome.response == respond_plainly(victim, outcome.adversarial_text[0])
            assert (outcome.status is Status.SUCCEEDED) == (outcome.correct is False)
    assert sum(outcome.status is Status.SUCCEEDED for outcome in outcomes) > 3
    assert not victim.contradicted


def test_outcomes_count_what_was_decoded_for_them(victim: TextVictim, examples: Any) -> None:
    plain = list(evaluate(TextVictim(victim.model, victim.tokenizer, TASK), examples))

    for example, outcome in zip(examples, plain, strict=True):
        tokens = plain_tokens(victim, example.texts[0])
        assert (outcome.decodes, outcome.generated_tokens) == (1, len(tokens))
        assert outcome.cut is (END not in tokens)


class AsksLosses:
    """Asks for losses alone, and proposes the text of the largest one."""

    access = Access.SCORES

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        del rng
        candidates = [example.replace_word(i, word) for i in range(len(example.words)) for word in WORDS[:6]]
        answer = yield Losses(candidates)
        assert answer.free_reached is None
        return candidates[int(answer.losses.argmax())]


class DecodesAll:
    """The same victim, of whose candidates every one is decoded."""

    def __init__(self, victim: TextVictim) -> None:
        self.victim, self.grader, self.can = victim, victim.grader, victim.can

    def rows(self, asked: Any) -> Any:
        return self.victim.rows(asked)

    def read(self, texts: Any) -> list[bytes]:
        return self.victim.read(texts)


def run(attack: NamedAttack, victim: Any, examples: list[Example]) -> list[Outcome]:
    found = {outcome.example_id: outcome for outcome in Scheduler(attack, victim, seed=0).run(examples)}
    return [found[example.id] for example in examples]


def test_losses_decode_nothing_but_the_clean_text_and_the_proposal(victim: TextVictim, examples: Any) -> None:
    outcomes = run(NamedAttack("losses", "digest", AsksLosses()), victim, examples)

    for example, outcome in zip(examples, outcomes, strict=True):
        texts = dict.fromkeys([example.texts[0], *(outcome.adversarial_text or ())])
        tokens = [len(plain_tokens(victim, text)) for text in texts]
        assert (outcome.decodes, outcome.generated_tokens) == (len(tokens), sum(tokens))
        assert (outcome.status is Status.SKIPPED) == (len(tokens) == 1)


@pytest.mark.parametrize(
    ("name", "share"), [("deepwordbug", 0.7), ("pruthi", 0.7), ("input-reduction", 0.9), ("stress-append", 1)]
)
def test_searches_find_what_they_find_where_every_candidate_is_decoded(
    name: str, share: float, victim: TextVictim, examples: Any
) -> None:
    attack = find_attack(name)

    ours, plain = (run(attack, each, examples) for each in (victim, DecodesAll(victim)))

    kept = [(each.status, each.adversarial_text, each.queries, each.response) for each in ours]
    assert kept == [(each.status, each.adversarial_text, each.queries, each.response) for each in plain]
    tokens, most = (sum(each.generated_tokens or 0 for each in some) for some in (ours, plain))
    assert 0 < tokens <= share * most


def test_what_the_cache_knows_is_neither_read_nor_decoded_again(
    victim: TextVictim, examples: Any, tmp_path: Path
) -> None:
    def search() -> list[Outcome]:
        cache = QueryCache(tmp_path, "victim", victim.grader)
        attack = find_attack("deepwordbug")
        found = {each.example_id: each for each in Scheduler(attack, victim, seed=0, cache=cache).run(examples)}
        cache.close()
        return [found[example.id] for example in examples]

    first, second = search(), search()

    assert [each.adversarial_text for each in first] == [each.adversarial_text for each in second]
    assert {each.forwards for each in second} <= {0, 1} and sum(each.forwards for each in first) > 50
    assert all(each.decodes in (None, each.forwards) for each in second)


def test_a_test_set_is_evaluated_with_responses_and_quality(victim: TextVictim, examples: Any) -> None:
    outcomes = list(evaluate(victim, examples))

    assert [outcome.correct for outcome in outcomes] == [number % 5 != 0 for number in range(15)]
    assert all(outcome.quality == 1 for outcome in outcomes if outcome.correct)
    assert all(outcome.quality is not None and outcome.quality < 1 for outcome in outcomes if not outcome.correct)


def test_a_prompt_that_is_too_long_errs_alone(victim: TextVictim, examples: Any) -> None:
    long = Example("long", (" ".join(["film"] * 80),), 1, answers=(GoldSpan("a", 0),))

    outcomes = attack(victim, [*examples[1:4], long])

    assert [outcome.status is Status.ERRORED for outcome in outcomes] == [False, False, False, True]
    assert "its prompt has 82 tokens; the model takes 1 to 59" in (outcomes[-1].error or "")
