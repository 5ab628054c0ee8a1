from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness import Access, BudgetExhausted, Example
from robustness.engine import query_cache
from robustness.engine.attack import Answer, ScoreRows, Scores, Search
from robustness.engine.failures.watchdog import SearchTimeout, Watchdog
from robustness.engine.named_attack import NamedAttack
from robustness.engine.outcome import Outcome, Status
from robustness.engine.query_cache import QueryCache
from robustness.engine.scheduler import Scheduler
from robustness.recipes.building import find_attack
from robustness.tasks.abilities import Ability
from robustness.testsets.example import Texts


class TriggerVictim:
    """Answers 1 where the text has the word `good`, else 0; remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: list[Texts] = []
        self.calls = 0

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        self.calls += 1
        self.seen += texts
        good = np.array(["good" in " ".join(text).split() for text in texts], dtype=np.float32)
        return np.stack([1 - 2 * good, 2 * good - 1], axis=1)


class DropWords:
    """Asks about the text without each word in turn, all at once, and returns the first that flips."""

    access = Access.SCORES

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        candidates = [example.replace_word(i, "") for i in range(len(example.words))]
        answer = yield candidates
        for candidate, reached in zip(candidates, answer.reached, strict=True):
            if reached:
                return candidate
        return example


class OneByOne:
    """Asks about one word at a time; with a tight budget it returns the last thing it asked about."""

    access = Access.SCORES

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        candidate = example
        try:
            for i in range(len(example.words)):
                candidate = example.replace_word(i, "x")
                answer = yield [candidate]
                if answer.reached[0]:
                    return candidate
        except BudgetExhausted:
            return candidate
        return example


def attack_all(
    attack: object, examples: Sequence[Example], *, width: int = 256, budget: int | None = None, seed: int = 0
) -> dict[str, Outcome]:
    named = NamedAttack("test", "digest", attack, max_queries=budget)  # type: ignore[arg-type]
    return {o.example_id: o for o in Scheduler(named, TriggerVictim(), seed=seed, width=width).run(examples)}


GOOD = Example("good", ("a really good film",), label=1)


def test_the_right_attack_succeeds_on_a_planted_trigger_in_the_known_number_of_queries() -> None:
    outcome = attack_all(DropWords(), [GOOD])["good"]

    assert outcome.status is Status.SUCCEEDED
    assert outcome.queries == 4
    assert outcome.adversarial_text == ("a really  film",)
    assert outcome.forwards == 1 + 4 + 1  # clean text, questions, a fresh judgement
    assert (outcome.clean_correct, outcome.correct) == (True, False)
    assert (outcome.clean_response, outcome.response, outcome.gold) == ("1", "0", "1")
    assert (outcome.modified_words, outcome.modified_share) == (1, 0.25)


def test_an_example_that_is_wrong_before_the_attack_is_skipped_without_a_query() -> None:
    outcome = attack_all(DropWords(), [Example("bad", ("an awful film",), label=1)])["bad"]

    assert outcome.status is Status.SKIPPED
    assert (outcome.queries, outcome.forwards, outcome.clean_correct, outcome.correct) == (0, 1, False, None)
    assert outcome.adversarial_text is None


def test_known_texts_are_counted_as_queries_but_not_run_again() -> None:
    class AskTwice:
        access = Access.SCORES

        def search(self, example: Example, rng: np.random.Generator) -> Search:
            candidate = example.replace_word(0, "the")
            yield [candidate, candidate]
            yield [candidate]
            return candidate

    outcome = attack_all(AskTwice(), [GOOD])["good"]

    assert outcome.queries == 3
    assert outcome.forwards == 1 + 1 + 1


def test_the_clean_text_is_never_a_query() -> None:
    class AskClean:
        access = Access.SCORES

        def search(self, example: Example, rng: np.random.Generator) -> Search:
            answer = yield [example]
            assert answer.losses.shape == answer.reached.shape == (1,)
            return example

    assert attack_all(AskClean(), [GOOD])["good"].queries == 0


def test_all_seats_share_one_batch_in_every_round() -> None:
    victim = TriggerVictim()
    examples = [Example(str(i), (f"a good film {i}",), label=1) for i in range(50)]

    outcomes = list(Scheduler(NamedAttack("t", "d", DropWords()), victim, seed=0).run(examples))

    assert len(outcomes) == 50
    assert victim.calls == 3  # clean texts, questions, judgements


@pytest.mark.parametrize("width", [1, 2, 7, 256])
def test_outcomes_do_not_depend_on_width_or_order(width: int) -> None:
    examples = [Example(str(i), (f"this good film number {i} is good fun",), label=1) for i in range(12)]
    attack = find_attack("random-chars").attack

    reference = attack_all(attack, examples)
    other = attack_all(attack, examples[::-1], width=width)

    assert {i: (o.status, o.adversarial_text, o.queries) for i, o in reference.items()} == {
        i: (o.status, o.adversarial_text, o.queries) for i, o in other.items()
    }


@pytest.mark.parametrize("batch", [1, 3, 16, 100])
@pytest.mark.parametrize("name", ["deepwordbug", "pruthi", "bad-characters"])
def test_outcomes_and_costs_do_not_depend_on_the_size_of_a_batch(name: str, batch: int) -> None:
    examples = [Example(str(i), (f"this good film number {i} is good fun",), label=1) for i in range(12)]
    attack = find_attack(name)

    whole, parts = (
        {o.example_id: replace(o, seconds=0) for o in Scheduler(attack, victim, seed=0, batch=size).run(examples)}
        for victim, size in ((TriggerVictim(), 10_000), (LateVictim(), batch))
    )

    assert parts == whole
    assert sum(outcome.forwards for outcome in whole.values()) > len(examples)


class LateVictim(TriggerVictim):
    """Answers when it is asked to, and remembers how many batches it had at a time, and how large they were."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.open = 0
        self.most_open = 0

    def start(self, texts: Sequence[Texts]) -> Callable[[], ScoreRows]:
        self.sizes.append(len(texts))
        self.open += 1
        self.most_open = max(self.most_open, self.open)

        def collect() -> ScoreRows:
            self.open -= 1
            return self.scores(texts)

        return collect


