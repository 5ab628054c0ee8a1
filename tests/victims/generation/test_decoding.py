from __future__ import annotations

from typing import Any

import pytest
import torch
from architectures import END, make_tokenizer
from causal_models import CACHED, UNCACHED, causal_of, end_in_the_middle, generate_plainly, prompts, tiny_model
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model

from robustness.victims.generation.causal import CausalModel
from robustness.victims.generation.decoding import DecodingLimits, decode

LIMITS = DecodingLimits(max_new_tokens=16)


@pytest.fixture
def tokenizer() -> Any:
    return make_tokenizer("none")


@pytest.mark.parametrize("kind", [*CACHED, *UNCACHED])
def test_batches_give_what_generate_gives_to_each_row_alone(kind: str, tokenizer: Any) -> None:
    causal = causal_of(kind, tokenizer)
    asked = prompts(tokenizer, 24)
    end = end_in_the_middle(causal, asked)

    found = decode(causal, asked, LIMITS, batch_rows=7)

    options = {"max_new_tokens": 16, "eos_token_id": end, "use_cache": kind in CACHED}
    expected = [generate_plainly(causal, prompt, **options) for prompt in asked]
    assert [list(each.tokens) for each in found] == expected
    assert [each.cut for each in found] == [row[-1] != end for row in expected]
    assert causal.can_cache is (kind in CACHED)
    lengths = {len(each.tokens) for each in found}
    assert len(lengths) > 2, "rows end at different tokens, so that some leave before others"


def test_a_window_that_forgets_is_not_relied_on(tokenizer: Any) -> None:
    causal = causal_of("mistral", tokenizer, sliding_window=8)
    asked = prompts(tokenizer, 8)

    found = decode(causal, asked, LIMITS)

    assert [list(each.tokens) for each in found] == [
        generate_plainly(causal, prompt, max_new_tokens=16) for prompt in asked
    ]


def test_a_window_wider_than_the_text_is_cut_where_the_longest_row_ends_first(tokenizer: Any) -> None:
    causal = causal_of("mistral", tokenizer, sliding_window=64)
    asked = prompts(tokenizer, 24)
    end = end_in_the_middle(causal, asked)

    found = decode(causal, asked, LIMITS, batch_rows=2)

    expected = [generate_plainly(causal, prompt, max_new_tokens=16, eos_token_id=end) for prompt in asked]
    assert [list(each.tokens) for each in found] == expected


@pytest.mark.parametrize(
    ("dtype", "moved", "expected"),
    [
        (torch.float32, 5e-4, True),
        (torch.float32, 2e-2, False),
        (torch.bfloat16, 2e-2, True),  # a step of bfloat16 is 0.8 % of a number
        (torch.bfloat16, 2e-1, False),
    ],
)
def test_a_cache_is_refused_beyond_what_the_precision_rounds(
    dtype: torch.dtype, moved: float, expected: bool, tokenizer: Any
) -> None:
    """As by kernels that depend on the number of rows."""
    model = tiny_model.__wrapped__("llama").to(dtype)
    model.lm_head.register_forward_hook(lambda _, __, logits: logits * (1 + moved) if len(logits) == 1 else logits)

    with torch.backends.mkldnn.flags(enabled=False):  # a virtual machine may announce instructions that it lacks
        assert CausalModel(model, tokenizer).can_cache is expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ignored", ["", "position_ids", "attention_mask"])
def test_a_cache_with_other_positions_or_with_padding_is_refused_in_every_precision(
    dtype: torch.dtype, ignored: str, tokenizer: Any
) -> None:
    model = tiny_model.__wrapped__("gpt2").to(dtype)

    def ignore(_: Any, arguments: Any, keywords: dict[str, Any]) -> Any:
        return arguments, {name: value for name, value in keywords.items() if name != ignored}

    model.register_forward_pre_hook(ignore, with_kwargs=True)

    with torch.backends.mkldnn.flags(enabled=False):
        assert CausalModel(model, tokenizer).can_cache is not bool(ignored)


