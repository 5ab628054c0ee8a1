"""Any batches, any padding and reading along say what the model says of each text alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from architectures import END, WORDS, make_tokenizer
from causal_models import generate_plainly, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st

from robustness.tasks.gold import GoldSpan
from robustness.tasks.task import Task, TaskKind
from robustness.tasks.text.answering import TextAnswer
from robustness.tasks.text.metrics import TextMetric
from robustness.testsets.example import Example
from robustness.victims.generation.sharing import common
from robustness.victims.heads.texts import TextVictim

ANSWER = TextAnswer("whole", TextMetric.TOKEN_F1, max_new_tokens=6, stop=("film fine",))
TASK = Task("copying", ("text",), (), ("text",), kind=TaskKind.TEXT, template="a {text} is", answer=ANSWER)
MODELS: dict[str, dict[str, Any]] = {"llama": {}, "gpt2": {}, "mistral": {"sliding_window": 8}, "mamba": {}}
"""With a cache, with learnt positions, with a window that forgets, and without a cache."""
Texts = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8), min_size=1, max_size=8)


@cache
def victim_of(kind: str, side: str) -> TextVictim:
    tokenizer = make_tokenizer("none")
    tokenizer.padding_side = side
    return TextVictim(tiny_model(kind, **MODELS[kind]), tokenizer, TASK)


@cache
def say_plainly(kind: str, text: str) -> tuple[str, tuple[int, ...]]:
    """What transformers' `generate` gives to the prompt alone, cut before the stop string; and its tokens."""
    victim = victim_of(kind, "right")
    prompt = victim.tokenizer(f"a {text} is")["input_ids"]
    tokens = generate_plainly(victim.causal, prompt, max_new_tokens=6, eos_token_id=END, use_cache=False)
    return str(victim.tokenizer.decode(tokens, skip_special_tokens=True)).split("film fine")[0], tuple(tokens)


def lose_plainly(kind: str, example: Example) -> float:
    """The mean loss of the gold text and its end, in one row without padding."""
    victim = victim_of(kind, "right")
    prompt = victim.tokenizer(f"a {example.texts[0]} is")["input_ids"]
    target = [*victim.tokenizer(example.answers[0].text)["input_ids"], END]
    with torch.inference_mode():
        logits = victim.model(torch.tensor([prompt + target])).logits[0, len(prompt) - 1 : -1].double()
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor(target)))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", MODELS)
@given(texts=Texts, gold=st.integers(0, 7), is_one_search=st.booleans(), parts=st.integers(1, 3))
@settings(max_examples=12, deadline=None)
def test_rows_read_along_in_any_batches_are_those_that_generate_gives_to_each_text_alone(
    kind: str, side: str, texts: list[list[str]], gold: int, is_one_search: bool, parts: int
) -> None:
    victim = victim_of(kind, side)
    golds = (GoldSpan(say_plainly(kind, " ".join(texts[gold % len(texts)]))[0] or "film", 0),)
    asked = [
        Example("one" if is_one_search else str(number), (" ".join(text),), 1, answers=golds)
        for number, text in enumerate(texts)
    ]

    whole = victim.rows(asked)
    losses = victim.loss_rows(asked)
    along = []
    for some in np.array_split(np.arange(len(asked)), parts):
        read = [losses[index] if index % 2 else None for index in some]
        along += list(victim.rows_along([asked[index] for index in some], read)) if len(some) else []

    expected = [say_plainly(kind, example.texts[0]) for example in asked]
    for rows in (whole, np.stack(along)):
        assert [victim.grader.response(row) for row in rows] == [text for text, _ in expected]
    plain = [lose_plainly(kind, example) for example in asked]
    for rows in (whole, losses, np.stack(along)):
        assert victim.grader.losses(rows, asked) == pytest.approx(plain, abs=1e-4)
    for row, again, (_, tokens) in zip(whole, along, expected, strict=True):
        decoded, rest = victim.grader.generated(row), victim.grader.generated(again)
        assert rest is not None and decoded is not None and rest <= decoded <= len(tokens)


@pytest.mark.parametrize("kind", MODELS)
@given(text=st.lists(st.sampled_from(WORDS), min_size=1, max_size=8), data=st.data())
@settings(max_examples=12, deadline=None)
def test_decoding_begins_where_neither_the_clean_response_nor_the_gold_text_is_said(
    kind: str, text: list[str], data: st.DataObject
) -> None:
    endless = replace(TASK, answer=replace(ANSWER, stop=()))
    victim = TextVictim(victim_of(kind, "left").model, make_tokenizer("none"), endless)
    clean = Example("one", (" ".join(text),), 1, answers=(GoldSpan("film", 0),))
    place = data.draw(st.integers(0, len(text) - 1))
    edited = clean.replace_word(place, data.draw(st.sampled_from(WORDS)))

    victim.rows([clean])
    (row,) = victim.rows_along([edited], [None])

    first, again = (say_plainly(kind, each.texts[0])[1] for each in (clean, edited))
    said = max(common(again, first), common(again, victim.target(clean)))
    assert victim.grader.generated(row) == len(again) - said
