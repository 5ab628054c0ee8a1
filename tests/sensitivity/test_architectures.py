"""Every probe of the weights and of the depth on models that are built otherwise: a number, or `unsupported`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import nn

from robustness.recipes.embedding.balls import Norm
from robustness.sensitivity.blocks import (
    are_token_vectors,
    find_blocks,
    find_stacks,
    puts_tokens_first,
    recorded_inputs,
)
from robustness.sensitivity.input.block_jacobians import BlockJacobians
from robustness.sensitivity.input.condition import ConditionProfile
from robustness.sensitivity.input.distance import AdversarialDistance
from robustness.sensitivity.measurement import MeasurementStatus
from robustness.sensitivity.parameter.curvature import Curvature
from robustness.sensitivity.parameter.parameter_margin import ParameterMargin
from robustness.sensitivity.parameter.reachability import Reachability
from robustness.sensitivity.parameter.rounding import WeightRounding
from robustness.sensitivity.parameter.sharpness import Sharpness
from robustness.sensitivity.parameter.transplant import ModuleTransplant
from robustness.sensitivity.parameter.weights import block_parameters
from robustness.sensitivity.probe import Probe, Reading, Subject, Unsupported
from robustness.sensitivity.structure.anatomy import UpdateStructure
from robustness.sensitivity.structure.gain import UpdateGain
from robustness.sensitivity.structure.paths import UpdatePath
from robustness.tuners.mpc import MpcConfig
from robustness.tuners.registration import register_tuners
from robustness.victims.heads.embedded_batch import EmbeddedBatch

PROBES: dict[str, Probe] = {
    "distance": AdversarialDistance((Norm.L2,), 4, 1, 0, 1, checked_examples=2, random_directions=2),
    "block-jacobians": BlockJacobians(2),
    "condition-profile": ConditionProfile(),
    "curvature": Curvature(2, 2),
    "transplant": ModuleTransplant(2, 1, 1.0),
    "parameter-margin": ParameterMargin(2),
    "reachability": Reachability(2),
    "sharpness": Sharpness(0.1, 0.01, 0.1, steps=1),
    "update-gain": UpdateGain(),
    "update-path": UpdatePath((1.0,), (1,), (2,), (0.0,)),
    "update-structure": UpdateStructure(draws=1),
    "weight-rounding": WeightRounding((8,)),
}
WITHOUT_DEPTH = {"block-jacobians", "condition-profile"}
"""What Funnel pools, SqueezeBERT and XLNet turn, ALBERT runs three times and XLM spreads over lists."""


NOT_MERGED = set(PROBES) - WITHOUT_DEPTH - {"distance", "transplant"}


def measured(probe: Probe, subject: Subject) -> tuple[list[Reading], str]:
    """What a probe measures, or why it measures nothing; any other exception is a failure of the test."""
    try:
        return list(probe.measure(subject)), ""
    except Unsupported as reason:
        return [], str(reason)


def statuses(readings: Iterable[Reading]) -> set[MeasurementStatus]:
    return {reading.measurement.status for reading in readings}


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize(
    "kind", ["albert", "bart", "funnel", "gpt2", "openai-gpt", "squeezebert", "t5", "xlm", "xlnet"]
)
def test_a_full_checkpoint_has_a_number_or_a_reason(kind: str, name: str, architecture: Callable[[str], Any]) -> None:
    world = architecture(kind)

    readings, reason = measured(PROBES[name], world.subject(world.full))

    assert MeasurementStatus.ERRORED not in statuses(readings)
    if name in ("reachability", "transplant") or (
        name in WITHOUT_DEPTH and kind in ("albert", "funnel", "squeezebert", "xlm", "xlnet")
    ):
        assert reason
    else:
        assert statuses(readings) & {MeasurementStatus.OK, MeasurementStatus.NOT_CONVERGED}
        assert reason == ""


@pytest.mark.parametrize("name", ["transplant", "reachability"])
@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("albert", "ffn"),
        ("bart", "fc1"),
        ("funnel", "linear_1"),
        ("openai-gpt", "c_fc"),
        ("t5", "q"),
        ("xlnet", "layer_1"),
    ],
)
def test_an_adapter_beside_its_full_partner_has_a_number(
    kind: str, target: str, name: str, architecture: Callable[[str], Any]
) -> None:
    world = architecture(kind)
    config = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=[target])
    folder = world.adapter(config, "near", std=0.02)  # the two answer alike

    readings, reason = measured(PROBES[name], world.subject(folder, world.full))

    assert reason in ("", "there is no example that both arms answer rightly")
    assert MeasurementStatus.ERRORED not in statuses(readings)
    assert reason or statuses(readings) & {MeasurementStatus.OK, MeasurementStatus.NOT_CONVERGED}


def test_the_blocks_of_a_model_that_pools_are_one_list_and_all_of_them_are_its_space(
    architecture: Callable[[str], Any],
) -> None:
    """Funnel's blocks are lists in a list."""
    model = architecture("funnel").victim(architecture("funnel").full).model

    assert list(find_blocks(model)) == [f"funnel.encoder.blocks.{i}.{j}" for i in (0, 1) for j in (0, 1)]
    own = {name for name, _ in model.named_parameters() if ".blocks." in name}
    assert set(block_parameters(model)) == own


