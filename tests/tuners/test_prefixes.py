from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

from robustness.tuners.prefixes import name_cache

SHAPE: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}
MODELS: dict[str, Any] = {
    "encoder": (BertForSequenceClassification, BertConfig(**SHAPE), "SEQ_CLS"),
    "decoder": (LlamaForSequenceClassification, LlamaConfig(**SHAPE), "SEQ_CLS"),
    "language-model": (LlamaForCausalLM, LlamaConfig(**SHAPE), "CAUSAL_LM"),
}
PREFIX = 3


def logits_by_hand(model: Any, adapted: Any, ids: torch.Tensor) -> torch.Tensor:
    """Of the plain model, behind a cache that holds the prefix's keys and values."""
    weight = adapted.prompt_encoder["default"].embedding.weight.detach()
    layers = weight.view(PREFIX, SHAPE["num_hidden_layers"], 2, SHAPE["num_attention_heads"], -1)
    cache = DynamicCache()
    for layer in range(SHAPE["num_hidden_layers"]):
        keys, values = layers[:, layer].permute(1, 2, 0, 3).unsqueeze(1)
        cache.update(keys, values, layer)
    inner = model.bert if isinstance(model, BertForSequenceClassification) else model.model
    name = "cache" if "cache" in inspect.signature(type(inner).forward).parameters else "past_key_values"
    mask = torch.ones((1, PREFIX + ids.shape[1]), dtype=torch.long)
    hidden = inner(input_ids=ids, attention_mask=mask, **{name: cache})
    if isinstance(model, BertForSequenceClassification):
        return model.classifier(hidden.pooler_output)
    if isinstance(model, LlamaForCausalLM):
        return model.lm_head(hidden.last_hidden_state)
    return model.score(hidden.last_hidden_state)[:, -1]


@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_a_learnt_prefix_stands_before_the_text_in_every_layer(kind: str) -> None:
    family, config, task = MODELS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = family(config).eval()
        ids = torch.randint(5, 40, (1, 7))
        plain = model(input_ids=ids).logits
        adapted = get_peft_model(model, PrefixTuningConfig(task_type=task, num_virtual_tokens=PREFIX)).eval()

    name_cache(adapted)

    logits = adapted(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    torch.testing.assert_close(logits, logits_by_hand(model, adapted, ids))
    assert (logits - plain).abs().max() > 1e-3


def test_other_adapters_are_left_as_they_are() -> None:
    adapted = get_peft_model(BertForSequenceClassification(BertConfig(**SHAPE)), LoraConfig(task_type="SEQ_CLS"))

    name_cache(adapted)

    assert not any(module._forward_pre_hooks for module in adapted.modules())