def test_a_batch_runs_as_soon_as_it_is_full_and_the_next_is_handed_over_meanwhile() -> None:
    victim = LateVictim()
    examples = [Example(str(i), ("one two three four good " * 4,), label=1) for i in range(40)]

    outcomes = list(Scheduler(NamedAttack("t", "d", DropWords()), victim, seed=0, batch=16).run(examples))

    assert len(outcomes) == 40
    assert (victim.most_open, victim.open) == (2, 0)
    assert max(victim.sizes) == 16
    assert victim.sizes.count(16) >= 0.9 * len(victim.sizes)


def test_an_example_ends_while_another_still_asks() -> None:
    class AsManyAsItHasWords:
        access = Access.SCORES

        def search(self, example: Example, rng: np.random.Generator) -> Search:
            for i in range(len(example.words)):
                yield [example.replace_word(i, "x")]
            return example

    examples = [Example("long", ("good " * 30,), label=1)]
    examples += [Example(str(i), ("good fun",), label=1) for i in range(4)]

    ended = [
        o.example_id
        for o in Scheduler(NamedAttack("t", "d", AsManyAsItHasWords()), TriggerVictim(), seed=0, width=2).run(
            examples
        )
    ]

    assert ended == ["0", "1", "2", "3", "long"]


def test_examples_are_taken_only_as_the_batch_has_room() -> None:
    taken = []

    def coming() -> Iterator[Example]:
        for i in range(100):
            taken.append(i)
            yield Example(str(i), ("good " * 30,), label=1)

    next(iter(Scheduler(NamedAttack("t", "d", DropWords()), TriggerVictim(), seed=0, batch=10).run(coming())))

    assert len(taken) < 50


def test_what_a_cache_knows_is_not_run_again_but_a_proposal_is_judged_afresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_cache, "RECHECK_EVERY", 2**64)
    examples = [Example(str(i), (f"this good film number {i} is good fun",), label=1) for i in range(12)]
    attack = find_attack("deepwordbug")
    plain = {o.example_id: o for o in Scheduler(attack, TriggerVictim(), seed=0).run(examples)}
    cache = QueryCache(tmp_path, "victim")
    first = {o.example_id: o for o in Scheduler(attack, TriggerVictim(), seed=0, cache=cache).run(examples)}
    victim = TriggerVictim()

    again = {o.example_id: o for o in Scheduler(attack, victim, seed=0, cache=cache).run(examples)}

    for outcomes in (first, again):
        assert {i: replace(o, seconds=0, forwards=0) for i, o in outcomes.items()} == {
            i: replace(o, seconds=0, forwards=0) for i, o in plain.items()
        }
    assert all(outcome.forwards == 1 for outcome in again.values())
    assert len(victim.seen) == 12  # the judgements


def test_another_seed_gives_other_texts() -> None:
    examples = [Example(str(i), (f"this good film number {i} is fun",), label=1) for i in range(12)]
    attack = find_attack("random-chars").attack

    texts = [[o.adversarial_text for o in attack_all(attack, examples, seed=seed).values()] for seed in (0, 1)]

    assert texts[0] != texts[1]


def test_identity_never_succeeds_and_asks_nothing() -> None:
    outcome = attack_all(find_attack("identity").attack, [GOOD])["good"]

    assert outcome.status is Status.FAILED
    assert (outcome.queries, outcome.similarity, outcome.modified_words) == (0, 1.0, 0)


