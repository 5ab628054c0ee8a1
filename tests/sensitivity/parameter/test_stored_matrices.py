"""Numbers of models that keep matrices otherwise than linear layers do, by closed forms on the dense matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from robustness.sensitivity.parameter.reachability import Reachability, find_tangents, reached_share
from robustness.sensitivity.parameter.rounding import WeightRounding
from robustness.sensitivity.parameter.transplant import find_modules
from robustness.sensitivity.parameter.weights import block_parameters
from robustness.sensitivity.probe import Reading
from robustness.sensitivity.structure.anatomy import UpdateStructure
from robustness.sensitivity.structure.gain import UpdateGain
from robustness.sensitivity.structure.paths import UpdatePath, cut_rank
from robustness.sensitivity.structure.randomised import Directions
from robustness.sensitivity.structure.updates import Updates

SQUARE, WIDE = "h.1.attn.c_proj", "h.0.mlp.c_fc"
"""Of GPT-2, which keeps W with y = x W: 16 x 16 and 16 x 24."""
Values = dict[tuple[str, str | None], float]


def values(readings: list[Reading]) -> Values:
    """By quantity and module."""
    return {(r.measurement.quantity.name, r.module): r.measurement.value or 0.0 for r in readings if not r.example}


def inputs_of(model: Any, path: str, subject: Any, victim: Any) -> np.ndarray:
    """What a module is given for the subject's texts, each run alone by plain transformers, (tokens, dim)."""
    seen: list[torch.Tensor] = []
    hook = model.get_submodule(path).register_forward_pre_hook(lambda _m, given: seen.append(given[0].detach()))
    with torch.no_grad():
        for example in subject.examples:
            model(**victim.tokenizer(example.texts[0], return_tensors="pt"))
    hook.remove()
    return torch.cat([each.flatten(0, -2) for each in seen]).double().numpy()


@pytest.fixture(scope="module")
def gpt2(architecture: Callable[[str], Any]) -> Any:
    return architecture("gpt2")


@pytest.mark.parametrize("path", [SQUARE, WIDE])
def test_the_gain_of_a_transposed_layer_is_that_of_its_inputs(gpt2: Any, path: str) -> None:
    subject = gpt2.subject(gpt2.full)
    model = subject.victim.model

    found = values(list(UpdateGain().measure(subject)))

    texts = [inputs_of(model, f"transformer.{path}", subject, subject.victim)]
    h = np.concatenate(texts)
    before = load_file(gpt2.base / "model.safetensors")[f"{path}.weight"].double().numpy()
    change = model.transformer.get_submodule(path).weight.detach().double().numpy() - before
    moved = np.sum((h @ change) ** 2)
    assert found["update-gain", path] == pytest.approx(np.sqrt(moved / np.sum((h @ before) ** 2)), rel=1e-4)
    chance = np.sum(change**2) * np.sum(h**2) / h.shape[1]
    assert found["update-gain-over-chance", path] == pytest.approx(np.sqrt(moved / chance), rel=1e-4)