@pytest.mark.parametrize("config", [PromptTuningConfig, PrefixTuningConfig])
def test_learnt_prompts_decode_as_they_answer_whole_texts(config: Any, tokenizer: Any) -> None:
    """Not as their own `generate`: under transformers 5 peft 0.21 does not give the cache on."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        base = tiny_model.__wrapped__("llama")  # of its own: peft changes it
        model = get_peft_model(base, config(task_type="CAUSAL_LM", num_virtual_tokens=3)).eval()
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.5)
    causal = CausalModel(model, tokenizer)
    asked = prompts(tokenizer, 6)

    found = decode(causal, asked, DecodingLimits(8))

    assert not causal.can_cache
    for prompt, each in zip(asked, found, strict=True):
        row = list(prompt)
        while len(row) < len(prompt) + 8 and (row[-1] != END or len(row) == len(prompt)):
            ids = torch.tensor([row])
            row.append(int(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1].argmax()))
        assert list(each.tokens) == row[len(prompt) :]


@pytest.mark.parametrize("kind", ["llama", "bloom"])
def test_a_response_ends_before_the_first_stop_string(kind: str, tokenizer: Any) -> None:
    causal = causal_of(kind, tokenizer)
    asked = prompts(tokenizer, 16)
    free = decode(causal, asked, LIMITS)
    words = free[0].text.split()
    stops = (words[2], " ".join(words[4:6]))

    found = decode(causal, asked, DecodingLimits(16, stops))

    for before, after in zip(free, found, strict=True):
        places = [before.text.find(stop) for stop in stops if stop in before.text]
        assert after.text == before.text[: min(places, default=len(before.text))]
        assert after.tokens == before.tokens[: len(after.tokens)]
        assert not (places and after.cut)
        # No token is decoded behind the one that completes a stop string.
        assert all(stop not in tokenizer.decode(after.tokens[:-1]) for stop in stops)
    assert sum(len(after.tokens) < len(before.tokens) for before, after in zip(free, found, strict=True)) > 1


def test_an_end_that_never_comes_is_cut_and_said(tokenizer: Any) -> None:
    causal = causal_of("llama", tokenizer)
    causal.ends = frozenset()  # type: ignore[misc]
    asked = prompts(tokenizer, 5)

    found = decode(causal, asked, LIMITS)

    assert all(each.cut and len(each.tokens) == 16 for each in found)


def test_no_token_is_run_twice(tokenizer: Any) -> None:
    causal = causal_of("llama", tokenizer)
    assert causal.can_cache
    asked = prompts(tokenizer, 9)
    causal.token_forwards = 0

    found = decode(causal, asked, LIMITS)

    # The last token of a response is not run: nothing is asked behind it.
    assert causal.token_forwards == sum(map(len, asked)) + sum(len(each.tokens) - 1 for each in found)


def test_what_has_begun_is_gone_on_with(tokenizer: Any) -> None:
    causal = causal_of("gpt2", tokenizer)
    asked = prompts(tokenizer, 9)
    whole = decode(causal, asked, LIMITS)

    for known in (0, 1, 3, 16):
        begun = [each.tokens[:known] for each in whole]
        assert decode(causal, asked, LIMITS, begun=begun) == whole


def test_no_prompts_and_no_room_give_no_tokens(tokenizer: Any) -> None:
    causal = causal_of("llama", tokenizer)

    assert decode(causal, [], LIMITS) == []
    (empty,) = decode(causal, prompts(tokenizer, 1), DecodingLimits(0))
    assert (empty.text, empty.tokens, empty.cut) == ("", (), True)


def test_all_end_tokens_are_known(tokenizer: Any) -> None:
    causal = causal_of("opt", tokenizer)
    model = causal.model
    before = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = [7, 9]
    try:
        assert causal.ends == {END, 7, 9}
    finally:
        model.generation_config.eos_token_id = before