@given(budget=st.integers(1, 12))
def test_success_never_falls_as_the_budget_grows(budget: int) -> None:
    examples = [Example(str(i), ("x " * i + "good film",), label=1) for i in range(10)]

    def broken(limit: int) -> set[str]:
        outcomes = attack_all(OneByOne(), examples, budget=limit)
        assert all(outcome.queries <= limit for outcome in outcomes.values())
        return {i for i, outcome in outcomes.items() if outcome.status is Status.SUCCEEDED}

    assert broken(budget) <= broken(budget + 1)


def test_a_question_the_budget_cannot_pay_for_ends_a_search_that_does_not_catch_it() -> None:
    outcome = attack_all(DropWords(), [GOOD], budget=3)["good"]

    assert (outcome.status, outcome.queries, outcome.adversarial_text) == (Status.FAILED, 0, GOOD.texts)


def _raises(example: Example) -> Search:
    yield [example]
    raise ValueError("my own bug")


def _returns_text(example: Example) -> Search:
    yield [example]
    return "text"  # type: ignore[return-value]


def _yields_text(example: Example) -> Search:
    yield "text"  # type: ignore[misc]
    return example


def _yields_nothing(example: Example) -> Search:
    yield []
    return example


def _changes_label(example: Example) -> Search:
    yield [example]
    return Example(example.id, example.texts, label=0)


def _asks_two_segments(example: Example) -> Search:
    yield [example.with_texts(["one", "two"])]
    return example


def _asks_broken_text(example: Example) -> Search:
    yield [example.with_texts(["half a surrogate \ud800"])]
    return example


def _returns_broken_text(example: Example) -> Search:
    yield [example]
    return example.with_texts(["half a surrogate \ud800"])


def _raises_broken_text(example: Example) -> Search:
    yield [example]
    raise ValueError("half a surrogate \ud800")


def _returns_none(example: Example) -> Search:
    yield [example]


@pytest.mark.parametrize(
    ("search", "reason"),
    [
        (_raises, "ValueError: my own bug"),
        (_returns_text, "returned str; expected the Example"),
        (_returns_none, "returned NoneType"),
        (_yields_text, "yielded str; expected a list of Examples"),
        (_yields_nothing, "yielded an empty list"),
        (_asks_two_segments, "2 segments; the example has 1"),
        (_asks_broken_text, "not valid Unicode at character 17"),
        (_returns_broken_text, "not valid Unicode at character 17"),
        (_raises_broken_text, r"half a surrogate \ud800"),
        (_changes_label, "another id or label"),
    ],
)
def test_an_attack_that_breaks_the_protocol_is_errored_with_its_reason_and_the_run_goes_on(
    search: object, reason: str
) -> None:
    class Broken:
        access = Access.SCORES

        def search(self, example: Example, rng: np.random.Generator) -> Search:
            if example.id == "good":
                return search(example)  # type: ignore[operator, no-any-return]
            return DropWords().search(example, rng)

    outcomes = attack_all(Broken(), [GOOD, Example("other", ("good fun",), label=1)])

    assert outcomes["good"].status is Status.ERRORED
    assert reason in str(outcomes["good"].error)
    assert outcomes["other"].status is Status.SUCCEEDED


def _loops(example: Example) -> Search:
    yield [example]
    while True:
        pass


def _loops_and_swallows(example: Example) -> Search:
    yield [example]
    while True:
        try:
            sum(range(1000))
        except Exception:
            continue


def _asks_for_ever(example: Example) -> Search:
    while True:
        yield [example]


@pytest.mark.parametrize("search", [_loops, _loops_and_swallows, _asks_for_ever])
def test_an_attack_that_never_ends_is_errored_when_its_time_is_up(search: object) -> None:
    class Endless:
        access = Access.SCORES

        def search(self, example: Example, rng: np.random.Generator) -> Search:
            if example.id == "good":
                return search(example)  # type: ignore[operator, no-any-return]
            return DropWords().search(example, rng)

    scheduler = Scheduler(NamedAttack("t", "d", Endless()), TriggerVictim(), seed=0, max_seconds=0.3)
    outcomes = {o.example_id: o for o in scheduler.run([GOOD, Example("other", ("good fun",), label=1)])}

    assert outcomes["good"].status is Status.ERRORED
    assert "more than 0.3 seconds" in str(outcomes["good"].error)
    assert outcomes["other"].status is Status.SUCCEEDED


def test_the_time_limit_never_strikes_outside_a_search() -> None:
    with Watchdog() as watchdog:
        for seconds in (0.0, 0.04, 0.06, 0.1):
            with contextlib.suppress(SearchTimeout), watchdog.limit(seconds):
                time.sleep(0.05)
            for _ in range(100_000):
                pass


