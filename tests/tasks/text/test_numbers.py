from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from fuzzing import HOSTILE, TEXTS, seconds_for
from hypothesis import given, settings
from hypothesis import strategies as st

from robustness.tasks.text.answering import TextAnswer
from robustness.tasks.text.metrics import Scorer, TextMetric
from robustness.tasks.text.numbers import UNANSWERABLE, NumberParser, NumberRule, find_numbers

# Text and all its numbers, worked out by hand from the rules that the parser declares.
TABLE = [
    ("18", ["18"]),
    ("18.0", ["18"]),
    ("18.", ["18"]),
    ("18.50 dollars", ["37/2"]),
    (".5", ["1/2"]),
    ("0.042", ["21/500"]),
    ("1/3", ["1/3"]),
    ("2/6 of it", ["1/3"]),
    ("6/3", ["2"]),
    ("1 1/2", ["3/2"]),
    ("-1 1/2", ["-3/2"]),
    ("in 12 13/2", ["12", "13/2"]),  # no mixed number: its fraction is above 1
    ("1\N{VULGAR FRACTION ONE HALF} and \N{VULGAR FRACTION THREE QUARTERS}", ["3/2", "3/4"]),
    ("4 / 2", ["4", "2"]),  # a division
    ("1/0", []),
    ("1/2/3", ["1"]),  # a date or a chain of divisions is no fraction
    ("1,080", ["1080"]),
    ("109,200,000", ["109200000"]),
    ("1,080.5", ["2161/2"]),
    ("1, 2,3", ["1", "2", "3"]),
    ("1,0800", ["1", "800"]),  # no group of three
    ("$2", ["2"]),
    ("-$2", ["-2"]),
    ("$-2", ["-2"]),
    ("\\$2", ["2"]),
    ("\N{EURO SIGN} 1,200", ["1200"]),
    ("50%", ["50"]),  # the percent sign is a unit
    ("12.5 % of it", ["25/2"]),
    ("-3", ["-3"]),
    ("\N{MINUS SIGN}3", ["-3"]),
    ("+3", ["3"]),
    ("5-3", ["5", "3"]),
    ("(2+1)-3", ["2", "1", "3"]),
    ("x = -3", ["-3"]),
    ("48/2=24", ["24", "24"]),
    ("<<48/2=24>>24", ["24", "24", "24"]),
    ("18cm", ["18"]),
    ("the 3rd", ["3"]),
    ("B12 and x_1", []),  # parts of names
    ("1e3", ["1000"]),
    ("1.5e-2", ["3/200"]),
    ("1e999", []),
    ("2em", ["2"]),
    ("1e", ["1"]),
    ("1.5e3kg and 2e3.", ["1500", "2000"]),  # a unit does not count behind an exponent either
    ("v18, x18 and \N{GREEK SMALL LETTER ALPHA}18", []),
    ("\u662f18\u3002", ["18"]),  # Chinese: "is 18."
    ("\u517118\u4e2a", ["18"]),
    ("\u662f-1,080.5", ["-2161/2"]),
    ("\u662f1e5\u4e2a", ["100000"]),
    ("5\u4e2a-3\u4e2a", ["5", "3"]),  # with a unit between, it is a range or a difference
    ("\u5171 5\u5143-3\u5143=2\u5143", ["5", "3", "2"]),
    ("\u05d1-1990", ["1990"]),  # "in 1990", with a prefix and a hyphen
    ("\uff0d\uff15 \uff13\uff0e\uff15 \uff08\uff15\uff09-3", ["-5", "7/2", "5", "3"]),
    ("7e7e 1e5e3", ["7", "1"]),
    ("\u662fNone\u7684", ["none"]),
    ("\u3067\u300118\u672c\u3001\uc5d418\uac1c", ["18", "18"]),  # Japanese and Korean
    ("\u0647\u064818", ["18"]),  # Arabic
    ("v\u0661\u0668 \u0661\u0668", ["18"]),  # the second digit of a name is part of it too
    ("\u662fv18", []),
    ("\\boxed{18}", ["18"]),
    ("**18**.", ["18"]),
    ("9" * 101, []),
    ("None", ["none"]),
    ("It cannot be determined, 5 or 6.", ["none", "5", "6"]),
    ("nonesuch", []),
    ("eighteen", []),
    ("", []),
]


@pytest.mark.parametrize(("text", "expected"), TABLE)
def test_numbers_are_those_worked_out_by_hand(text: str, expected: list[str]) -> None:
    assert [answer.text for answer in find_numbers(text)] == expected


