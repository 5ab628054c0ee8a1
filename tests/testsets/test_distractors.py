from __future__ import annotations

import numpy as np
import pytest

from robustness.tasks.answer_scores import normalised_tokens
from robustness.tasks.gold import GoldSpan
from robustness.testsets.answer_kinds import contains_answer, fake_answer, kind_of
from robustness.testsets.distractors import answer_context, denied_answer
from robustness.testsets.example import Example
from robustness.testsets.generation import insert_distractor
from robustness.testsets.sentences import split_sentences

# Fifty answers, their kinds read by hand.
KINDS = {
    "year": ["1880", "2015", "in 1912", "1066", "1990s", "late 1970s", "by 1848", "around 1500"],
    "date": ["May 5", "February 7, 2016", "August 1914", "Monday", "the 13th century", "October", "4 July 1776"],
    "percent": ["17%", "63.5 percent", "half of 1%", "12 per cent"],
    "money": ["$12", "$1.5 million", "75 dollars", "two pounds", "\N{EURO SIGN}20"],
    "number": ["two", "19", "4,350", "28 miles", "three times", "twenty-one", "5-2", "487 yards", "second"],
    "name": ["Tesla", "Denver Broncos", "Martin Luther", "University of Chicago", "NASA", "Ctenophora",
             "Leonardo da Vinci"],
    "phrase": ["gold plates", "the public", "by electing its own leader", "rapid combustion", "because of the cold",
               "water", "a popular vote", "teaching the young", "lack of funds", "mechanical engineering"],
}  # fmt: skip
# Paragraphs and the number of their sentences, counted by hand.
SENTENCES = [
    ("He came. He saw. He won.", 3),
    ("Dr. Smith met Mrs. Jones. They talked.", 2),
    ("J. R. R. Tolkien wrote it. It sold well.", 2),
    ("The U.S. Army came at 5 p.m. on Monday. It left.", 2),
    ("Was it true? No! It was not.", 3),
    ('"It is late." She left.', 2),
    ("It cost 3.5 million. That was much.", 2),
    ("Apple Inc. grew. Others did not.", 2),
    ("See p. 5 of vol. 3 for more. The end.", 2),
    ("One sentence without an end", 1),
    ("St. Louis is a city. It lies on a river.", 2),
    ("They won 24\N{EN DASH}10. The score was fair.", 2),
    ("It ended in 1918. 20 years later it began again.", 2),
    ("He said (in vain.) Nobody listened.", 2),
    ("e.g. this one is short. It ends here.", 2),
]


@pytest.mark.parametrize(
    ("kind", "answer"), [(kind, answer) for kind, answers in KINDS.items() for answer in answers]
)
def test_the_kind_of_an_answer_is_what_a_reader_says(kind: str, answer: str) -> None:
    assert kind_of(answer) == kind


def test_fifty_answers_were_read() -> None:
    assert sum(map(len, KINDS.values())) == 50


@pytest.mark.parametrize(("text", "count"), SENTENCES)
def test_sentences_are_those_a_reader_counts(text: str, count: int) -> None:
    bounds = split_sentences(text)

    assert len(bounds) == count
    assert "".join(text[a:b] for a, b in bounds).replace(" ", "") == text.replace(" ", "")


def question(text: str, context: str, *answers: str) -> Example:
    golds = tuple(GoldSpan(answer, context.index(answer)) for answer in answers)
    return Example("q", (text, context), 1, attacked=(1,), answers=golds)


def test_the_answers_sentence_is_repeated_without_the_answer() -> None:
    context = "Anna was born in Rome. Boris moved to Oslo (Norway) in 1912. He died there."

    assert answer_context(question("Where?", context, "Oslo")) == "Boris moved to (Norway) in 1912."
    assert answer_context(question("Where?", context, "Oslo", "Oslo (Norway)")) == "Boris moved to (Norway) in 1912."


@pytest.mark.parametrize("context", ["Rome. It is old.", "In Rome. It is old."])
def test_a_sentence_that_is_all_answer_gives_none(context: str) -> None:
    assert answer_context(question("Where?", context, "Rome")) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What city did Tesla move to in 1880?", "It was not Lisbon that Tesla move to in 1880."),
        ("Who invented the coil?", "Lisbon is not who invented the coil."),
        ("What is the name of the river?", "Lisbon is not the name of the river."),
        ("In what year was he born?", "It was not in Lisbon that he born."),
        ("Tesla moved to what city in 1880?", "Tesla moved to not Lisbon city in 1880."),
        ("How many people live there?", "Lisbon is not how many people live there."),
        ("Name the river.", None),
        ("Where did Prague lie?", None),  # it names the answer itself
    ],
)
def test_a_denied_answer_is_shaped_like_the_question(text: str, expected: str | None) -> None:
    assert denied_answer(question(text, "It is Prague.", "Prague"), "Lisbon") == expected


@pytest.mark.parametrize("answer", ["Rome", "1880", "17%", "$12", "two", "May 5", "gold plates", "Lake Arlen"])
def test_a_fake_answer_is_of_the_same_kind_and_shares_no_word(answer: str) -> None:
    context = f"Here is {answer} and Lisbon, 1723, and copper wire."
    fakes = {fake_answer([answer], ["Oslo", "1900"], context, np.random.default_rng(seed)) for seed in range(20)}

    for fake in fakes:
        assert fake is not None and kind_of(fake) is kind_of(answer)
        assert not set(normalised_tokens(fake)) & set(normalised_tokens(answer))
        assert not contains_answer(context, [fake])


def test_no_fake_is_better_than_a_wrong_one() -> None:
    everything = " ".join(["copper wire", "public gardens", "by changing the order of payments", "a lack of timber"])

    assert fake_answer(["gold plates"], [], everything, np.random.default_rng(0)) is None


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_gold_answer_stays_where_it_is_said_to_be(place: str) -> None:
    altered = insert_distractor(question("Where?", "She is in Rome.", "Rome"), "He was not in Oslo.", place)

    text, answer = altered.texts[1], altered.answers[0]
    assert text[answer.start : answer.start + 4] == "Rome"
    assert "He was not in Oslo." in text and "She is in Rome." in text
