"""Prompts from templates and from chats, as the tokenizer's own chat template renders them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from robustness.definitions.tasks import find_task
from robustness.errors import CheckpointError
from robustness.tasks.task import Chat, Task
from robustness.testsets.example import Example
from robustness.victims.heads.prompts import prompt_of
from robustness.victims.heads.verbalisers import PromptedVictim
from robustness.victims.isolation import UnfitTextError

WORDS = ["<s>", "</s>", "<unk>", "<|user|>", "<|system|>", "<|bot|>", "Brief.", "yes", "no", "a", "b", "film", "or"]
TEMPLATE = (
    "{{ bos_token }} {% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] | trim }} </s> {% endfor %}"
    "{% if add_generation_prompt %}<|bot|>{% endif %}"
)
CHAT = Task(
    "film",
    ("first", "second"),
    ("no", "yes"),
    ("second",),
    chat=Chat("{second} or {first}", "Brief."),
    verbalisers=(" no", " yes"),
)
PLAIN = replace(CHAT, chat=None, template="{second} or {first} {{}}")


def tokenizer_with(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    made = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
    tokenizer.chat_template = template
    return tokenizer


def test_a_template_is_filled_as_python_fills_it() -> None:
    texts = ("a {odd} film", "b")

    assert prompt_of(PLAIN, tokenizer_with()).render(texts) == PLAIN.template.format(first=texts[0], second=texts[1])
    for name in ("sst2", "qqp", "mnli", "qnli", "rte", "ag-news", "anli"):
        task = find_task(name)
        filled = task.template.format(**{field: f"<{field}>" for field in task.fields})
        assert prompt_of(task, None).render(tuple(f"<{field}>" for field in task.fields)) == filled


def test_a_chat_reads_as_the_tokenizers_own_chat_template_writes_it() -> None:
    tokenizer, texts = tokenizer_with(), ("a film", "b film")
    messages = [{"role": "system", "content": "Brief."}, {"role": "user", "content": "b film or a film"}]
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    prompt = prompt_of(CHAT, tokenizer)

    assert prompt.render(texts) == expected
    assert [segment for _, segment in prompt.parts(texts)] == [None, 1, None, 0, None]


def test_the_scores_of_a_chat_are_plain_transformers_behind_the_rendered_messages() -> None:
    tokenizer = tokenizer_with()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(WORDS),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
            )
        ).eval()
    messages = [{"role": "system", "content": "Brief."}, {"role": "user", "content": "b film or a film"}]
    ids = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True, return_dict=True)
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids["input_ids"]])).logits[0, -1].log_softmax(dim=-1)

    scores = PromptedVictim(model, tokenizer, CHAT).scores([("a film", "b film")])

    wanted = [float(logits[WORDS.index(word)]) for word in ("no", "yes")]
    np.testing.assert_allclose(scores[0], wanted, atol=1e-6)


def test_a_prompt_without_tokens_is_unfit_in_every_company() -> None:
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
        )
    ).eval()
    task = replace(CHAT, fields=("first",), attacked=("first",), chat=None, template="{first}")
    victim = PromptedVictim(model, tokenizer_with(), task)
    fit, empty = Example("1", ("a film",), 0), Example("2", (" ",), 0)

    for asked in ([empty], [fit, empty], [empty] * 4):
        for ask in (victim.rows, victim.embed, lambda some: victim.read([each.texts for each in some])):
            with pytest.raises(UnfitTextError, match="its prompt has no tokens"):
                ask(asked)
    assert victim.rows([fit]).shape == (1, 2)


def test_the_tokens_of_a_chat_know_their_segment() -> None:
    tokenizer: Any = tokenizer_with()
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
        )
    )
    victim = PromptedVictim(model, tokenizer, CHAT)

    ids, places = victim.encode_segments(("a film", "b film"))

    owners = [place if place is None or isinstance(place, int) else place[0] for place in places]
    named = list(zip(tokenizer.convert_ids_to_tokens(ids), owners, strict=True))
    assert [token for token, owner in named if owner == 1] == ["b", "film"]
    assert [token for token, owner in named if owner == 0] == ["a", "film"]
    assert ids == victim.encode(("a film", "b film"))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (
            None,
            "tokenizer PreTrainedTokenizerFast: has no chat template, and task film asks by [chat]; use a checkpoint "
            "that was tuned to follow instructions, or write a template into the task in place of [chat]",
        ),
        (
            "{{ raise_exception('System role not supported') }}",
            "tokenizer PreTrainedTokenizerFast: its chat template refuses the messages of task film: System role not "
            "supported; leave [chat] system out, or write a template into the task in place of [chat]",
        ),
        (
            "{{ messages[0]['content'] }}",
            "tokenizer PreTrainedTokenizerFast: its chat template leaves the field {first} of task film out; mend "
            "the chat template, or write a template into the task in place of [chat]",
        ),
    ],
)
def test_a_tokenizer_that_cannot_render_the_chat_is_refused(template: str | None, expected: str) -> None:
    tokenizer = tokenizer_with(template)
    tokenizer.name_or_path = ""

    with pytest.raises(CheckpointError) as caught:
        prompt_of(CHAT, tokenizer)

    message = str(caught.value)
    assert message.replace(type(tokenizer).__name__, "PreTrainedTokenizerFast") == expected