def test_what_a_transposed_layer_can_reach_is_spanned_by_its_two_factors(gpt2: Any) -> None:
    """dW = s At Bt as it is stored: G - (I - P_A) G (I - P_B), with plain peft's factors and plain autograd's G."""
    config = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["c_attn", "attn.c_proj", "c_fc"])
    folder = gpt2.adapter(config, "lora")
    subject = gpt2.subject(folder)
    base = AutoModelForSequenceClassification.from_pretrained(gpt2.base, num_labels=2)
    adapter = PeftModel.from_pretrained(base, folder)
    sides = {
        name.split("model.model.")[-1].removesuffix(".lora_A.default.weight"): a.detach().double().numpy()
        for name, a in adapter.named_parameters()
        if ".lora_A." in name
    }
    others = {path: adapter.get_parameter(f"base_model.model.{path}.lora_B.default.weight") for path in sides}
    others = {path: value.detach().double().numpy() for path, value in others.items()}
    merged = adapter.merge_and_unload().eval().requires_grad_()
    merged.config.pad_token_id = 0

    readings = list(Reachability(attack_steps=2).measure(subject))

    shares = {
        r.example.id: r.measurement.value
        for r in readings
        if r.example and r.measurement.quantity.name == "reach-clean"
    }
    for example in subject.examples:
        merged.zero_grad()
        logits = merged(**subject.victim.tokenizer(example.texts[0], return_tensors="pt")).logits[0]
        (logits[example.label] - logits[1 - example.label]).backward()
        reached = whole = 0.0
        for name, parameter in merged.named_parameters():
            if ".h." not in name or parameter.grad is None:
                continue
            gradient, path = parameter.grad.double().numpy(), name.removesuffix(".weight")
            whole += np.sum(gradient**2)
            if path in sides:
                left, right = np.linalg.pinv(sides[path]) @ sides[path], others[path] @ np.linalg.pinv(others[path])
                rest = (np.eye(len(left)) - left) @ gradient @ (np.eye(len(right)) - right)
                reached += np.sum((gradient - rest) ** 2)
        assert shares[example.id] == pytest.approx(reached / whole, rel=1e-4)


def test_an_adapters_own_update_is_within_reach_in_a_whole_model(gpt2: Any) -> None:
    config = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["c_attn", "attn.c_proj", "c_fc"])
    subject = gpt2.subject(gpt2.adapter(config, "lora"))
    parameters = block_parameters(subject.victim.model)
    base = load_file(gpt2.base / "model.safetensors")
    update = {name: value.detach() - base[name.removeprefix("transformer.")] for name, value in parameters.items()}

    ((_, tangent),) = find_tangents(subject, parameters)

    assert any(value.any() for value in update.values())
    assert reached_share(update, tangent) == pytest.approx(1, abs=1e-5)


def test_a_transposed_layer_is_rounded_with_one_scale_an_output(gpt2: Any) -> None:
    subject = gpt2.subject(gpt2.full)

    readings = list(WeightRounding(bits=(4,)).measure(subject))

    moved = whole = 0.0
    victim = gpt2.victim(gpt2.full)
    for name, parameter in victim.model.named_parameters():
        if ".h." in name and parameter.ndim == 2:
            exact = parameter.detach().double().numpy()
            scale = np.abs(exact).max(axis=0) / 7  # an output is a column
            rounded = np.round(exact / scale) * scale
            moved, whole = moved + np.sum((rounded - exact) ** 2), whole + np.sum(exact**2)
            parameter.data = torch.from_numpy(rounded).float()
    answers = victim.scores([example.texts for example in subject.examples]).argmax(axis=1)
    assert values(readings)["relative-change-of-weights", None] == pytest.approx(np.sqrt(moved / whole), rel=1e-5)
    flipped = [r.measurement.value for r in readings if r.example]
    assert flipped == [
        float(answer != example.label) for answer, example in zip(answers, subject.examples, strict=True)
    ]


@pytest.mark.parametrize("path", [SQUARE, WIDE])
def test_outputs_are_outputs_in_the_anatomy_of_a_transposed_layer(gpt2: Any, path: str, tmp_path: Any) -> None:
    """A scaling of outputs is (IA)3's form, whichever way the weight is stored; left directions are outputs."""
    model = AutoModelForSequenceClassification.from_pretrained(gpt2.base, num_labels=2)
    layer = model.transformer.get_submodule(path)
    before = layer.weight.detach().double().numpy().copy()
    with torch.no_grad():
        layer.weight.mul_(torch.linspace(0.5, 2, layer.weight.shape[1]))
    model.save_pretrained(tmp_path / "scaled")
    (tmp_path / "scaled" / "config.json").write_text((gpt2.full / "config.json").read_text())

    found = values(
        list(UpdateStructure(draws=1).measure(gpt2.subject(tmp_path / "scaled", victim=gpt2.victim(gpt2.full))))
    )

    change = (layer.weight.detach().double().numpy() - before).T  # (out, in)
    left, own = np.linalg.svd(before.T)[0][:, :10], np.linalg.svd(change)[0][:, :10]
    assert found["fit-outputs", path] == pytest.approx(1, abs=1e-5)
    assert found["fit-inputs", path] < 0.9
    assert found["overlap-left", path] == pytest.approx(np.sum((own.T @ left) ** 2) / 10, rel=1e-3)