def test_a_protected_segment_may_not_change() -> None:
    class ChangePremise:
        access = Access.SCORES

        def search(self, example: Example, rng: np.random.Generator) -> Search:
            yield [example]
            return example.with_texts(["changed", example.texts[1]])

    outcome = attack_all(ChangePremise(), [Example("good", ("a premise", "good"), label=1, attacked=(1,))])["good"]

    assert outcome.status is Status.ERRORED
    assert "segment 0" in str(outcome.error)


def test_scores_that_are_not_finite_make_an_errored_row() -> None:
    class Broken:
        def scores(self, texts: Sequence[Texts]) -> ScoreRows:
            return np.full((len(texts), 2), np.nan, dtype=np.float32)

    outcomes = list(Scheduler(NamedAttack("t", "d", DropWords()), Broken(), seed=0).run([GOOD]))

    assert [outcome.status for outcome in outcomes] == [Status.ERRORED]
    assert "not finite" in str(outcomes[0].error)


def test_the_referee_trusts_a_fresh_evaluation_and_not_what_the_attack_saw() -> None:
    class Moody(TriggerVictim):
        """Wrong about a text the first time it sees it, right afterwards."""

        def scores(self, texts: Sequence[Texts]) -> ScoreRows:
            before = Counter(self.seen)
            rows = super().scores(texts)
            flip = [text != GOOD.texts and before[text] == 0 for text in texts]
            return np.where(np.array(flip)[:, None], np.array([[1.0, -1.0]]), np.array([[-1.0, 1.0]])).astype(
                rows.dtype
            )

    outcome = next(Scheduler(NamedAttack("t", "d", DropWords()), Moody(), seed=0).run([GOOD]))

    assert outcome.status is Status.FAILED
    assert (outcome.correct, outcome.response) == (True, "1")


@pytest.mark.parametrize("text", ["", "!", "...", "שלום עולם", "e\u0301 a\u0308", "x" * 2000, "\ud7ff \u200b"])
def test_unusual_texts_do_not_stop_a_recipe(text: str) -> None:
    for name in ("deepwordbug", "random-chars", "identity"):
        outcome = attack_all(find_attack(name).attack, [Example("odd", (text,), label=0)])["odd"]

        assert outcome.status is Status.FAILED, outcome.error


class Uncased(TriggerVictim):
    """Reads capitals as small letters; its scores have noise of their own in every batch, as those of a GPU."""

    def read(self, texts: Sequence[Texts]) -> list[bytes]:
        return [" ".join(text).lower().encode() for text in texts]

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        rows = super().scores([tuple(segment.lower() for segment in text) for text in texts])
        return rows + np.random.default_rng(self.calls).normal(0, 1e-6, rows.shape).astype(np.float32)


def test_texts_that_the_victim_reads_alike_have_one_score_to_its_last_digit() -> None:
    rows: dict[str, Answer] = {}

    class Shout:
        access = Access.SCORES
        needs = frozenset({Ability.SCORES})

        def search(self, example: Example, rng: np.random.Generator) -> Search:
            rows["clean"] = yield Scores([example])
            words = range(len(example.words))
            rows["loud"] = yield Scores([example.replace_word(i, example.words[i].upper()) for i in words])
            rows["other"] = yield Scores([example.replace_word(0, "one")])
            return example

    victim = Uncased()
    (outcome,) = Scheduler(NamedAttack("shout", "d", Shout()), victim, seed=0).run(
        [Example("1", ("a good film",), 1)]
    )

    for row in rows["loud"].scores:
        np.testing.assert_array_equal(row, rows["clean"].scores[0])
    assert not np.array_equal(rows["other"].scores[0], rows["clean"].scores[0])
    assert outcome.queries == 4  # the texts are others all the same
    assert outcome.forwards == 3  # clean text, `one`, judgement


def test_a_victim_that_cannot_read_a_text_errors_its_example_alone() -> None:
    class Picky(Uncased):
        def read(self, texts: Sequence[Texts]) -> list[bytes]:
            if any("bad" in text[0] for text in texts):
                raise ValueError("cannot read this")
            return super().read(texts)

        def scores(self, texts: Sequence[Texts]) -> ScoreRows:
            self.read(texts)
            return super().scores(texts)

    examples = [Example(str(i), (text,), 1) for i, text in enumerate(["a good film", "bad but good", "good"])]

    outcomes = {
        o.example_id: o for o in Scheduler(NamedAttack("drop", "d", DropWords()), Picky(), seed=0).run(examples)
    }

    assert [outcomes[str(i)].status for i in range(3)] == [Status.SUCCEEDED, Status.ERRORED, Status.SUCCEEDED]
    assert "cannot read this" in str(outcomes["1"].error)
