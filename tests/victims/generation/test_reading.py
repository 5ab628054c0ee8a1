from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from architectures import make_tokenizer
from causal_models import CACHED, UNCACHED, causal_of, prompts
from hypothesis import given
from hypothesis import strategies as st

from robustness.victims.generation.causal import CausalModel
from robustness.victims.generation.decoding import DecodingLimits, decode
from robustness.victims.generation.reading import EMPTY, Continuation, Reading, read_along
from robustness.victims.generation.sharing import best_size, read_shared, share

LIMITS = DecodingLimits(max_new_tokens=10)


@pytest.fixture
def tokenizer() -> Any:
    return make_tokenizer("none")


def read_plainly(causal: CausalModel, row: Continuation) -> Reading:
    """One row alone, token by token, in double precision behind the model."""
    with torch.inference_mode():
        logits = causal.model(torch.tensor([row.whole])).logits[0].double()
    losses, margins = [], []
    for place, token in enumerate(row.tokens, start=len(row.prompt) - 1):
        losses.append(float(-logits[place].log_softmax(dim=0)[token]))
        others = logits[place].clone()
        others[token] = -math.inf
        margins.append(float(logits[place, token] - others.max()))
    agreed = next((index for index, margin in enumerate(margins) if margin <= 0), len(margins))
    return Reading(float(np.mean(losses)), agreed, min(margins))


def edits(tokenizer: Any, words: int, count: int, seed: int = 0) -> list[list[int]]:
    """One text with one word replaced, at many places."""
    rng = np.random.default_rng(seed)
    (text,) = prompts(tokenizer, 1, 1, seed)
    text = [int(token) for token in rng.integers(5, 21, size=words)]
    found = []
    for _ in range(count):
        edited = list(text)
        edited[int(rng.integers(words))] = int(rng.integers(5, 21))
        found.append(edited)
    return found


def assert_same(found: Reading, expected: Reading) -> None:
    assert found.loss == pytest.approx(expected.loss, abs=1e-4)
    assert found.margin == pytest.approx(expected.margin, abs=1e-4)
    assert found.agreed == expected.agreed


@pytest.mark.parametrize("kind", [*CACHED, *UNCACHED])
def test_readings_are_those_of_each_row_alone(kind: str, tokenizer: Any) -> None:
    causal = causal_of(kind, tokenizer)
    asked, targets = prompts(tokenizer, 12), prompts(tokenizer, 12, seed=1)
    greedy = [each.tokens for each in decode(causal, asked, LIMITS)]
    rows = [Continuation(tuple(prompt), tuple(target)) for prompt, target in zip(asked, targets, strict=True)]
    rows += [Continuation(tuple(prompt), target) for prompt, target in zip(asked, greedy, strict=True)]

    found = read_along(causal, rows, batch_tokens=60)

    for row, reading in zip(rows, found, strict=True):
        assert_same(reading, read_plainly(causal, row))


@pytest.mark.parametrize("kind", CACHED)
def test_what_agrees_to_the_end_is_what_decoding_gives(kind: str, tokenizer: Any) -> None:
    causal = causal_of(kind, tokenizer)
    asked = edits(tokenizer, 10, 40)
    asked += [[*prompt[:-2], *asked[0][-2:]] for prompt in asked]
    few = DecodingLimits(max_new_tokens=1)  # of random weights, few edits leave much as it was
    (clean,) = decode(causal, asked[:1], few)

    readings = read_along(causal, [Continuation(tuple(prompt), clean.tokens) for prompt in asked])
    decoded = decode(causal, asked, few)

    for reading, each in zip(readings, decoded, strict=True):
        assert (reading.agreed == len(clean.tokens)) == (each.tokens == clean.tokens) == (reading.margin > 0)
        assert each.tokens[: reading.agreed] == clean.tokens[: reading.agreed]
    begun = [clean.tokens[: reading.agreed] for reading in readings]
    assert decode(causal, asked, few, begun=begun) == decoded
    assert 1 < sum(reading.agreed == len(clean.tokens) for reading in readings) < 80


