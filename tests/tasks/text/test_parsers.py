from __future__ import annotations

import json
import sys

import pytest
from fuzzing import HOSTILE, TEXTS, seconds_for
from hypothesis import given, settings
from hypothesis import strategies as st

from robustness.errors import UsageError
from robustness.tasks.text import metrics
from robustness.tasks.text.metrics import PARSER_OF, WRONG, Scorer, TextMetric
from robustness.tasks.text.parsed import ParsedAnswer, Parser
from robustness.tasks.text.parsers import (
    PARSERS,
    JsonParser,
    MarkerParser,
    MeaningParser,
    RegexParser,
    WholeParser,
)

EACH: list[Parser] = [WholeParser(), MarkerParser("####"), RegexParser(r"[(](\w)[)]"), JsonParser(), MeaningParser()]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(-1e300, 1e300) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def text_of(parser: Parser, response: str) -> str | None:
    answer = parser.parse(response)
    return None if answer is None else answer.text


@pytest.mark.parametrize(
    ("parser", "response", "expected"),
    [
        (WholeParser(), "  Paris\n of  France ", "Paris of France"),
        (WholeParser(), " \n", None),
        (MarkerParser("Answer:"), "Hm. Answer:\n Paris \nAnswer: Rome", "Paris"),
        (MarkerParser("Answer:"), "Paris", None),
        (MarkerParser("Answer:"), "Paris. Answer: ", None),
        (RegexParser("<sql>(.*?)</sql>"), "<sql>select 1</sql> <sql>2</sql>", "select 1"),
        (RegexParser("yes|no"), "I say no", "no"),
        (RegexParser("(a)?b"), "b", None),  # a group that took no part
        (JsonParser(), '{"b": 1.0, "a": [true]}', '{"a": [true], "b": 1}'),
        (JsonParser(), 'It is ["x"] or ["y"].', '["x"]'),
        (JsonParser(), '{"a": 1}\nHope this helps', '{"a": 1}'),
        (JsonParser(), '["x"] and more', '["x"]'),
        (JsonParser(), "18 of [19]", "[19]"),
        (JsonParser(), "18 of 19", None),
        (JsonParser(), "18.0", "18"),
        (JsonParser(), "NaN", None),
        (JsonParser(), '{"a": 1e999}', None),
        (JsonParser(), "9" * 5_000, None),  # longer than Python reads
        (JsonParser(), "[" * 100_000, None),  # deeper than Python nests
        (JsonParser(), "none at all", None),
    ],
)
def test_parsers_find_what_they_declare(parser: Parser, response: str, expected: str | None) -> None:
    assert text_of(parser, response) == expected


@given(value=VALUES, before=st.sampled_from(["", "Sure: ", "\n"]), after=st.sampled_from(["", "  ", "\n"]))
def test_json_is_read_as_python_reads_it(value: object, before: str, after: str) -> None:
    found = text_of(JsonParser(), before + json.dumps(value) + after)

    if not before.strip() or isinstance(value, list | dict):
        assert found is not None and json.loads(found) == value


@pytest.mark.parametrize(
    ("said", "gold", "correct", "quality"),
    [
        ("red, green", "green, red", True, 1),
        ("red; red\ngreen", "green, red", True, 1),
        ("red", "green, red", False, 2 / 3),
        ("blue", "green, red", False, 0),
    ],
)
def test_sets_are_compared_item_by_item(said: str, gold: str, correct: bool, quality: float) -> None:
    ours, theirs = WholeParser().parse(said), WholeParser().parse(gold)
    assert theirs is not None

    score = Scorer(TextMetric.SET).score(ours, [theirs])

    assert (score.correct, score.quality) == (correct, pytest.approx(quality))


def test_lists_in_json_are_sets_of_their_items() -> None:
    parse = JsonParser().parse
    gold = parse('["b", {"x": 1, "y": 2}]')
    assert gold is not None

    assert Scorer(TextMetric.SET).score(parse('[{"y": 2, "x": 1}, "b"]'), [gold]).correct


def test_token_f1_goes_by_the_rules_of_squad() -> None:
    said, golds = ParsedAnswer("the Broncos"), [ParsedAnswer("Denver Broncos")]

    score = Scorer(TextMetric.TOKEN_F1).score(said, golds)

    assert (score.correct, score.quality) == (False, pytest.approx(2 / 3))
    assert Scorer(TextMetric.TOKEN_F1, threshold=0.6).score(said, golds).correct


def test_the_best_gold_answer_counts_and_no_answer_is_wrong() -> None:
    golds = [ParsedAnswer("a"), ParsedAnswer("b c")]

    assert Scorer(TextMetric.EXACT).score(ParsedAnswer("b c"), golds).correct
    assert Scorer(TextMetric.EXACT).score(None, golds) == WRONG
    assert Scorer(TextMetric.EXACT).score(ParsedAnswer("a"), []) == WRONG


def test_rouge_is_that_of_the_library() -> None:
    pytest.importorskip("rouge_score", reason="the extra `rouge` is not installed")

    score = Scorer(TextMetric.ROUGE_L, threshold=0.5).score(
        ParsedAnswer("police kill the gunman"), [ParsedAnswer("police killed the gunman")]
    )

    assert score.correct
    assert score.quality == pytest.approx(3 / 4)  # Lin 2004, section 3.1: 3 of 4 and 3 of 4 words in order


def test_without_the_library_rouge_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    metrics._rouge.cache_clear()

    with pytest.raises(UsageError, match=r"peft-robustness\[rouge\]"):
        Scorer(TextMetric.ROUGE_L).score(ParsedAnswer("a"), [ParsedAnswer("a")])


def test_metrics_that_read_one_kind_of_answer_name_a_parser_that_is_there() -> None:
    assert set(PARSER_OF.values()) <= set(PARSERS)


def fuzz(text: str) -> None:
    for parser in EACH:
        answer = parser.parse(text)
        assert answer is None or Scorer(TextMetric.EXACT).score(answer, [answer]).correct


@given(text=TEXTS)
@settings(max_examples=300)
def test_no_text_breaks_a_parser(text: str) -> None:
    fuzz(text)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@given(text=TEXTS)
@settings(max_examples=200_000, deadline=None)
def test_no_text_of_200_000_breaks_a_parser(text: str) -> None:
    fuzz(text)


@pytest.mark.parametrize("unit", HOSTILE)
def test_long_texts_take_time_in_proportion(unit: str) -> None:
    for parser in EACH:
        assert seconds_for(parser.parse, unit, 20_000) < 1
