from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import BertForSequenceClassification, BertModel, BertTokenizerFast

from robustness import RunSettings, api
from robustness.definitions.tasks import find_task
from robustness.reports.tables.columns import Table
from robustness.sensitivity.building import find_probe
from robustness.sensitivity.measurement import Kind
from robustness.sensitivity.probe import Reading, Subject
from robustness.sensitivity.structure import randomised
from robustness.sensitivity.structure.paths import UpdatePath, answers, cut_rank, into_top, scale_intruders
from robustness.sensitivity.structure.randomised import Directions
from robustness.sensitivity.structure.updates import WeightUpdate
from robustness.testsets.example import Example
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.heads.embedded_batch import frozen
from robustness.victims.heads.labels import Victim
from robustness.victims.loading import load_checkpoint, place, to_victim

DIRECTIONS = Directions(torch.Generator())


def gaussian(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def update() -> WeightUpdate:
    before = gaussian(12, 9, seed=1)
    return WeightUpdate("layer.weight", None, before, before + 0.3 * gaussian(12, 9, seed=2))


def test_a_cut_update_is_the_truncated_decomposition_and_whole_at_full_rank(update: WeightUpdate) -> None:
    u, s, vt = np.linalg.svd(update.change.numpy(), full_matrices=False)

    cut = cut_rank(update, 2, DIRECTIONS) - update.before

    np.testing.assert_allclose(cut, u[:, :2] @ np.diag(s[:2]) @ vt[:2], atol=1e-5)
    torch.testing.assert_close(cut_rank(update, 50, DIRECTIONS), update.after, atol=1e-5, rtol=0)


def test_what_is_projected_into_the_leading_directions_and_out_of_them_adds_up(update: WeightUpdate) -> None:
    u, _, vt = np.linalg.svd(update.before.numpy(), full_matrices=False)
    left, right = u[:, :3] @ u[:, :3].T, vt[:3].T @ vt[:3]

    inside = into_top(update, 3, DIRECTIONS)

    np.testing.assert_allclose(inside, left @ update.change.numpy() @ right, atol=1e-5)
    again = WeightUpdate("x", None, update.before, update.before + inside)
    torch.testing.assert_close(into_top(again, 3, DIRECTIONS), inside, atol=1e-5, rtol=0)


def test_intruders_are_scaled_as_the_peft_library_scales_them() -> None:
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora.intruders import reduce_intruder_dimension

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(24, 24, bias=False))
        before = net[0].weight.detach().clone()
        # Its result is cut to the adapter's rank: at full rank nothing is cut.
        model = get_peft_model(net, LoraConfig(r=24, lora_alpha=24, target_modules=["0"]))
        layer = model.base_model.model[0]
        layer.lora_B["default"].weight.data = torch.zeros(24, 24)
        layer.lora_B["default"].weight.data[:, :2] = torch.randn(24, 2)
    change = layer.get_delta_weight("default").detach()
    reduce_intruder_dimension(model, mitigation_lambda=0.75, logging_sink=None)

    scaled = scale_intruders(WeightUpdate("0.weight", None, before, before + change), 0.75, DIRECTIONS)

    assert (scaled - before - change).abs().max() > 1e-3
    torch.testing.assert_close(
        scaled - before, layer.get_delta_weight("intruder_reduced").detach(), atol=1e-4, rtol=0
    )


def test_intruders_left_at_their_size_change_nothing(update: WeightUpdate) -> None:
    torch.testing.assert_close(scale_intruders(update, 1.0, DIRECTIONS), update.after, atol=0, rtol=0)


def test_the_parts_of_a_large_matrix_are_within_the_measured_error_of_the_full_decompositions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Matrices with a falling spectrum, of which half the directions are kept; the reference is LAPACK's."""
    monkeypatch.setattr(randomised, "LARGE", 64)
    monkeypatch.setattr(randomised, "KEPT", 32)
    falling = torch.diag(1 / torch.arange(1, 65.0))
    turned = [torch.linalg.qr(gaussian(64, 64, seed=seed))[0] for seed in range(4)]
    before, change = 10 * turned[0] @ falling @ turned[1], turned[2] @ falling @ turned[3]
    update = WeightUpdate("layer.weight", None, before, before + change)
    u, s, vt = np.linalg.svd(update.change.double().numpy())
    left, _, right = np.linalg.svd(before.double().numpy())

    found = Directions(torch.Generator().manual_seed(0))
    cut, top = (part(update, 4, found).numpy() for part in (cut_rank, into_top))

    assert len(found.errors) == 2 and 0 < max(found.errors) < 0.01
    assert np.abs(cut - before.numpy() - (u[:, :4] * s[:4]) @ vt[:4]).max() < 2 * found.errors[0] * s[0]
    projected = left[:, :4] @ left[:, :4].T @ update.change.double().numpy() @ right[:4].T @ right[:4]
    assert np.abs(top - projected).max() < 0.02 * s[0]
    torch.testing.assert_close(scale_intruders(update, 1.0, found), update.after, atol=0, rtol=0)
    assert len(found.errors) == 4