@pytest.mark.parametrize("kind", CACHED)
@pytest.mark.parametrize(("words", "count"), [(4, 3), (20, 17), (30, 6), (12, 1)])
def test_shared_prefixes_change_nothing_but_rounding(kind: str, words: int, count: int, tokenizer: Any) -> None:
    causal = causal_of(kind, tokenizer)
    rows = [
        Continuation(tuple(prompt), tuple(target))
        for prompt, target in zip(edits(tokenizer, words, count), prompts(tokenizer, count, 6), strict=True)
    ]

    found = read_shared(causal, rows)

    for row, reading in zip(rows, found, strict=True):
        assert_same(reading, read_plainly(causal, row))


@pytest.mark.parametrize("kind", UNCACHED)
def test_models_without_a_cache_share_nothing_and_say_the_same(kind: str, tokenizer: Any) -> None:
    causal = causal_of(kind, tokenizer)
    rows = [Continuation(tuple(prompt), (5, 6)) for prompt in edits(tokenizer, 8, 7)]

    assert read_shared(causal, rows) == read_along(causal, rows)


def test_sharing_runs_about_half_of_the_tokens(tokenizer: Any) -> None:
    causal = causal_of("llama", tokenizer)
    assert causal.can_cache
    rows = [Continuation(tuple(prompt), (5, 6, 7)) for prompt in edits(tokenizer, 45, 40)]
    causal.token_forwards = 0

    read_shared(causal, rows)

    assert causal.token_forwards < 0.6 * sum(len(row.whole) for row in rows)


def test_rows_that_begin_otherwise_or_at_once_are_read_too(tokenizer: Any) -> None:
    causal = causal_of("llama", tokenizer)
    asked = [*prompts(tokenizer, 5), [5], [5], [6, 5], [5, 6, 7]]
    rows = [Continuation(tuple(prompt), (8, 9)) for prompt in asked] + [Continuation((5, 6), ())]

    found = read_shared(causal, rows)

    for row, reading in zip(rows[:-1], found[:-1], strict=True):
        assert_same(reading, read_plainly(causal, row))
    assert found[-1] == EMPTY
    assert read_along(causal, rows[-1:]) == [EMPTY]


def test_groups_go_from_the_last_edits_to_the_first_and_share_all_before_these(tokenizer: Any) -> None:
    text = list(range(10, 20))
    rows = [(*text[:place], 1 + 4 * (place % 2), *text[place + 1 :]) for place in (7, 2, 9, 0, 4, 2, 5, 9)]

    groups = list(share(causal_of("llama", tokenizer), rows, [8] * len(rows)))

    first = [next(place for place, (a, b) in enumerate(zip(row, text, strict=True)) if a != b) for row in rows]
    places = [[first[index] for index in group.indices] for group in groups]
    assert [place for some in places for place in some] == [9, 9, 7, 5, 4, 2, 2, 0]
    assert [group.shared for group in groups] == [min(8, *some) for some in places]
    assert [group.cache is None for group in groups] == [group.shared == 0 for group in groups]


@given(rows=st.integers(1, 200), span=st.integers(0, 400), fixed=st.integers(1, 1_100))
def test_no_other_size_of_group_costs_much_less(rows: int, span: int, fixed: int) -> None:
    def cost(size: int) -> float:
        return rows * fixed / size + size * span / 2

    size = best_size(rows, span, fixed)

    assert 1 <= size <= rows
    assert cost(size) <= 1.1 * min(map(cost, range(1, rows + 1)))


def test_a_tie_does_not_agree(tokenizer: Any) -> None:
    causal = causal_of("llama", tokenizer)
    row = Continuation((5, 6), (7,))
    logits = torch.zeros(1, 2, 21)

    class Tied:
        config = causal.model.config

        def parameters(self) -> Any:
            return causal.model.parameters()

        def forward(self, input_ids: Any, attention_mask: Any, logits_to_keep: Any = 0) -> None: ...

        def __call__(self, **inputs: Any) -> Any:
            return type("Output", (dict,), {"logits": logits})()

    (reading,) = read_along(CausalModel(Tied(), tokenizer), [row])

    assert (reading.agreed, reading.margin) == (0, 0)
    assert reading.loss == pytest.approx(math.log(21))
