from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import BertConfig, LlamaConfig

from robustness import RunSettings, api
from robustness.runs.planning import peak
from robustness.runs.planning.peak import COMPARED, Footprint, Texts, measure_footprint
from robustness.terminal import dry_run
from robustness.victims.heads.kinds import HeadKind

LLAMA_7B = LlamaConfig(
    hidden_size=4096, num_hidden_layers=32, intermediate_size=11_008, num_attention_heads=32, vocab_size=32_000
)
CARD = 80 * 2**30
"""Bytes of a card of 80 GB, as vendors count."""
TORCH = 1e9
"""Bytes for CUDA itself, and for what an allocator cannot use."""


@pytest.fixture(scope="module")
def bert() -> BertConfig:
    return BertConfig(
        vocab_size=60, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128, num_labels=2
    )


def test_what_is_told_of_a_small_model_is_what_a_run_of_it_allocates(bert: BertConfig) -> None:
    """The reference is the profile of a model with weights, by torch's own allocator."""
    from torch.profiler import ProfilerActivity, profile
    from transformers import BertForSequenceClassification

    with torch.random.fork_rng():
        model = BertForSequenceClassification._from_config(bert, attn_implementation="eager").eval()
    model.requires_grad_(False)
    point = torch.randn(4, 40, 64, requires_grad=True)

    told = measure_footprint(bert, HeadKind.LABELS, torch.float32, Texts(4, 40))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        torch.autograd.grad(model(inputs_embeds=point).logits.sum(), point)

    events = [each for each in profiled.profiler.kineto_results.events() if each.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda each: each.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    assert told.gradient == pytest.approx(most, rel=0.1)
    assert told.weights == sum(each.numel() * 4 for each in model.parameters())
    assert told.blocks == sum(each.numel() * 4 for each in model.bert.encoder.parameters())
    assert told.scoring < told.gradient < told.activations  # weights with gradients need their inputs too


def test_an_honest_seven_billion_pair_fits_a_card_of_80_gb_in_bfloat16_and_its_parameter_probes_in_float32() -> None:
    """Probes of the parameters are refused in bfloat16; in float32 the copies are the weights' size each."""
    half, full = (
        measure_footprint(LLAMA_7B, HeadKind.LABELS, dtype, Texts(1, 128))
        for dtype in (torch.bfloat16, torch.float32)
    )

    assert half.weights == pytest.approx(13.2e9, rel=0.01)
    assert COMPARED["cuda"] * half.weights + half.scoring < CARD / 2
    assert half.weights + half.gradient < CARD / 4
    probes = full.weights + 2 * full.blocks + full.activations
    assert probes == pytest.approx(79.6e9, rel=0.02)
    assert probes + TORCH < CARD
    assert probes + full.blocks > CARD  # a third copy, which the curvature's second vector is, does not fit


def plan_of(tiny: Any, probes: list[str], **settings: Any) -> Any:
    chosen = {"data": tiny.data, "limit": 4, "device": "cpu", "testsets": [str(tiny.testset)], "probes": probes}
    return api.plan("smoke", tiny.pairs, RunSettings(**chosen | settings))


def test_a_dry_run_tells_the_peak_and_its_parts(tiny: Any) -> None:
    lines = dry_run.describe_peak(plan_of(tiny, ["sharpness", "margin"]))

    assert lines[0].startswith("peak memory on the CPU: about ")
    stages = [line.split()[0] for line in lines[1:]]
    assert stages == ["checks", "attacks", "sharpness", "other"]
    assert "weights of 3 models" in lines[1]
    assert "gradient" in lines[3] and "copies 1" in lines[3]


def test_in_bfloat16_the_probes_of_parameters_need_nothing_for_they_are_unsupported(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustness.victims.loading.refuse_missing_cpu_features", lambda: None)

    lines = dry_run.describe_peak(plan_of(tiny, ["sharpness"], dtype="bfloat16"))

    assert any("sharpness: unsupported in bfloat16" in line for line in lines)


def test_a_model_that_does_not_run_without_its_weights_has_no_known_peak(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Footprint:
        raise NotImplementedError("no such kernel")

    monkeypatch.setattr(peak, "measure_footprint", fail)

    assert dry_run.describe_peak(plan_of(tiny, [])) == ("peak memory: not known: NotImplementedError",)
