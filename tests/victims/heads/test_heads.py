"""What every head gives: rows that a query cache keeps, and compiled kernels or a reason why there are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

from robustness.engine import query_cache
from robustness.engine.query_cache import QueryCache
from robustness.engine.scheduler import Scheduler
from robustness.recipes.building import find_attack
from robustness.tasks.abilities import Ability
from robustness.tasks.gold import GoldSpan
from robustness.tasks.task import Task, TaskKind
from robustness.tasks.text.answering import TextAnswer
from robustness.tasks.text.metrics import TextMetric
from robustness.testsets.example import Example
from robustness.victims.heads.head import Head
from robustness.victims.heads.kinds import HeadKind
from robustness.victims.heads.registry import HeadOptions, build_head
from robustness.victims.toy_models import word_pieces

WORDS = ("who", "won", "the", "a", "denver", "broncos", "city", "of", "played", "in", "rome", "and", "yes", "no")
TEXTS = ("denver city won", "the broncos played in rome", "a city of no broncos")
SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
LABELS = Task(
    "toy", ("text",), ("bad", "good"), ("text",), template="the {text} of", verbalisers=(" yes", " no rome")
)
WRITING = Task(
    "toy-text",
    ("text",),
    (),
    ("text",),
    kind=TaskKind.TEXT,
    template="the {text} of",
    answer=TextAnswer("whole", TextMetric.EXACT, max_new_tokens=4),
)
QUESTIONS = Task("toy-squad", ("question", "context"), (), ("context",), kind=TaskKind.SPAN)
TASKS = {HeadKind.SPAN: QUESTIONS, HeadKind.TEXT: WRITING}
MODELS: dict[HeadKind, Callable[[int], Any]] = {
    HeadKind.LABELS: lambda size: BertForSequenceClassification(BertConfig(vocab_size=size, **SHAPE)),
    HeadKind.SPAN: lambda size: BertForQuestionAnswering(BertConfig(vocab_size=size, **SHAPE)),
    HeadKind.VERBALISERS: lambda size: language_model(size),
    HeadKind.TEXT: lambda size: language_model(size),
}


def language_model(size: int) -> Any:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=size, n_embd=16, n_layer=1, n_head=2, n_positions=64, initializer_range=0.3)
    )


def make(kind: HeadKind) -> tuple[Head, list[Example]]:
    """A head of a kind, and examples that it answers rightly."""
    tokenizer = word_pieces(WORDS)
    tokenizer.eos_token = tokenizer.sep_token
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = MODELS[kind](len(tokenizer)).eval()
    task = TASKS.get(kind, LABELS)
    head = build_head(kind, model, tokenizer, HeadOptions(task, tuple(range(len(task.labels)))))
    if kind is HeadKind.TEXT:
        asked = [Example(str(n), (text,), 0, answers=(GoldSpan("rome", 0),)) for n, text in enumerate(TEXTS)]
        grades = [head.grader.grade(row, each) for row, each in zip(head.rows(asked), asked, strict=True)]
        golds = [(GoldSpan(grade.response, 0),) for grade in grades]
        return head, [replace(each, answers=gold) for each, gold in zip(asked, golds, strict=True)]
    if kind is not HeadKind.SPAN:
        labels = head.logits([(text,) for text in TEXTS]).argmax(axis=1)
        return head, [Example(str(n), (text,), int(labels[n])) for n, text in enumerate(TEXTS)]
    found = []
    for number, context in enumerate(["denver won in rome", "the broncos played a city of rome"]):
        texts = ("who won", context)
        _, start, end = head.rows([Example("", texts, 0, answers=(GoldSpan("rome", 0),))])[0].astype(int)
        gold = (GoldSpan(context[start:end], int(start)),)
        found.append(Example(str(number), texts, 0, attacked=(1,), answers=gold))
    return head, found


@pytest.mark.parametrize("kind", HeadKind)
def test_a_head_can_what_its_kind_says(kind: HeadKind) -> None:
    head, examples = make(kind)

    assert head.can == kind.traits.can
    assert head.grader.correct(head.rows(examples), examples).all()
    if Ability.TEXT_GRADIENTS in head.can:
        assert [len(each.tokens) for each in head.text_gradients(examples)] == [
            len(each.tokens) for each in head.locate(examples)
        ]
    if Ability.EMBEDDINGS in head.can:
        assert len(head.embed(examples).embeddings) == len(examples)


@pytest.mark.parametrize("kind", HeadKind)
def test_what_a_cache_knows_of_a_head_changes_costs_and_no_outcome(
    kind: HeadKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_cache, "RECHECK_EVERY", 2**64)
    head, examples = make(kind)

    def attack(cache: QueryCache | None) -> dict[str, Any]:
        found = Scheduler(find_attack("deepwordbug"), head, seed=0, cache=cache).run(examples)
        return {outcome.example_id: outcome for outcome in found}

    plain = attack(None)
    first, second = (attack(QueryCache(tmp_path, "head", head.grader)) for _ in range(2))

    for name, outcome in plain.items():
        assert outcome.error is None
        for other in (first[name], second[name]):
            assert (other.status, other.adversarial_text, other.queries) == (
                outcome.status,
                outcome.adversarial_text,
                outcome.queries,
            )
            assert other.quality == pytest.approx(outcome.quality, abs=1e-6)
        assert second[name].forwards <= 1 < first[name].forwards  # a proposal is judged afresh


@pytest.mark.parametrize("kind", [HeadKind.LABELS, HeadKind.SPAN])
def test_a_compiled_head_answers_as_the_model_does(kind: HeadKind, monkeypatch: pytest.MonkeyPatch) -> None:
    head, examples = make(kind)
    expected, before = head.rows(examples), head.describe_scoring()
    compiled = []

    def compile_model(model: torch.nn.Module, *, dynamic: bool) -> Any:
        return lambda **inputs: compiled.append(len(inputs["input_ids"])) or model(**inputs)

    monkeypatch.setattr(torch, "compile", compile_model)
    failure = head.compile()

    np.testing.assert_array_equal(head.rows(examples), expected)
    assert failure is None
    assert len(compiled) > 2  # two sizes to begin with, then what was asked
    assert head.describe_scoring() != before  # no cached row of other kernels is taken for its own


def test_a_prompted_head_says_why_it_is_not_compiled() -> None:
    head, _ = make(HeadKind.VERBALISERS)

    assert "--compile: a prompted model reads its own cache" in str(head.compile())
