"""Every shipped method, trained on the tiny task by one call: what it may change, and that victims take it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from robustness.definitions.catalog import Entry
from robustness.definitions.pairs import read_pairs
from robustness.definitions.tasks import find_task
from robustness.sensitivity.input.jacobian import margin_gradients
from robustness.testsets.example import Example
from robustness.training.examples.loading import load_rows
from robustness.training.methods import MethodDefinition, find_method, method_names, variants
from robustness.training.protocol import TrainingSettings
from robustness.training.training import train
from robustness.victims.files.checkpoint import Checkpoint, read_checkpoint
from robustness.victims.gate import inspect_checkpoint
from robustness.victims.heads.embedded_batch import frozen, margins
from robustness.victims.loading import as_victim, load_checkpoint, place, to_victim

SST2 = find_task("sst2")
PEFT_METHODS = [name for name in method_names() if name != "full"]
NOT_MERGED = ("prefix", "prompt", "p-tuning", "mpc-n", "qlora")
RANK = 8
SETTINGS = TrainingSettings(epochs=1, batch_size=8, max_tokens=16, dev_limit=40)
Folders = dict[str, Path]


@pytest.fixture(scope="session")
def folders(tiny_base: Path, data: Path, testset: str, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The checkpoint folders of all methods, made by one call, with the larger learning rate of each."""
    out = tmp_path_factory.mktemp("methods") / "out"
    given = {"base": str(tiny_base), "methods": method_names(), "seeds": [0], "data": data, "limit": 64}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variants, "find_method", _with_one_rate)
        pairs = train(testset, out=out, settings=SETTINGS, device="cpu", **given)  # type: ignore[arg-type]
    return {pair.name.split("-", 1)[1].removesuffix("-seed0"): Path(pair.candidate) for pair in read_pairs(pairs)}


def _with_one_rate(name: str) -> Entry[MethodDefinition]:
    method = find_method(name)
    rates = {"learning_rates": method.definition.learning_rates[-1:]}
    return Entry(method.name, method.path, method.definition.model_copy(update=rates))


@pytest.fixture
def checkpoint(folders: Folders, tiny_base: Path) -> Callable[[str], Checkpoint]:
    return lambda method: read_checkpoint(method, str(folders[method]), str(tiny_base))


@pytest.fixture(scope="session")
def dev(testset: str, data: Path) -> list[Example]:
    return list(load_rows(testset, data, None, SETTINGS.dev_limit).selecting)


@pytest.fixture
def changes(checkpoint: Callable[[str], Checkpoint], tiny_base: Path) -> Callable[[str], Iterator[tuple]]:
    """Name, tensor of the base and tensor of the merged checkpoint, in float64, of all that are not the head's."""

    def compare(method: str) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
        model = to_victim(load_checkpoint(checkpoint(method), SST2), place("cpu")).model
        merged = model.state_dict()
        for name, before in load_file(tiny_base / "model.safetensors").items():
            yield name, before.double(), merged[f"bert.{name}"].double()

    return compare


def test_one_call_makes_a_pair_of_every_method(folders: Folders) -> None:
    assert sorted(folders) == PEFT_METHODS


@pytest.mark.parametrize("method", PEFT_METHODS)
def test_a_method_loads_back_as_itself_with_the_accuracy_it_was_saved_with(
    checkpoint: Callable[[str], Checkpoint], folders: Folders, dev: list[Example], method: str
) -> None:
    loaded = load_checkpoint(checkpoint(method), SST2)
    victim = to_victim(loaded, place("cpu"))
    answers = victim.scores([example.texts for example in dev]).argmax(axis=1)

    record = json.loads((folders[method] / "training.json").read_text(encoding="utf-8"))
    assert loaded.checkpoint.adaptation == method
    assert loaded.uninitialised == ()
    assert isinstance(victim.model, PeftModel) == (method in NOT_MERGED)
    assert np.mean(answers == [example.label for example in dev]) == record["selecting_score"]
    assert 0 < record["trained_share"] < 1


@pytest.mark.parametrize("method", PEFT_METHODS)
def test_the_gate_finds_nothing_wrong_with_a_method(
    checkpoint: Callable[[str], Checkpoint], dev: list[Example], method: str
) -> None:
    """Six steps need not be enough to learn the task."""
    facts = inspect_checkpoint(checkpoint(method), SST2, place("cpu"), dev)

    assert [failure for failure in facts.failures if not failure.startswith("clean-accuracy")] == []
    assert (facts.merge_difference is None) == (method in NOT_MERGED)


