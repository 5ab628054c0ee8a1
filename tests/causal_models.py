"""Tiny random causal language models, beside what transformers' own `generate` makes of them."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import numpy as np
import torch
from architectures import PAD, SIZES, WORDS
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from robustness.victims.generation.causal import CausalModel

CACHED = ("llama", "gpt2", "opt")
UNCACHED = ("mamba", "bloom")
"""A running state, and positions that cannot be told: run on whole texts."""


@cache
def tiny_model(kind: str, **settings: Any) -> Any:
    """A causal model of random weights, large enough that it does not repeat one word."""
    plain = CONFIG_MAPPING[kind]
    names = {*inspect.signature(plain.__init__).parameters, *plain().to_dict()}
    chosen = {name: value for name, value in SIZES.items() if name in names} | {"is_decoder": True} | settings
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(plain(**chosen)).eval().requires_grad_(False)
        for name, parameter in model.named_parameters():
            if "norm" not in name and "ln_" not in name:
                torch.nn.init.normal_(parameter, std=0.4)
    return model


def causal_of(kind: str, tokenizer: Any, **settings: Any) -> CausalModel:
    return CausalModel(tiny_model(kind, **settings), tokenizer)


def prompts(tokenizer: Any, count: int, longest: int = 12, seed: int = 0) -> list[list[int]]:
    """Texts of many lengths."""
    rng = np.random.default_rng(seed)
    words = tokenizer.convert_tokens_to_ids(list(WORDS))
    return [[int(word) for word in rng.choice(words, size=int(rng.integers(1, longest + 1)))] for _ in range(count)]


def generate_plainly(causal: CausalModel, prompt: list[int], **options: Any) -> list[int]:
    """What the model's own `generate` gives to one prompt alone, with the end token."""
    ids = torch.tensor([prompt])
    whole = causal.model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=PAD, **options
    )
    return [int(token) for token in whole[0, len(prompt) :]]


def end_in_the_middle(causal: CausalModel, asked: list[list[int]]) -> int:
    """Makes one token the only end, such that responses end at many lengths; returns it."""
    causal.ends = frozenset()  # type: ignore[misc]
    causal.model.generation_config.eos_token_id = None
    rows = [generate_plainly(causal, prompt, max_new_tokens=16) for prompt in asked]
    lengths = {token: len({row.index(token) for row in rows if token in row}) for token in range(1, 21)}
    end = max(lengths, key=lambda token: lengths[token])
    causal.ends = frozenset({end})  # type: ignore[misc]
    return end
