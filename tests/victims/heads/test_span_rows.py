"""Rows of questions, against plain loops over what transformers gives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_questions import answering_head, question, read_windows

from robustness.tasks.answer_scores import normalised_tokens, score_answer
from robustness.tasks.gold import GoldSpan
from robustness.tasks.grading import SpanRow
from robustness.testsets.example import Example
from robustness.victims.heads.spans.answering import AnsweringVictim
from robustness.victims.heads.spans.gold import find_gold_spans
from robustness.victims.heads.spans.losses import NO_GOLD_LOSS
from robustness.victims.heads.spans.windows import ANSWER_TOKENS

LONG = "and the city of rome played in denver " * 12 + ". the denver broncos won , a city played ."


@pytest.fixture(scope="module")
def head() -> AnsweringVictim:
    """64 positions make several windows of the long paragraph."""
    return answering_head(64, batch_tokens=150, output_spread=3.0)


def questions() -> list[Example]:
    contexts = ["the denver broncos won .", LONG, "in Rome , the Denver Broncos won a rome !", LONG + " rome"]
    return [question(text, "Denver Broncos", "rome", number=number) for number, text in enumerate(contexts)]


def by_hand(head: AnsweringVictim, example: Example) -> tuple[float, str, int]:
    """Loss, answer and windows from each window alone, with loops over all its spans."""
    context = example.texts[1]
    encoded = read_windows(head, context)
    golds = {normalised_tokens(gold.text) for gold in example.answers}
    starts, ends, right, best = [], [], [], (-math.inf, "")
    for window in range(len(encoded["input_ids"])):
        with torch.no_grad():
            inputs = {name: torch.tensor([encoded[name][window]]) for name in head.tokenizer.model_input_names}
            output = head.model(**inputs)
        s, e = output.start_logits[0].tolist(), output.end_logits[0].tolist()
        own = [place for place, part in enumerate(encoded.sequence_ids(window)) if part == 1]
        starts += [s[place] for place in own]
        ends += [e[place] for place in own]
        for first in own:
            for last in [place for place in own if first <= place < first + 30]:
                offsets = encoded["offset_mapping"][window]
                answer = context[offsets[first][0] : offsets[last][1]]
                best = max(best, (s[first] + e[last], answer))
                if normalised_tokens(answer) in golds:
                    right.append(s[first] + e[last])
    total = math.fsum(math.exp(value) for value in starts) * math.fsum(math.exp(value) for value in ends)
    return -math.log(math.fsum(math.exp(value) for value in right) / total), best[1], len(encoded["input_ids"])


def test_losses_and_answers_are_those_of_a_loop_over_windows_and_spans(head: AnsweringVictim) -> None:
    asked = questions()

    rows = head.rows(asked)

    expected = [by_hand(head, example) for example in asked]
    np.testing.assert_allclose(rows[:, SpanRow.LOSS], [loss for loss, _, _ in expected], rtol=1e-6)
    answers = [head.grader.grade(row, example).response for row, example in zip(rows, asked, strict=True)]
    assert answers == [answer for _, answer, _ in expected]
    assert answers == [each.best for each in head.predict([example.texts for example in asked])]
    assert [windows > 2 for _, _, windows in expected] == [False, True, False, True]


def test_a_loss_stays_a_number_where_it_is_huge_and_where_no_gold_span_is_left(
    head: AnsweringVictim, monkeypatch: pytest.MonkeyPatch
) -> None:
    none_left = questions()[0].with_texts(("who won", "the city of rom played ."))
    empty = questions()[0].with_texts(("who won", ""))

    without = head.rows([none_left, empty])

    np.testing.assert_allclose(without[:, SpanRow.LOSS], NO_GOLD_LOSS, rtol=1e-6)
    assert head.grader.grade(without[1], empty).response == ""
    with torch.no_grad():
        for factor in (1e4, 1e-4):
            head.model.qa_outputs.weight.mul_(factor)
            if factor > 1:
                losses = head.rows(questions())[:, SpanRow.LOSS]
    assert np.isfinite(losses).all() and losses.max() > 1_000


def test_logits_that_are_no_numbers_make_no_loss(head: AnsweringVictim) -> None:
    bias = head.model.qa_outputs.bias
    none_left = questions()[0].with_texts(("who won", "the city"))
    kept = bias.detach().clone()

    with torch.no_grad():
        bias[0] = torch.nan
        rows = head.rows([*questions(), none_left])
        bias.copy_(kept)

    assert np.isnan(rows[:, SpanRow.LOSS]).all()


def test_rows_do_not_depend_on_what_is_asked_beside_them(head: AnsweringVictim) -> None:
    asked = questions()

    alone = np.concatenate([head.rows([example]) for example in asked])

    np.testing.assert_allclose(head.rows(asked), alone, rtol=1e-6)
    assert head.rows([]).shape == (0, len(SpanRow))


def test_only_an_exact_match_is_right(head: AnsweringVictim) -> None:
    asked = questions()
    rows = head.rows(asked)

    right = head.grader.correct(rows, asked)

    answers = [head.grader.grade(row, example).response for row, example in zip(rows, asked, strict=True)]
    matches = [score_answer(answer, e.answers).exact_match == 1 for answer, e in zip(answers, asked, strict=True)]
    assert right.tolist() == matches


PIECES = st.sampled_from(["the", "a", "an", "Denver", "ΑΣ", "ας", "th", "e", "U.S.", "-", "'", "10", "İ", "Hannah"])


@given(st.lists(st.tuples(PIECES, st.sampled_from(["", " ", "\xa0"])), max_size=14), st.data())
def test_gold_spans_are_all_whose_normalised_text_is_a_gold_answers(parts: list[tuple[str, str]], data: Any) -> None:
    context, offsets = "", []
    for piece, gap in parts:
        offsets.append((len(context), len(context) + len(piece)))
        context += piece + gap
    places = np.array(offsets, dtype=np.int64).reshape(-1, 2)
    answers = data.draw(
        st.lists(st.lists(PIECES, min_size=1, max_size=3).map(lambda some: GoldSpan(" ".join(some), 0)), max_size=3)
    )
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=len(parts), max_size=len(parts))), dtype=bool)

    found = find_gold_spans(context, answers, places, allowed, 4)

    golds = {normalised_tokens(answer.text) for answer in answers}
    spans = [(a, b) for a in range(len(parts)) for b in range(a, min(len(parts), a + 4)) if allowed[a] and allowed[b]]
    expected = [(a, b) for a, b in spans if normalised_tokens(context[offsets[a][0] : offsets[b][1]]) in golds]
    assert [tuple(span) for span in found.tolist()] == expected
    assert ANSWER_TOKENS == 30