@pytest.mark.parametrize("method", PEFT_METHODS)
def test_gradients_of_a_method_are_those_of_its_scores(
    checkpoint: Callable[[str], Checkpoint], dev: list[Example], method: str
) -> None:
    """The derivative along the gradient, by central differences in float64."""
    victim = to_victim(load_checkpoint(checkpoint(method), SST2), place("cpu"))
    scores = victim.scores([example.texts for example in dev[:4]])
    victim.model.double()
    with frozen(victim):
        batch = victim.embed(dev[:4])
        start = batch.embeddings.double().requires_grad_()
        logits = batch.logits(start)
        margin = margins(logits, batch.labels)
        (gradient,) = torch.autograd.grad(margin.sum(), start)
        step = 1e-4 * gradient / gradient.norm()
        with torch.no_grad():
            ahead, behind = (margins(batch.logits(start + sign * step), batch.labels).sum() for sign in (1, -1))

    np.testing.assert_allclose(logits.detach().numpy(), scores, atol=1e-4)
    assert gradient.norm() > 0
    assert float((ahead - behind) / 2e-4) == pytest.approx(float(gradient.norm()), rel=1e-2)


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "bitfit"])
def test_scores_and_margin_gradients_are_those_of_the_unmerged_adapter(
    checkpoint: Callable[[str], Checkpoint], dev: list[Example], method: str
) -> None:
    loaded = load_checkpoint(checkpoint(method), SST2)
    found = []
    for form in ("unmerged", "merged"):  # merging changes the loaded modules, so it comes second
        victim = as_victim(loaded, loaded.unmerged, place("cpu")) if form == "unmerged" else None
        victim = victim or to_victim(loaded, place("cpu"))
        with frozen(victim):
            found.append(margin_gradients(victim.embed(dev[:6])))

    (unmerged, before), (merged, after) = found
    assert unmerged.abs().amax() > 1e-4
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(merged, unmerged, atol=1e-5 * float(unmerged.abs().amax()), rtol=1e-3)


@pytest.mark.parametrize(("method", "rank"), [("lora", 8), ("mpc-o", 8), ("mpc-d", 8), ("pissa", 16), ("vera", 32)])
def test_a_low_rank_update_has_its_rank_and_touches_query_and_value_alone(
    changes: Callable, method: str, rank: int
) -> None:
    for name, before, after in changes(method):
        if name.endswith(("query.weight", "value.weight")):
            assert 1 <= torch.linalg.matrix_rank(after - before, rtol=1e-4) <= rank
        else:
            torch.testing.assert_close(after, before, atol=0, rtol=0)


def test_the_ranks_of_adalora_are_cut_to_the_target_and_saved(changes: Callable, folders: Folders) -> None:
    ranks = [
        int(torch.linalg.matrix_rank(after - before, rtol=1e-4))
        for name, before, after in changes("adalora")
        if name.endswith(("query.weight", "value.weight"))
    ]

    pattern = json.loads((folders["adalora"] / "adapter_config.json").read_text(encoding="utf-8"))["rank_pattern"]
    assert [sum(kept) for kept in pattern.values()] == ranks
    assert sum(ranks) == RANK * len(ranks)
    assert {len(kept) for kept in pattern.values()} == {12}


def test_dora_is_a_low_rank_change_of_direction_times_a_magnitude(changes: Callable, folders: Folders) -> None:
    tensors = load_file(folders["dora"] / "adapter_model.safetensors")

    for name, before, after in changes("dora"):
        key = f"base_model.model.bert.{name.removesuffix('.weight')}"
        if f"{key}.lora_A.weight" in tensors:
            a, b = (tensors[f"{key}.lora_{part}.weight"].double() for part in "AB")
            direction = torch.nn.functional.normalize(before + 2 * b @ a, dim=1)
            magnitude = tensors[f"{key}.lora_magnitude_vector"].double()
            torch.testing.assert_close(after, magnitude[:, None] * direction, atol=1e-5, rtol=0)


def test_ia3_scales_outputs_of_keys_and_values_and_inputs_of_the_feed_forward(changes: Callable) -> None:
    for name, before, after in changes("ia3"):
        if name.endswith(("key.weight", "value.weight")):
            _assert_scaled(before, after, rows=True, columns=False)
        elif name.endswith("output.dense.weight"):
            _assert_scaled(before, after, rows=False, columns=True)
        elif not name.endswith(("key.bias", "value.bias")):
            torch.testing.assert_close(after, before, atol=0, rtol=0)