def test_a_changed_update_is_put_back_as_the_layer_stores_it(gpt2: Any) -> None:
    stored = load_file(gpt2.full / "model.safetensors")
    with Updates(gpt2.subject(gpt2.full).checkpoint, gpt2.subject(gpt2.full)) as updates:
        matrices = {update.name: update for update in updates.matrices()}

    assert set(matrices) == {
        f"h.{layer}.{leaf}" for layer in (0, 1) for leaf in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    }
    for name in (SQUARE, WIDE):
        update = matrices[name]
        assert torch.equal(update.after, stored[f"transformer.{name}.weight"].T)
        whole = update.stored(cut_rank(update, 16, Directions(torch.Generator().manual_seed(0))))
        assert torch.allclose(whole, stored[f"transformer.{name}.weight"], atol=1e-5)


def test_all_of_an_update_answers_alike_however_it_is_cut(gpt2: Any) -> None:
    """A transposed square matrix would answer otherwise."""
    subject = gpt2.subject(gpt2.full)

    readings = list(UpdatePath(steps=(1.0,), ranks=(16,), tops=(16,), scales=(1.0,)).measure(subject))

    accuracy = {
        (r.measurement.quantity.name, r.example.id): r.measurement.value for r in readings if r.example is not None
    }
    kinds = ("t-1", "rank-16", "intruders-1")
    for what in ("accuracy", "step-accuracy"):
        answers = [[accuracy[f"{what}-at-{kind}", e.id] for e in subject.examples] for kind in kinds]
        assert answers[0] == answers[1] == answers[2]
    assert all(accuracy[f"accuracy-at-{kind}", e.id] == 1 for kind in kinds for e in subject.examples)


def test_what_is_looked_up_is_no_matrix_and_stands_with_the_embeddings(architecture: Callable[[str], Any]) -> None:
    """By type, for names say little: GPT-2's are wte and wpe, MPNet's distances a relative_attention_bias."""
    for kind, lookups in {
        "gpt2": {"wte", "wpe"},
        "mpnet": {"encoder.relative_attention_bias", "embeddings.word_embeddings", "embeddings.position_embeddings"},
    }.items():
        world = architecture(kind)
        subject = world.subject(world.full)
        with Updates(subject.checkpoint, subject) as updates:
            assert {update.name for update in updates.embeddings()} == lookups
            assert not lookups & {update.name for update in updates.matrices()}
        model = subject.victim.model
        first = find_modules(model)[0]
        assert first.name == "embeddings"
        prefix = model.base_model_prefix
        assert {f"{prefix}.{name}.weight" for name in lookups} <= set(first.parameters)


def test_a_map_between_widths_of_embeddings_is_a_matrix(architecture: Callable[[str], Any]) -> None:
    world = architecture("albert")
    subject = world.subject(world.full)

    with Updates(subject.checkpoint, subject) as updates:
        names = {update.name for update in updates.matrices()}

    assert "encoder.embedding_hidden_mapping_in" in names


def test_a_matrix_of_many_layers_counts_all_that_they_give_it(architecture: Callable[[str], Any]) -> None:
    """ALBERT's one block, three times a text."""
    world = architecture("albert")
    subject = world.subject(world.full)
    path = "encoder.albert_layer_groups.0.albert_layers.0.ffn"

    found = values(list(UpdateGain().measure(subject)))

    model = subject.victim.model
    h = inputs_of(model, f"albert.{path}", subject, subject.victim)
    before = load_file(world.base / "model.safetensors")[f"{path}.weight"].double().numpy()
    change = model.albert.get_submodule(path).weight.detach().double().numpy() - before
    expected = np.sqrt(np.sum((h @ change.T) ** 2) / np.sum((h @ before.T) ** 2))
    assert found["update-gain", path] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("path", ["encoder.layers.0.attention.query", "encoder.layers.1.post_attention.conv1d"])