def test_accuracies_with_parts_of_large_matrices_are_estimates_beside_the_measured_error(
    subject: Callable[[str], Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    probe, one = UpdatePath(steps=(1.0,), ranks=(4,), tops=(), scales=()), subject("full")
    exact = [each.measurement for each in probe.measure(one)]
    monkeypatch.setattr(randomised, "LARGE", 32)

    rows = [each.measurement for each in probe.measure(one)]

    errors = {row.scope: row for row in rows if row.quantity.name == "randomised-svd-error"}
    assert {row.kind for row in exact} == {Kind.EXACT, Kind.UPPER}
    assert set(errors) == {"rank 4"}  # the whole update needs no decomposition
    assert errors["rank 4"].kind is Kind.EXACT and 0 <= (errors["rank 4"].value or 0) < 1e-3  # all directions kept
    kinds = {row.quantity.name: row.kind for row in rows}
    assert kinds["accuracy-at-rank-4"] is kinds["step-accuracy-at-rank-4"] is Kind.ESTIMATE
    assert (kinds["accuracy-at-t-1"], kinds["step-accuracy-at-t-1"]) == (Kind.EXACT, Kind.UPPER)
    values = [[row.value for row in each if "accuracy" in row.quantity.name] for each in (exact, rows)]
    assert values[0] == values[1]


@pytest.fixture
def victims(tiny: Any) -> dict[str, Victim]:
    checkpoints = {name: read_checkpoint(name, str(tiny.folder / name), str(tiny.base)) for name in ("full", "lora")}
    return {
        name: to_victim(load_checkpoint(checkpoint, find_task("sst2")), place("cpu"))
        for name, checkpoint in checkpoints.items()
    }


@pytest.fixture
def subject(tiny: Any, victims: dict[str, Victim]) -> Callable[[str], Subject]:
    examples = [Example(str(number), (text,), label) for number, (text, label) in enumerate(tiny.dev)]

    def make(name: str) -> Subject:
        checkpoint = read_checkpoint(name, str(tiny.folder / name), str(tiny.base))
        return Subject(checkpoint, examples, 0, "d", lambda: victims[name])

    return make


def accuracies(readings: list[Reading]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for reading in readings:
        found.setdefault(reading.measurement.quantity.name, []).append(reading.measurement.value or 0.0)
    return {name: float(np.mean(values)) for name, values in found.items()}


@pytest.mark.parametrize("name", ["full", "lora"])
def test_the_path_ends_at_the_checkpoint_and_begins_at_the_base(
    tiny: Any, subject: Callable[[str], Subject], victims: dict[str, Victim], name: str
) -> None:
    one = subject(name)
    texts = [example.texts for example in one.examples]
    labels = np.array([example.label for example in one.examples])
    trained = victims[name].scores(texts)
    weights = {key: value.clone() for key, value in victims[name].model.state_dict().items()}

    found = accuracies(list(UpdatePath(steps=(0.0, 1.0), ranks=(64,), tops=(64,), scales=(1.0,)).measure(one)))

    assert found["accuracy-at-t-1"] == np.mean(trained.argmax(axis=1) == labels)
    for whole in ("rank-64", "top-64", "intruders-1"):
        assert found[f"accuracy-at-{whole}"] == found["accuracy-at-t-1"]
    assert all(found[f"step-{key}"] <= value for key, value in found.items() if key.startswith("accuracy"))
    assert all(torch.equal(weights[key], value) for key, value in victims[name].model.state_dict().items())
    for key, value in load_file(tiny.base / "model.safetensors").items():
        victims[name].model.state_dict()[f"bert.{key}"].copy_(value)
    base = victims[name].scores(texts)
    assert found["accuracy-at-t-0"] == np.mean(base.argmax(axis=1) == labels)


def test_a_hand_made_update_turns_answers_where_the_closed_form_says(tiny: Any, tmp_path: Path) -> None:
    """The pooler alone changes: W_0 = -a u' + 10 c w', dW = 3 a u' + 5 b v', and the answer is the sign of a'W h.

    a'(W_0 + t dW) h = (3 t - 1) u'h, wrong below t = 1/3. The leading direction of dW is 5 b v', which says nothing;
    the second makes the answer. The leading direction of W_0 is 10 c w'; the second holds all of dW that counts.
    """
    model = BertModel.from_pretrained(tiny.base).eval()
    tokenizer = BertTokenizerFast.from_pretrained(tiny.base)
    with torch.no_grad():
        first = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 0] for text, _ in tiny.dev]
        hidden = torch.stack(first)
        axes = torch.linalg.qr(torch.cat([(hidden[0] - hidden[1])[:, None], gaussian(32, 2, seed=3)], dim=1))[0]
        u, v, w = axes.T
        identity = torch.eye(32)
        before = -torch.outer(identity[0], u) + 10 * torch.outer(identity[2], w)
        change = 3 * torch.outer(identity[0], u) + 5 * torch.outer(identity[1], v)
        model.pooler.dense.weight.copy_(before)
        model.pooler.dense.bias.zero_()
        model.save_pretrained(tmp_path / "base")
        tuned = BertForSequenceClassification.from_pretrained(tiny.full)
        tuned.bert.load_state_dict(model.state_dict())
        tuned.bert.pooler.dense.weight.copy_(before + change)
        tuned.classifier.weight.copy_(torch.stack([-identity[0], identity[0]]))
        tuned.classifier.bias.zero_()
        tuned.save_pretrained(tmp_path / "full")
    for folder in ("base", "full"):
        tokenizer.save_pretrained(tmp_path / folder)
    checkpoint = read_checkpoint("full", str(tmp_path / "full"), str(tmp_path / "base"))
    victim = to_victim(load_checkpoint(checkpoint, find_task("sst2")), place("cpu"))
    answers_ = [int(value > 0) for value in (hidden @ u).tolist()]
    examples = [Example(str(n), (text,), answers_[n]) for n, (text, _) in enumerate(tiny.dev)]
    path = UpdatePath(steps=(0.0, 0.3, 0.4, 1.0), ranks=(1, 2), tops=(1, 2), scales=(), radius=1e-6)

    found = accuracies(list(path.measure(Subject(checkpoint, examples, 0, "d", lambda: victim))))

    expected = {"t-0": 0, "t-0.3": 0, "t-0.4": 1, "t-1": 1, "rank-1": 0, "rank-2": 1}
    expected |= {"top-1": 0, "rest-1": 1, "top-2": 1, "rest-2": 0}
    assert {0, 1} == set(answers_)
    assert found == {
        f"{name}-at-{place_}": value for place_, value in expected.items() for name in ("accuracy", "step-accuracy")
    }


def test_a_gradient_step_has_the_promised_length_and_lowers_the_margin(
    subject: Callable[[str], Subject], victims: dict[str, Victim]
) -> None:
    one = subject("full")
    with frozen(victims["full"]):
        batch = victims["full"].embed(one.examples)
        small, large = (answers(batch, radius) for radius in (1e-6, 1e3))

    assert torch.equal(small[0], small[1])
    assert large[0].sum() > large[1].sum()


def test_a_run_writes_the_path_into_the_curves(tiny: Any, tmp_path: Path) -> None:
    assert find_probe("update-path").probe == UpdatePath()

    report = api.run(
        "smoke",
        tiny.pairs,
        tmp_path / "run",
        RunSettings(
            data=tiny.data, testsets=[str(tiny.testset)], attacks=["identity"], probes=["update-path"], limit=6
        ),
    )

    curves = report.tables[Table.CURVES]
    curves = curves[curves["attack"] != "identity"]
    assert set(curves["budget_kind"]) == {"t", "rank", "top", "rest", "intruders"}
    assert set(curves["attack"]) == {"none", "gradient-step"}
    clean = curves[(curves["budget_kind"] == "t") & (curves["attack"] == "none")]
    assert clean[clean["checkpoint"] == "full"]["budget"].tolist() == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5]
    assert ((curves["low"] <= curves["robust_accuracy"]) & (curves["robust_accuracy"] <= curves["high"])).all()