@pytest.mark.parametrize(("method", "both"), [("ssl", False), ("ssb", True)])
def test_ssl_scales_columns_and_ssb_rows_too(changes: Callable, method: str, both: bool) -> None:
    for name, before, after in changes(method):
        if "encoder" in name and name.endswith("weight") and "LayerNorm" not in name:
            _assert_scaled(before, after, rows=both, columns=True)
        else:
            torch.testing.assert_close(after, before, atol=0, rtol=0)


def _assert_scaled(before: torch.Tensor, after: torch.Tensor, *, rows: bool, columns: bool) -> None:
    """Entry by entry the quotient is r_i c_j, and not all ones."""
    quotient = after / before
    row = quotient[:, :1] / quotient[:1, :1]
    expected = row * quotient[:1] if rows else quotient[:1].expand_as(quotient)
    big = before.abs() > 1e-3
    torch.testing.assert_close(quotient[big], expected[big], atol=1e-3, rtol=0)
    spread = (float((quotient[:, 0] - quotient[0, 0]).abs().max()), float((quotient[0] - quotient[0, 0]).abs().max()))
    assert (spread[0] > 2e-3) == rows
    assert (spread[1] > 2e-3) == columns


@pytest.mark.parametrize("method", ["sam-parser", "svdiff"])
def test_singular_values_alone_are_changed(changes: Callable, method: str) -> None:
    for name, before, after in changes(method):
        if "encoder" in name and name.endswith("weight") and "LayerNorm" not in name:
            left, values, right = torch.linalg.svd(before, full_matrices=False)
            core = left.T @ after @ right.T
            off = core - torch.diag(core.diagonal())
            assert off.abs().max() < 1e-5 < (core.diagonal() - values).abs().max()
            assert torch.linalg.matrix_norm(left @ core @ right - after) < 1e-5
            assert method == "sam-parser" or core.diagonal().min() > -1e-6
        else:
            torch.testing.assert_close(after, before, atol=0, rtol=0)


def test_bitfit_changes_every_bias_and_nothing_else(changes: Callable) -> None:
    for name, before, after in changes("bitfit"):
        # The keys' bias drops out of the softmax: its gradient is zero, and rounding alone moves it.
        assert torch.equal(before, after) != name.endswith(".bias") or name.endswith("key.bias"), name


def test_oft_keeps_every_singular_value(changes: Callable) -> None:
    for name, before, after in changes("oft"):
        if name.endswith(("query.weight", "value.weight")):
            assert (after - before).abs().max() > 1e-4
            torch.testing.assert_close(torch.linalg.svdvals(after), torch.linalg.svdvals(before), atol=1e-5, rtol=0)


def test_vera_scales_frozen_random_matrices(changes: Callable, folders: Folders) -> None:
    tensors = load_file(folders["vera"] / "adapter_model.safetensors")
    shared_a, shared_b = (tensors[f"base_model.vera_{part}"].double() for part in "AB")

    for name, before, after in changes("vera"):
        key = f"base_model.model.bert.{name.removesuffix('.weight')}"
        if f"{key}.vera_lambda_b" in tensors:
            outer, inner = (tensors[f"{key}.vera_lambda_{part}"].double() for part in "bd")
            expected = (outer[:, None] * shared_b) @ (inner[:, None] * shared_a)
            torch.testing.assert_close(after - before, expected, atol=1e-5, rtol=0)


def test_randlora_goes_beyond_low_rank(changes: Callable) -> None:
    ranks = [
        int(torch.linalg.matrix_rank(after - before, rtol=1e-4))
        for name, before, after in changes("randlora")
        if name.endswith(("query.weight", "value.weight"))
    ]

    assert min(ranks) > RANK


def test_the_update_of_mpc_n_is_not_linear(checkpoint: Callable[[str], Checkpoint]) -> None:
    model = load_checkpoint(checkpoint("mpc-n"), SST2).unmerged
    layer = model.base_model.model.bert.encoder.layer[0].attention.self.query
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))

    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    update = layer(x) - layer.base_layer(x)
    torch.testing.assert_close(update, 2 * torch.relu(x @ a.T) @ b.T, atol=1e-6, rtol=1e-4)
    assert (update + layer(-x) - layer.base_layer(-x)).abs().max() > 1e-6