@pytest.mark.parametrize(
    ("response", "marked", "last"),
    [
        ("9 * 2 = 18\n#### 18", "18", "18"),
        ("#### 18\n\nQuestion: Tom has 5", "18", "5"),
        ("#### $18 for 3 days\n#### 7", "18", "7"),  # the first marker, and the first number behind it
        ("It makes 18", None, "18"),
        ("18 ####", None, "18"),
        ("we lack 3 facts\n#### None", "none", "none"),
        ("nothing", None, None),
    ],
)
def test_both_rules_read_what_they_declare(response: str, marked: str | None, last: str | None) -> None:
    readings = NumberParser().read(response)

    assert (readings.marked and readings.marked.text, readings.last and readings.last.text) == (marked, last)
    assert readings.choose(NumberRule.MARKED) == readings.marked
    assert readings.choose(NumberRule.LAST) == readings.last
    assert readings.choose(NumberRule.MARKED_OR_LAST) == (readings.marked or readings.last)


def test_a_response_is_graded_by_each_rule_alone() -> None:
    answer = TextAnswer("number", TextMetric.FRACTION)
    golds = ["17 + 1 = 18\n#### 18"]

    found = [
        {rule.value: score.correct for rule, (_, score) in answer.score_by_rule(response, golds).items()}
        for response in ("#### 18 of 20", "18", "#### 17, no: 18", "none")
    ]

    assert found == [
        {"marked": True, "last": False},
        {"marked": False, "last": True},
        {"marked": False, "last": True},
        {"marked": False, "last": False},
    ]
    assert TextAnswer("whole", TextMetric.EXACT).score_by_rule("18", golds) == {}


def test_no_answer_equals_only_no_answer() -> None:
    scorer = Scorer(TextMetric.FRACTION)
    none, zero = NumberParser().parse("None"), NumberParser().parse("0")
    assert none is UNANSWERABLE and zero is not None

    assert scorer.score(none, [UNANSWERABLE]).correct
    assert not scorer.score(zero, [UNANSWERABLE]).correct
    assert not scorer.score(none, [zero]).correct
    assert not scorer.score(None, [UNANSWERABLE]).correct  # silence is no answer


@given(number=st.fractions(max_denominator=999).filter(lambda n: abs(n) < 10**30))
def test_a_fraction_is_read_as_it_was_written(number: Fraction) -> None:
    answer = NumberParser().parse(f"so it is {number} in all")

    assert answer is not None and answer.number == number


@given(number=st.integers(-(10**30), 10**30), places=st.integers(0, 6))
def test_thousands_and_decimals_are_read_as_python_writes_them(number: int, places: int) -> None:
    written = f"{number:,}" + ("." + "0" * places if places else "")

    answer = NumberParser().parse(written)

    assert answer is not None and answer.number == number


def fuzz(text: str) -> None:
    for rule in NumberRule:
        answer = NumberParser(rule=rule).parse(text)
        assert answer is None or answer is UNANSWERABLE or answer.text == str(answer.number)


@given(text=TEXTS)
@settings(max_examples=300)
def test_no_text_breaks_the_parser(text: str) -> None:
    fuzz(text)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@given(text=TEXTS)
@settings(max_examples=200_000, deadline=None)
def test_no_text_of_200_000_breaks_the_parser(text: str) -> None:
    fuzz(text)


@pytest.mark.parametrize("unit", HOSTILE)
def test_long_texts_take_time_in_proportion(unit: str) -> None:
    assert seconds_for(NumberParser().parse, unit, 20_000) < 1


@pytest.mark.parametrize("name", ["train", "test"])
def test_every_gold_answer_of_gsm8k_scores_one_by_both_rules(shared_data: Path, name: str) -> None:
    lines = (shared_data / "gsm8k" / f"{name}.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n")
    scorer = Scorer(TextMetric.FRACTION)

    for line in lines:
        solution = json.loads(line)["answer"]
        gold = Fraction(solution.partition("#### ")[2].replace(",", ""))
        readings = NumberParser().read(solution)
        assert readings.marked is not None and readings.marked.number == gold
        assert readings.last is not None and scorer.score(readings.last, [readings.marked]).quality == 1
    assert len(lines) == {"train": 7_473, "test": 1_319}[name]


def test_every_gold_answer_of_gsm_plus_scores_one_by_both_rules(shared_data: Path) -> None:
    lines = (shared_data / "gsm_plus" / "testmini.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n")
    rows = [json.loads(line) for line in lines]

    for row in rows:
        gold = NumberParser().parse(row["answer"])
        assert gold is not None and gold.number == (None if row["answer"] == "None" else Fraction(row["answer"]))
        readings = NumberParser().read(row["solution"])
        assert readings.marked == readings.last == gold
        assert Scorer(TextMetric.FRACTION).score(readings.marked, [gold]).correct
    assert len(rows) == 2_400
    assert sum(row["answer"] == "None" for row in rows) == 300
