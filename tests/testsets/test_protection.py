"""What no attack may edit: where it stands, and that it stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis.strategies import data, integers, lists, sampled_from

from robustness.definitions.tasks import find_task
from robustness.engine.changes import count_modified_words
from robustness.engine.referee import check_proposal
from robustness.errors import AttackError
from robustness.tasks.gold import GoldSpan
from robustness.tasks.task import Protected, Task
from robustness.testsets.example import Example
from robustness.testsets.gold_places import find_answers
from robustness.testsets.protection import find_protected

NUMBERS = Task(
    "t", ("premise", "text"), ("no", "yes"), ("text",), protected=Protected(("premise",), ("[0-9]+", "and"))
)


def protected_example(text: str, pattern: str = "[0-9]+", key: str = "1") -> Example:
    task = Task("t", ("text",), ("no", "yes"), ("text",), protected=Protected(patterns=(pattern,)))
    return Example(key, (text,), 1, protected=find_protected(task, (text,), ()))


def test_fields_and_patterns_are_found_with_the_whole_words_that_they_touch() -> None:
    texts = (" in all ", "a band and covid19 on day 7.")

    found = find_protected(NUMBERS, texts, ())

    assert [texts[segment][start:end] for segment, start, end in found] == ["in all", "band", "and", "covid19", "7"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Janet has 1,200 eggs.", ["1,200"]),
        ("Twenty-five of \u00bd a dozen", ["Twenty-five", "\u00bd", "dozen"]),
        ("twice as many, and TWO-thirds more", ["twice", "TWO-thirds"]),
        ("someone often weighs a stone", []),  # numbers within words
        ("by 50% or $3.75 a person", ["50", "3.75"]),
        ("room B12, the second", ["B12", "second"]),
    ],
)
def test_numbers_are_found_in_digits_and_in_words(text: str, expected: list[str]) -> None:
    task = Task("sums", ("text",), (), ("text",), protected=Protected(numbers=True))

    assert [text[start:end] for _, start, end in find_protected(task, (text,), ())] == expected


def test_a_users_words_are_found_as_wholes_in_any_case() -> None:
    task = Task("t", ("text",), (), ("text",), protected=Protected(words=("New York", "c++")))
    text = "in new york, New Yorkers write C++ and c+"

    assert [text[start:end] for _, start, end in find_protected(task, (text,), ())] == ["new york", "C++"]


@pytest.mark.parametrize(
    ("context", "answers", "expected"),
    [
        ("In Rome, old Rome.", [GoldSpan("Rome", 3)], ["Rome", "Rome"]),
        ("the Broncos beat THE BRONCOS!", [GoldSpan("Broncos", 4)], ["Broncos", "BRONCOS"]),
        ("a 24-10 win; (24-10)", [GoldSpan("24-10", 14)], ["24-10", "24-10"]),
        ("Romeo in Rome's hills", [GoldSpan("Rome", 9)], ["Rome"]),
        ("by New York, new  york", [GoldSpan("New York", 3)], ["New York", "new  york"]),
        ("an a b", [GoldSpan("a b", 3)], ["a b"]),
        ("x", [], []),
    ],
)
def test_gold_answers_are_found_as_the_scorer_reads_them(
    context: str, answers: list[GoldSpan], expected: list[str]
) -> None:
    assert [context[start:end] for start, end in find_answers(context, answers)] == expected


def test_the_answers_of_a_question_are_protected_in_the_paragraph_alone() -> None:
    texts = ("Who won in Rome?", "Rome won. In Rome's hills.")

    found = find_protected(find_task("squad"), texts, [GoldSpan("Rome", 0)])

    assert found == ((1, 0, 4), (1, 13, 19))


def test_protected_words_are_no_words_to_edit_and_all_others_keep_their_places() -> None:
    example = protected_example("we paid 42 dollars in 1990 .")

    edited = example.replace_word(1, "spent no").replace_word(2, "")

    assert example.words == ("we", "paid", "dollars", "in")
    assert edited.texts == ("we spent no 42  in 1990 .",)
    assert [edited.texts[0][start:end] for _, start, end in edited.protected] == ["42", "1990"]
    assert check_proposal(example, edited) == edited


def test_an_example_without_protection_is_as_it_was() -> None:
    example = Example("1", ("we paid 42 dollars",), 1)

    assert example.protected == find_protected(find_task("sst2"), example.texts, ()) == ()
    assert example.all_words == example.words == ("we", "paid", "42", "dollars")


def test_neighbours_with_something_protected_between_them_are_not_merged() -> None:
    example = protected_example("very 7 fine", "7")

    with pytest.raises(IndexError, match="something protected stands between word 0 and the next"):
        example.merge_words(0, "superb")


def test_merging_moves_what_is_protected_behind() -> None:
    merged = protected_example("a very fine film of 1990").merge_words(1, "superb")

    assert [merged.texts[0][start:end] for _, start, end in merged.protected] == ["1990"]


@pytest.mark.parametrize(
    ("proposed", "broken"),
    [
        ("we paid 42 euros in 1990", None),
        ("in short we paid 42 dollars back in 1990", None),
        ("we paid 43 dollars in 1990", "42"),
        ("we paid 421 dollars in 1990", "42"),
        ("we paid dollars in 1990", "42"),
        ("in 1990 we paid 42 dollars", "1990"),
        ("", "42"),
    ],
)
def test_the_referee_refuses_a_proposal_that_lacks_what_is_protected(proposed: str, broken: str | None) -> None:
    example = protected_example("we paid 42 dollars in 1990")

    if broken is None:
        assert check_proposal(example, example.with_texts([proposed])).texts == (proposed,)
        return
    with pytest.raises(AttackError) as caught:
        check_proposal(example, example.with_texts([proposed]))
    assert str(caught.value) == f"changed {broken!r}, which the task protects; edit the words of example.words alone"


def test_modified_words_are_counted_as_if_nothing_were_protected() -> None:
    plain, kept = Example("1", ("pay 42 or 43",), 1), protected_example("pay 42 or 43")

    assert count_modified_words(kept, kept.replace_word(1, "and")) == 1
    assert count_modified_words(plain, plain.replace_word(2, "and")) == 1
    assert kept.all_words == plain.words


@given(words=lists(sampled_from(["7", "42", "a", "fine", "film", "1990"]), min_size=1, max_size=12), draw=data())
def test_edits_of_words_never_lose_what_is_protected(words: list[str], draw: object) -> None:
    example = protected_example(" ".join(words))
    current = example
    for _ in range(4):
        if not current.words:
            break
        index = draw.draw(integers(0, len(current.words) - 1))  # type: ignore[attr-defined]
        current = current.replace_word(index, draw.draw(sampled_from(["", "7", "big", "4 2", "x"])))  # type: ignore[attr-defined]

    numbers = [word for word in words if word.isdigit()]
    assert example.first_broken(current.texts) is None
    assert [current.texts[0][start:end] for _, start, end in current.protected] == numbers
    again = example.with_texts(current.texts)
    assert [again.texts[0][start:end] for _, start, end in again.protected] == numbers
