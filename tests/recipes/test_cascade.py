"""Cascades: later members run on survivors alone, and what they ask adds up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness import Access, BudgetExhausted, Example
from robustness.engine.attack import ScoreRows, Search
from robustness.engine.named_attack import NamedAttack
from robustness.engine.outcome import Outcome, Status
from robustness.engine.scheduler import Scheduler
from robustness.errors import DataError, DefinitionError
from robustness.recipes.building import find_attack
from robustness.recipes.cascade import Cascade
from robustness.recipes.text.constraints import Constraints
from robustness.recipes.text.edits import WordEdits
from robustness.recipes.text.ranking import ByGradient
from robustness.recipes.text.searches import GreedyWordRanking
from robustness.testing import check_attack
from robustness.testsets.example import Texts
from robustness.victims.toy_models import bag_victim, word_pieces

RECIPE = 'summary = "Two."\nfamily = "ensemble"\naccess = "scores"\n[search]\nkind = "cascade"\nmembers = {members}\n'


class WordsVictim:
    """Answers 1 while `good` or `fine` is read."""

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        return np.array([[0.5, bool({"good", "fine"} & set(text[0].split()))] for text in texts], dtype=np.float32)


class Drop:
    """Empties the word it is made for wherever it stands, one question a word of the text."""

    access = Access.SCORES

    def __init__(self, word: str) -> None:
        self._word = word
        self.attacked: list[str] = []

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        self.attacked.append(example.id)
        current = example
        try:
            for i, word in enumerate(example.words):
                form = "" if word == self._word else "x" if word == "a" else word
                answer = yield [current.replace_word(i, form)]
                current = current.replace_word(i, form)
                if answer.reached[0]:
                    return current
        except BudgetExhausted:
            pass
        return current


class Blind(Drop):
    """Proposes without a question about the proposal."""

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        self.attacked.append(example.id)
        yield [example.with_texts(["some other text"])]
        return example.with_texts([example.texts[0].replace(self._word, "")])


EXAMPLES = [
    Example("first", ("good film",), label=1),
    Example("second", ("fine film",), label=1),
    Example("neither", ("good and fine film",), label=1),
]


def run(
    members: Sequence[NamedAttack], *, max_queries: int | None = None, examples: Sequence[Example] = EXAMPLES
) -> dict[str, Outcome]:
    attack = NamedAttack("both", "digest", Cascade(members), max_queries=max_queries)
    return {o.example_id: o for o in Scheduler(attack, WordsVictim(), seed=0).run(examples)}


def named(attack: Drop, max_queries: int | None = None) -> NamedAttack:
    return NamedAttack("member", "digest", attack, max_queries=max_queries)


def test_later_members_run_on_survivors_alone_and_queries_add_up() -> None:
    first, second = Drop("good"), Drop("fine")

    outcomes = run([named(first), named(second)])

    assert first.attacked == ["first", "second", "neither"]
    assert sorted(second.attacked) == ["neither", "second"]
    assert {name: str(o.status) for name, o in outcomes.items()} == {
        "first": "succeeded",
        "second": "succeeded",
        "neither": "failed",
    }
    # `good` falls at the first word; a member's text that is the clean one costs nothing
    assert {name: o.queries for name, o in outcomes.items()} == {"first": 1, "second": 1, "neither": 4 + 2}
    assert outcomes["neither"].adversarial_text == EXAMPLES[2].texts


def test_a_proposal_that_was_not_asked_about_is_asked_about() -> None:
    first, second = Blind("good"), Drop("fine")

    outcomes = run([named(first), named(second)])

    assert outcomes["first"].queries == 2
    assert (outcomes["first"].status, outcomes["second"].status) == (Status.SUCCEEDED, Status.SUCCEEDED)
    assert sorted(second.attacked) == ["neither", "second"]


def test_a_member_keeps_its_own_budget() -> None:
    text = Example("late", ("a a a fine film",), label=1)
    short = run([named(Drop("good")), named(Drop("fine"), max_queries=3)], examples=[text])["late"]
    enough = run([named(Drop("good")), named(Drop("fine"), max_queries=4)], examples=[text])["late"]

    assert (short.status, short.queries) == (Status.FAILED, 5 + 3)
    assert (enough.status, enough.queries) == (Status.SUCCEEDED, 5 + 4)


@given(budget=st.integers(1, 12))
def test_success_never_falls_as_the_budget_grows(budget: int) -> None:
    text = Example("late", ("a a a fine film",), label=1)
    members = [named(Drop("good")), named(Drop("fine"))]
    small, large = (run(members, max_queries=each, examples=[text])["late"] for each in (budget, budget + 2))

    assert small.queries <= budget
    assert large.status is Status.SUCCEEDED or small.status is Status.FAILED


def test_a_member_that_asks_on_after_its_budget_is_errored() -> None:
    class Endless(Drop):
        def search(self, example: Example, rng: np.random.Generator) -> Search:
            for number in range(100):
                try:
                    yield [example.with_texts([f"good {number}"])]
                except BudgetExhausted:
                    continue
            return example

    outcome = run([named(Endless("x"), max_queries=2), named(Drop("fine"))], examples=EXAMPLES[:1])["first"]

    assert outcome.status is Status.ERRORED
    assert "asked again after its budget" in str(outcome.error)


def write(folder: Path, members: str, extra: str = "") -> str:
    path = folder / "mine.toml"
    path.write_text(RECIPE.format(members=members) + extra)
    return str(path)


def test_a_users_cascade_keeps_the_rules_and_breaks_all_that_its_members_break(tmp_path: Path) -> None:
    attack = find_attack(write(tmp_path, '["deepwordbug", "pruthi"]'))

    assert attack.family == "ensemble"
    check_attack(attack)


def test_an_edited_member_makes_another_cascade(tmp_path: Path) -> None:
    member = tmp_path / "swaps.toml"
    recipe = (
        'summary = "Swaps."\nfamily = "character"\naccess = "scores"\n[search]\nkind = "random-order"\npasses = 1\n'
        '[[transformations]]\nkind = "swap-neighbours"\n'
    )
    member.write_text(recipe)
    mine = write(tmp_path, f'["deepwordbug", "{member}"]')
    before = find_attack(mine).digest
    member.write_text(recipe.replace("passes = 1", "passes = 2"))

    assert find_attack(mine).digest != before


@pytest.mark.parametrize(
    ("members", "extra", "message"),
    [
        ('["deepwordbug", "cascade"]', "", "it is a cascade itself"),
        ('["deepwordbug", "hotflip"]', "", "asks for gradients"),
        ('["deepwordbug", "pgd"]', "", "asks for gradients"),
        ('["deepwordbug", "input-reduction"]', "", "keep the prediction"),
        ('["pruthi", "pruthi"]', "", "named twice"),
        ('["deepwordbug", "pruthy"]', "", "did you mean 'pruthi'"),
        ('["deepwordbug"]', "", "expected 2 or more entries"),
        ('["deepwordbug", "pruthi"]', '[[transformations]]\nkind = "swap-neighbours"\n', "ignores"),
    ],
)
def test_members_that_make_no_cascade_are_refused(tmp_path: Path, members: str, extra: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        find_attack(write(tmp_path, members, extra))


def test_a_missing_asset_of_one_member_refuses_the_whole_recipe_with_its_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str, resources: object) -> None:
        raise DataError(f"{name} is missing; get it there")

    monkeypatch.setattr("robustness.recipes.parts.find_asset", missing)

    with pytest.raises(DataError, match="wordnet is missing; get it there"):
        find_attack(write(tmp_path, '["deepwordbug", "pwws"]'))


def test_a_member_may_ask_for_gradients() -> None:
    victim = bag_victim(word_pieces(("good", "bad", "fine", "film", "the", "plot")))
    texts = ("the good film", "bad plot", "the fine film", "film the plot")
    answers = victim.scores([(text,) for text in texts]).argmax(axis=1)
    examples = [Example(str(i), (t,), int(a)) for i, (t, a) in enumerate(zip(texts, answers, strict=True))]
    edits = WordEdits([lambda word, rng: [w for w in ("good", "bad", "fine", "plot") if w != word]], Constraints())
    ranked = NamedAttack("ranked", "digest", GreedyWordRanking(edits, ByGradient()))
    idle = NamedAttack("idle", "digest", Drop("absent"))

    def attack(made: Cascade | GreedyWordRanking) -> dict[str, Outcome]:
        named = NamedAttack("test", "digest", made)
        return {outcome.example_id: outcome for outcome in Scheduler(named, victim, seed=0).run(examples)}

    alone = attack(GreedyWordRanking(edits, ByGradient()))
    cascade = attack(Cascade([idle, ranked], Access.GRADIENTS))

    assert any(outcome.status is Status.SUCCEEDED for outcome in alone.values())
    for id, outcome in alone.items():
        together = cascade[id]
        assert (together.status, together.backwards) == (outcome.status, outcome.backwards)
        if outcome.status is Status.SUCCEEDED:
            assert together.adversarial_text == outcome.adversarial_text
