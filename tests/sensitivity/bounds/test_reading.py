"""Layers read from transformers' own models give their logits; what is not understood says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import PromptTuningConfig

from robustness.sensitivity.bounds.linearised import linearise
from robustness.sensitivity.bounds.reading import Reader
from robustness.sensitivity.probe import Unsupported


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama", "mistral"])
def test_layers_give_the_models_logits_at_texts_moved_far(architecture: Callable[[str], Any], kind: str) -> None:
    tiny = architecture(kind)
    victim = tiny.victim(tiny.full)
    batch = victim.embed(tiny.subject(tiny.full).examples[:1])
    generator = torch.Generator().manual_seed(1)
    moved = 3 * torch.randn(batch.embeddings.shape, generator=generator)

    read = Reader(victim).read(batch)

    offset = read.x - batch.embeddings[0].double()
    expected = batch.logits(moved).detach().double()
    torch.testing.assert_close(linearise(read.layers, moved[0].double() + offset)[1], expected, rtol=1e-4, atol=1e-5)
    assert read.rounding < 1e-4
    assert read.content.tolist() == batch.content[0].tolist()


@pytest.mark.parametrize("kind", ["gpt2", "xlnet", "t5", "funnel", "albert", "squeezebert", "mpnet"])
def test_other_architectures_are_unsupported_with_a_reason(architecture: Callable[[str], Any], kind: str) -> None:
    tiny = architecture(kind)
    victim = tiny.victim(tiny.full)

    with pytest.raises(Unsupported, match=r"\w{4}"):
        Reader(victim).read(victim.embed(tiny.subject(tiny.full).examples[:1]))


def test_a_model_with_virtual_tokens_is_unsupported(architecture: Callable[[str], Any]) -> None:
    tiny = architecture("bert")
    victim = tiny.victim(tiny.adapter(PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2), "prompt"))

    with pytest.raises(Unsupported):
        Reader(victim).read(victim.embed(tiny.subject(tiny.full).examples[:1]))


def test_a_model_that_does_more_than_its_modules_say_is_unsupported(architecture: Callable[[str], Any]) -> None:
    tiny = architecture("bert")
    victim = tiny.victim(tiny.full)
    victim.model.classifier.register_forward_hook(lambda _module, _inputs, out: out.tanh())

    with pytest.raises(Unsupported, match="logits that differ"):
        Reader(victim).read(victim.embed(tiny.subject(tiny.full).examples[:1]))
