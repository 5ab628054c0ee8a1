"""Texts that a victim fails on, and victims that are gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustness import Access, Example
from robustness.engine.attack import ScoreRows, Search
from robustness.engine.evaluation import evaluate
from robustness.engine.failures.faults import isolate_outcomes
from robustness.engine.named_attack import NamedAttack
from robustness.engine.outcome import Outcome, Status
from robustness.engine.query_cache import QueryCache
from robustness.engine.scheduler import Scheduler
from robustness.errors import UsageError
from robustness.tasks.abilities import Ability
from robustness.tasks.grading import LabelGrader
from robustness.testsets.example import Texts
from robustness.victims.isolation import Fault, Isolation, UnfitTextError, VictimGoneError, recover

POISON = "poison"


class WordVictim:
    """Answers 1 where the text has the word `good`; fails on any call with a text that has the word `poison`."""

    grader = LabelGrader(("bad", "good"))
    can = frozenset({Ability.LOSSES})

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error or torch.cuda.OutOfMemoryError("CUDA out of memory")
        self.calls = 0

    def rows(self, asked: Sequence[Example]) -> ScoreRows:
        return self.scores([example.texts for example in asked])

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        self.calls += 1
        if any(POISON in " ".join(text) for text in texts):
            raise self.error
        good = np.array(["good" in " ".join(text).split() for text in texts], dtype=np.float32)
        return np.stack([1 - 2 * good, 2 * good - 1], axis=1)


class EarlyFailing(WordVictim):
    """Hands scores over later; fails as it is handed the texts."""

    def start(self, asked: Sequence[Example]) -> Callable[[], ScoreRows]:
        rows = self.rows(asked)
        return lambda: rows


class LateFailing(WordVictim):
    """Hands scores over later; fails then."""

    def start(self, asked: Sequence[Example]) -> Callable[[], ScoreRows]:
        return lambda: self.rows(asked)


class DropWords:
    """Asks about the text without each word in turn, and returns the first that flips."""

    access = Access.SCORES

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        candidates = [example.replace_word(i, "") for i in range(len(example.words))]
        answer = yield candidates
        return next((c for c, reached in zip(candidates, answer.reached, strict=True) if reached), example)


class AskForPoison:
    """Of example 3 alone it asks about a text that the victim fails on."""

    access = Access.SCORES

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        yield [example.replace_word(0, POISON if example.id == "3" else "the")]
        return example.replace_word(1, "")


def some(count: int, poisoned: Sequence[int] = (), group: int = 1) -> list[Example]:
    texts = [(f"a good film number {n}" + (f" {POISON}" if n in poisoned else ""),) for n in range(count)]
    return [Example(str(n), text, label=1, group_id=f"g{n // group}") for n, text in enumerate(texts)]


def attack(examples: Sequence[Example], victim: Any, by: object = DropWords(), **options: Any) -> dict[str, Outcome]:
    named = NamedAttack("test", "digest", by)  # type: ignore[arg-type]
    found = Scheduler(named, victim, seed=0, **options).run(examples)
    return {outcome.example_id: replace(outcome, seconds=0) for outcome in found}


@pytest.mark.parametrize("kind", [WordVictim, EarlyFailing, LateFailing])
@pytest.mark.parametrize("batch", [1, 5, 2_048])
def test_an_example_whose_text_fails_alone_is_errored_and_the_others_are_as_ever(kind: Any, batch: int) -> None:
    victim = kind()

    found = attack(some(40, [7, 20]), victim, batch=batch)

    whole = attack(some(40), WordVictim(), batch=batch)
    assert {name for name, outcome in found.items() if outcome.status is Status.ERRORED} == {"7", "20"}
    assert found["7"].error == found["20"].error == "OutOfMemoryError: CUDA out of memory"
    assert all(found[name] == whole[name] for name in whole if name not in ("7", "20"))
    if batch == 2_048:
        assert victim.calls < 40  # halves, not one by one


def test_a_search_that_asks_about_a_text_that_fails_is_errored() -> None:
    found = attack(some(8), WordVictim(ValueError("no token for it")), AskForPoison())

    assert found["3"].status is Status.ERRORED and found["3"].error == "ValueError: no token for it"
    assert [o.status for name, o in found.items() if name != "3"] == [Status.SUCCEEDED] * 7
    assert (found["3"].clean_correct, found["3"].clean_response, found["3"].gold) == (True, "good", "good")


def test_what_failed_is_not_in_the_cache_and_the_rest_is(tmp_path: Path) -> None:
    cache = QueryCache(tmp_path, "victim")

    attack(some(8, [2]), WordVictim(), cache=cache)

    known = cache.find(some(8, [2]))
    assert [number for number, row in enumerate(known) if row is None] == [2]
    np.testing.assert_array_equal(known[0], [-1, 1])


def test_rows_too_few_are_a_fault_of_the_victim() -> None:
    class Short(WordVictim):
        def scores(self, texts: Sequence[Texts]) -> ScoreRows:
            return super().scores(texts)[1:]

    with pytest.raises(VictimGoneError, match="ValueError: the victim gave 0 rows of scores for 1 texts"):
        attack(some(8), Short())


@pytest.mark.parametrize("kind", [WordVictim, EarlyFailing, LateFailing])
def test_a_victim_that_fails_on_everything_ends_the_run_before_any_row(kind: Any) -> None:
    victim = kind(RuntimeError("CUDA error: unspecified launch failure"))
    examples = some(1_000, range(1_000))
    found: list[Outcome] = []

    with pytest.raises(VictimGoneError, match="3 examples in a row failed, each of them alone, with RuntimeError: "):
        found += Scheduler(NamedAttack("t", "d", DropWords()), victim, seed=0).run(examples)

    assert found == []
    assert victim.calls < 30


def test_one_that_fails_after_a_while_ends_it_too() -> None:
    found: list[Outcome] = []

    with pytest.raises(VictimGoneError):
        for outcome in Scheduler(NamedAttack("t", "d", DropWords()), WordVictim(), seed=0, width=4).run(
            some(40, range(20, 40))
        ):
            found.append(outcome)

    assert {o.example_id for o in found if o.status is Status.SUCCEEDED} == {str(n) for n in range(20)}
    assert sum(o.status is Status.ERRORED for o in found) < 3


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UsageError("the cache is locked")])
def test_what_is_no_fault_of_a_text_passes_through(error: BaseException) -> None:
    for run in (attack, lambda examples, victim: list(isolate_outcomes(evaluated_by(victim), examples, gold_of))):
        with pytest.raises(type(error)):
            run(some(4, [2]), WordVictim(error))


def test_examples_of_one_group_that_share_a_text_count_as_one() -> None:
    found = attack(some(20, range(5, 10), group=5), WordVictim())

    assert sum(outcome.status is Status.ERRORED for outcome in found.values()) == 5


def test_a_lost_device_is_found_out_at_the_first_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def synchronize() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    victim = WordVictim(RuntimeError("CUDA error: device-side assert triggered"))

    with pytest.raises(
        VictimGoneError, match="the device is lost .*illegal memory access.* after .*device-side assert"
    ):
        attack(some(64, [40]), victim)
    assert victim.calls == 2  # as it was handed over, and when it was waited for


def evaluated_by(victim: Any) -> Callable[[Sequence[Example]], Iterator[Outcome]]:
    return lambda examples: evaluate(victim, examples)


def gold_of(example: Example) -> str:
    return WordVictim.grader.gold(example)


def test_an_evaluated_text_that_fails_alone_is_errored_and_the_others_are_as_ever() -> None:
    found = list(isolate_outcomes(evaluated_by(WordVictim()), some(1_100, [3, 700]), gold_of))

    whole = evaluate(WordVictim(), some(1_100))
    assert len(found) == 1_100
    for outcome, expected in zip(sorted(found, key=lambda o: int(o.example_id)), whole, strict=True):
        if outcome.example_id in ("3", "700"):
            assert (outcome.status, outcome.error) == (Status.ERRORED, "OutOfMemoryError: CUDA out of memory")
            assert POISON in outcome.original_text[0] and outcome.adversarial_text is None
        else:
            assert replace(outcome, seconds=0) == replace(expected, seconds=0)


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 12))
def test_every_item_is_answered_or_a_fault_whatever_fails(is_poison: list[bool], streamed: int) -> None:
    """All are of one group, so that no victim is gone; some answers come before the failure that follows."""

    def answer(part: Mapping[int, bool]) -> Iterator[tuple[int, int]]:
        for count, (key, poison) in enumerate(part.items()):
            if poison or (count >= streamed and any(part.values())):
                raise RuntimeError("no")
            yield key, -key

    found = list(Isolation().ask(answer, dict(enumerate(is_poison)), lambda poison: "one"))

    assert sorted(key for key, _ in found) == list(range(len(is_poison)))
    assert all(isinstance(given, Fault) if is_poison[key] else given == -key for key, given in found)


def test_errors_of_other_kinds_and_answers_between_do_not_add_up() -> None:
    def answer(part: Mapping[int, str]) -> Iterator[tuple[int, str]]:
        for key, kind in part.items():
            if kind != "fine":
                raise {"memory": MemoryError, "value": ValueError}[kind]("no")
            yield key, "done"

    mixed = ["memory", "memory", "value", "value", "memory", "fine", "memory", "memory", "fine", "memory"]

    assert each_alone(answer, mixed) == 8
    with pytest.raises(VictimGoneError, match="MemoryError: no"):
        each_alone(answer, ["fine", "memory", "memory", "memory", "fine"])


def test_any_number_of_unfit_texts_leave_the_victim_there() -> None:
    def answer(part: Mapping[int, str]) -> Iterator[tuple[int, str]]:
        for key, kind in part.items():
            if kind != "fine":
                raise {"unfit": UnfitTextError, "value": ValueError}[kind]("too long")
            yield key, "done"

    assert each_alone(answer, ["unfit"] * 7) == 7
    assert each_alone(answer, ["value", "unfit", "value", "unfit"]) == 4
    with pytest.raises(VictimGoneError, match="ValueError: too long"):
        each_alone(answer, ["value", "unfit", "value", "unfit", "value"])


def test_a_fault_says_the_first_line_that_says_something() -> None:
    def answer(part: Mapping[int, str]) -> Iterator[tuple[int, str]]:
        raise ValueError("\n\n  the reason\nthirty lines of shapes")
        yield

    ((_, fault),) = Isolation().ask(answer, {0: "a"}, lambda item: item)

    assert fault == Fault("ValueError: the reason")


def test_what_fails_behind_its_last_answer_is_a_victim_that_is_gone() -> None:
    def answer(part: Mapping[int, str]) -> Iterator[tuple[int, str]]:
        yield from part.items()
        raise AttributeError("no such method")

    with pytest.raises(VictimGoneError, match="AttributeError: no such method"):
        list(Isolation().ask(answer, {0: "a", 1: "b"}, lambda item: item))


@pytest.mark.parametrize("error", [RuntimeError("illegal memory access"), OSError("gone")])
def test_a_device_that_cannot_be_asked_for_its_memory_is_lost(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("robustness.victims.isolation.recover_memory", fail)

    with pytest.raises(VictimGoneError, match=r"the device is lost \((illegal|gone).* after ValueError: no"):
        recover("ValueError: no")


def each_alone(answer: Callable[[Mapping[int, Any]], Iterator[tuple[int, Any]]], kinds: Sequence[str]) -> int:
    """The faults among items that are each a group of their own."""
    groups = iter(range(len(kinds)))
    found = Isolation().ask(answer, dict(enumerate(kinds)), lambda kind: str(next(groups)))
    return sum(isinstance(given, Fault) for _, given in found)


class Moody(WordVictim):
    """Wrong about every text but the clean ones the first time it sees it, right afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[Texts] = set()

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        clean = {example.texts for example in some(6)}
        flip = [text not in clean and text not in self.seen for text in texts]
        self.seen |= set(texts)
        return np.where(np.array(flip)[:, None], np.array([[1.0, -1.0]]), np.array([[-1.0, 1.0]])).astype(np.float32)


def test_texts_that_are_judged_otherwise_than_they_were_seen_are_counted() -> None:
    named = NamedAttack("t", "d", DropWords())
    moody, steady = Scheduler(named, Moody(), seed=0), Scheduler(named, WordVictim(), seed=0)

    lost = [outcome.status for outcome in moody.run(some(6))]
    kept = [outcome.status for outcome in steady.run(some(6))]

    assert lost == [Status.FAILED] * 6 and len(moody.contradicted) == 6
    assert kept == [Status.SUCCEEDED] * 6 and steady.contradicted == set()


def test_a_tie_that_rounding_breaks_either_way_is_no_contradiction() -> None:
    class Tied(Moody):
        def scores(self, texts: Sequence[Texts]) -> ScoreRows:
            return super().scores(texts) * np.float32(1e-3)

    scheduler = Scheduler(NamedAttack("t", "d", DropWords()), Tied(), seed=0)

    assert all(outcome.status is Status.FAILED for outcome in scheduler.run(some(6)))
    assert scheduler.contradicted == set()