def test_a_convolutions_gain_is_that_of_its_dense_matrix(architecture: Callable[[str], Any], path: str) -> None:
    """Of window 1: each token by itself; in two groups a matrix of two blocks, or in one."""
    world = architecture("squeezebert")
    subject = world.subject(world.full)
    model = subject.victim.model
    seen: list[torch.Tensor] = []
    layer = model.transformer.get_submodule(path)
    hook = layer.register_forward_pre_hook(lambda _m, given: seen.append(given[0].detach()[0].T))
    with torch.no_grad():
        for example in subject.examples:
            model(**subject.victim.tokenizer(example.texts[0], return_tensors="pt"))
    hook.remove()
    h = torch.cat(seen).double()

    found = values(list(UpdateGain().measure(subject)))

    def dense(kernel: torch.Tensor) -> torch.Tensor:
        return torch.block_diag(*kernel[:, :, 0].double().chunk(layer.groups))

    before = dense(load_file(world.base / "model.safetensors")[f"{path}.weight"])
    change = dense(layer.weight.detach()) - before
    moved = float((h @ change.T).square().sum())
    entries = layer.weight.numel()
    reads = float((h.square() @ (dense(torch.ones_like(layer.weight))).T).sum())
    chance = float(change.square().sum()) * reads / entries
    assert found["update-gain", path] == pytest.approx(
        (moved / float((h @ before.T).square().sum())) ** 0.5, rel=1e-4
    )
    assert found["update-gain-over-chance", path] == pytest.approx((moved / chance) ** 0.5, rel=1e-4)


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("bart", "decoder.layers.1.fc1"),
        ("bart", "encoder.layers.0.fc2"),
        ("t5", "decoder.block.1.layer.2.DenseReluDense.wo"),
        ("t5", "encoder.block.0.layer.0.SelfAttention.q"),
        ("xlnet", "layer.1.ff.layer_1"),
    ],
)
def test_a_gain_is_that_of_unpadded_texts_in_either_stack_and_with_tokens_first(
    kind: str, path: str, architecture: Callable[[str], Any]
) -> None:
    """Texts of unequal length, by plain transformers one at a time; XLNet is given tokens before texts."""
    world = architecture(kind)
    subject = world.subject(world.full)
    model = subject.victim.model
    prefix = model.base_model_prefix

    found = values(list(UpdateGain().measure(subject)))

    h = inputs_of(model, f"{prefix}.{path}", subject, subject.victim)
    before = load_file(world.base / "model.safetensors")[f"{path}.weight"].double().numpy()
    change = model.get_submodule(f"{prefix}.{path}").weight.detach().double().numpy() - before
    expected = np.sqrt(np.sum((h @ change.T) ** 2) / np.sum((h @ before.T) ** 2))
    assert found["update-gain", path] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("kind", "targets"), [("bart", ["q_proj", "fc1"]), ("t5", ["q", "wo"])])
def test_what_an_adapter_moves_in_either_stack_is_within_its_reach(
    kind: str, targets: list[str], architecture: Callable[[str], Any]
) -> None:
    world = architecture(kind)
    folder = world.adapter(LoraConfig(task_type="SEQ_CLS", r=2, target_modules=targets), "both-stacks")
    subject = world.subject(folder)
    parameters = block_parameters(subject.victim.model)
    base = AutoModelForSequenceClassification.from_pretrained(world.base, num_labels=2).state_dict()
    update = {name: value.detach() - base[name] for name, value in parameters.items()}

    ((_, tangent),) = find_tangents(subject, parameters)

    assert {name.split(".")[1] for name, value in update.items() if value.any()} == {"encoder", "decoder"}
    assert reached_share(update, tangent) == pytest.approx(1, abs=1e-5)