def test_an_encoders_and_a_decoders_blocks_are_two_lists_and_one_space() -> None:
    from transformers import T5Config, T5ForSequenceClassification

    config = T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=2, num_decoder_layers=3, num_heads=2)
    model = T5ForSequenceClassification(config)

    assert [len(stack) for stack in find_stacks(model)] == [2, 3]
    assert list(find_blocks(model)) == ["transformer.encoder.block.0", "transformer.encoder.block.1"]
    assert set(block_parameters(model)) == {name for name, _ in model.named_parameters() if ".block." in name}


def test_a_decoders_blocks_are_transplanted_as_blocks() -> None:
    from transformers import BartConfig, BartForSequenceClassification

    from robustness.sensitivity.parameter.transplant import find_modules

    config = BartConfig(
        vocab_size=9, d_model=8, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=9,
    )  # fmt: skip
    model = BartForSequenceClassification(config)

    modules = find_modules(model)

    assert [(module.name, module.layer) for module in modules] == [
        ("embeddings", None),
        ("model.encoder.layers.0", 0),
        ("model.decoder.layers.0", 0),
        ("model.decoder.layers.1", 1),
        ("head", None),
    ]
    assert all(name.startswith("classification_head") for name in modules[-1].parameters)


def test_lists_that_take_turns_are_no_depth_and_one_space(architecture: Callable[[str], Any]) -> None:
    """XLM's attentions and feed-forward layers."""
    world = architecture("xlm")
    model = world.victim(world.full).model

    with pytest.raises(Unsupported, match="alternate in 4 module lists"):
        find_blocks(model)
    names = set(block_parameters(model))
    assert {name.split(".")[1] for name in names} == {"attentions", "layer_norm1", "ffns", "layer_norm2"}


class OneBlock(nn.Module):
    """A model whose one block is given (batch, tokens, dim), or (tokens, batch, dim) as XLNet's are."""

    def __init__(self, *, tokens_first: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(4, 4)])
        self.tokens_first = tokens_first

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        answer = self.blocks[0](points.transpose(0, 1) if self.tokens_first else points)
        return answer.sum(dim=(0 if self.tokens_first else 1, 2))[:, None] * torch.tensor([1.0, -1.0])


@pytest.mark.parametrize("rows", [1, 3, 5])
@pytest.mark.parametrize("tokens_first", [False, True])
def test_tokens_before_texts_are_seen_even_where_there_are_as_many(
    rows: int, tokens_first: bool, as_batch: Callable[..., EmbeddedBatch]
) -> None:
    model = OneBlock(tokens_first=tokens_first)
    batch = as_batch(model, torch.randn(rows, 5, 4))
    with recorded_inputs(list(model.blocks)) as states:
        batch.logits(batch.embeddings)

    assert are_token_vectors(batch, model.blocks[0], states) == (not tokens_first)
    assert puts_tokens_first(batch, model.blocks[0]) == tokens_first


class Codes(nn.Linear):
    """A linear layer of code numbers, as bitsandbytes has them."""

    def __init__(self, of: nn.Linear) -> None:
        super().__init__(of.in_features, of.out_features)
        self.scale = float(of.weight.abs().max()) / 127
        self.weight = nn.Parameter((of.weight / self.scale).round().to(torch.int8), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight.to(x.dtype) * self.scale, self.bias)


@pytest.mark.parametrize("name", PROBES)
def test_quantised_weights_have_no_number(name: str, architecture: Callable[[str], Any]) -> None:
    """Their codes, in a square layer of the weight's own shape, are no weights."""
    world = architecture("bert")
    folder = world.adapter(LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"]), "query")
    victim = world.victim(folder)
    for layer in victim.model.bert.encoder.layer:
        layer.attention.self.query = Codes(layer.attention.self.query)

    readings, reason = measured(PROBES[name], world.subject(folder, world.full, victim=victim))

    assert readings == [] and ("quantised" in reason or "eight bits" in reason)


@pytest.mark.parametrize("name", sorted(NOT_MERGED))
def test_an_adapter_that_is_not_merged_has_no_space_of_weights(name: str, architecture: Callable[[str], Any]) -> None:
    """The factors of MPC_n, which stay in the blocks, are coordinates."""
    register_tuners()
    world = architecture("bert")
    config = MpcConfig(peft_type="MPC_N", task_type="SEQ_CLS", r=2, target_modules=["query"])

    readings, reason = measured(PROBES[name], world.subject(world.adapter(config, "mpc-n")))

    assert readings == [] and "is not merged into" in reason
