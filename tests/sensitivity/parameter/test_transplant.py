from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from robustness import RunSettings, api
from robustness.reports.tables.columns import Table
from robustness.sensitivity.measurement import MeasurementStatus
from robustness.sensitivity.parameter import transplant
from robustness.sensitivity.parameter.transplant import ModuleTransplant, find_modules, transplanted
from robustness.sensitivity.probe import Reading, Subject, Unsupported
from robustness.testsets.example import Example
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.heads.labels import Victim

PROBE = ModuleTransplant(steps=8, distance_examples=4, max_accuracy_loss=1.0)


@pytest.fixture
def pair_of(
    tiny: Any, subject_of: Callable[..., Subject], victims: Callable[[Path], Victim]
) -> Callable[..., Subject]:
    """The LoRA arm as a subject whose full partner is a given victim."""

    def make(full: Victim, **options: Any) -> Subject:
        partner = read_checkpoint("full", str(tiny.full), str(tiny.base))
        return replace(subject_of(tiny.peft, **options), partners=[partner], load_partner=lambda _: full)

    return make


def effects(readings: list[Reading], scope: str) -> dict[str | None, float]:
    """The median effect by module."""
    found: dict[str | None, list[float]] = {}
    for reading in readings:
        measured = reading.measurement
        if measured.quantity.name == "transplant-effect" and measured.scope == scope and measured.value is not None:
            found.setdefault(reading.module, []).append(measured.value)
    return {name: float(np.median(values)) for name, values in found.items()}


def test_all_modules_together_make_the_recipient_the_donor_and_leave_it_as_it_was(
    tiny: Any, victims: Callable[[Path], Victim]
) -> None:
    full, peft = victims(tiny.full), victims(tiny.peft)
    texts = [(text,) for text, _ in tiny.dev]
    before = full.scores(texts)
    modules = find_modules(full.model)

    with transplanted(full, peft, modules) as hybrid:
        found = hybrid.scores(texts)

    assert [(module.name, module.layer) for module in modules] == [
        ("embeddings", None),
        ("bert.encoder.layer.0", 0),
        ("bert.encoder.layer.1", 1),
        ("head", None),
    ]
    named = [name for module in modules for name in module.parameters]
    assert sorted(named) == sorted(name for name, _ in full.model.named_parameters())
    np.testing.assert_array_equal(found, peft.scores(texts))
    np.testing.assert_array_equal(full.scores(texts), before)
    assert not np.array_equal(before, found)


def test_the_one_block_in_which_two_arms_differ_carries_the_whole_gap(
    tiny: Any, victims: Callable[[Path], Victim], pair_of: Callable[..., Subject]
) -> None:
    peft = victims(tiny.peft)
    model = deepcopy(peft.model)
    with torch.no_grad():
        model.bert.encoder.layer[1].output.LayerNorm.weight.mul_(0.5)
    full = Victim(model, peft.tokenizer, peft.label_columns)

    readings = list(PROBE.measure(pair_of(full)))

    gap = np.median([r.measurement.value for r in readings if r.measurement.quantity.name == "transplant-gap"])
    assert abs(gap) > 1e-3
    into_full, into_peft = effects(readings, "peft-in-full"), effects(readings, "full-in-peft")
    assert into_full.pop("bert.encoder.layer.1") == pytest.approx(gap, rel=1e-5)
    assert into_peft.pop("bert.encoder.layer.1") == pytest.approx(-gap, rel=1e-5)
    for rest in (into_full, into_peft):
        assert list(rest.values()) == pytest.approx([0, 0, 0], abs=1e-6)


def test_the_effect_is_the_log_of_the_hybrids_distance_over_the_recipients(
    tiny: Any, victims: Callable[[Path], Victim], pair_of: Callable[..., Subject]
) -> None:
    readings = list(PROBE.measure(pair_of(victims(tiny.full))))

    def values(name: str, scope: str, module: str | None) -> dict[str, float]:
        return {
            r.example.id: r.measurement.value or 0.0
            for r in readings
            if r.example and (r.measurement.quantity.name, r.measurement.scope, r.module) == (name, scope, module)
        }

    for recipient, scope in (("full", "peft-in-full"), ("peft", "full-in-peft")):
        for module in ("embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1", "head"):
            hybrid = values("transplant-distance", scope, module)
            own = values("transplant-distance", recipient, None)
            expected = {key: math.log(hybrid[key] / own[key]) for key in own if hybrid[key] and own[key]}
            assert len(own) == 4 and values("transplant-effect", scope, module) == pytest.approx(expected)


class Linear(torch.nn.Module):
    """Logits that are affine in the embeddings: two matrices on each token, the mean over tokens, a readout."""

    def __init__(self, config: Any, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)

        def matrix(*shape: int) -> torch.Tensor:
            return torch.from_numpy(rng.normal(size=shape)).float()

        self.config = config
        self.embed = torch.nn.Embedding.from_pretrained(matrix(config.vocab_size, 6))
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(6, 6, bias=False) for _ in range(2)])
        self.head = torch.nn.Linear(6, 2, bias=False)
        for layer in (*self.blocks, self.head):
            layer.weight.data = matrix(*layer.weight.shape)

    def get_input_embeddings(self) -> Any:
        return self.embed

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, attention_mask: Any = None, **_: Any) -> Any:
        hidden = self.embed(input_ids) if inputs_embeds is None else inputs_embeds
        for block in self.blocks:
            hidden = block(hidden)
        mask = attention_mask[:, :, None].to(hidden)
        return SimpleNamespace(logits=self.head((hidden * mask).sum(1) / mask.sum(1)))


def closed_form(modules: dict[str, Linear], ids: list[int], content: int) -> float:
    """|m| / |grad m|, in median token norms: the distance of an affine model's boundary."""
    embeddings = modules["embeddings"].embed.weight.double().numpy()
    first, second = (modules[f"blocks.{number}"].blocks[number].weight.detach().double().numpy() for number in (0, 1))
    readout = modules["head"].head.weight.detach().double().numpy() @ second @ first
    along = readout[0] - readout[1]
    slope = np.linalg.norm(along) * math.sqrt(content) / len(ids)
    unit = np.median(np.linalg.norm(embeddings, axis=1))
    return float(abs(embeddings[ids].mean(axis=0) @ along) / slope / unit)


def test_effects_of_an_affine_pair_are_those_of_the_closed_form(
    tiny: Any, victims: Callable[[Path], Victim], pair_of: Callable[..., Subject]
) -> None:
    plain = victims(tiny.peft)
    models = {name: Linear(plain.model.config, seed).eval() for name, seed in (("full", 1), ("peft", 2))}
    full, peft = (Victim(model, plain.tokenizer, plain.label_columns) for model in models.values())
    texts = [text for text, _ in tiny.dev]
    scores = [victim.scores([(text,) for text in texts]).argmax(axis=1) for victim in (full, peft)]
    agreed = [n for n in range(len(texts)) if scores[0][n] == scores[1][n]][:4]
    examples = [Example(str(n), (texts[n],), int(scores[0][n])) for n in agreed]

    readings = list(PROBE.measure(pair_of(full, victim=peft, chosen=examples)))

    ids = {each.id: plain.tokenizer(each.texts[0])["input_ids"] for each in examples}
    names = ("embeddings", "blocks.0", "blocks.1", "head")

    def log_distance(key: str, recipient: str, donor: str = "", module: str | None = None) -> float:
        parts = {name: models[donor if name == module else recipient] for name in names}
        return math.log(closed_form(parts, ids[key], len(ids[key]) - 2))

    found = [r for r in readings if r.measurement.quantity.name in ("transplant-gap", "transplant-effect")]
    assert len({r.module for r in found}) > 2 and len(examples) == 4
    for reading in found:
        measured, key = reading.measurement, reading.example.id  # type: ignore[union-attr]
        if measured.quantity.name == "transplant-gap":
            expected = log_distance(key, "peft") - log_distance(key, "full")
        else:
            donor, _, recipient = measured.scope.partition("-in-")
            expected = log_distance(key, recipient, donor, reading.module) - log_distance(key, recipient)
        assert measured.value == pytest.approx(expected, abs=2e-3)


def test_a_donors_head_brings_its_own_order_of_labels(tiny: Any, victims: Callable[[Path], Victim]) -> None:
    peft = victims(tiny.peft)
    model = deepcopy(peft.model)
    with torch.no_grad():
        model.classifier.weight.copy_(model.classifier.weight.flip(0))
        model.classifier.bias.copy_(model.classifier.bias.flip(0))
    swapped = Victim(model, peft.tokenizer, peft.label_columns[::-1])
    texts = [(text,) for text, _ in tiny.dev]

    with transplanted(peft, swapped, [module for module in find_modules(model) if module.name == "head"]) as hybrid:
        found = hybrid.scores(texts)

    np.testing.assert_allclose(found, peft.scores(texts), rtol=1e-6)


def test_a_hybrid_that_answers_worse_is_discarded_with_its_reason(
    tiny: Any, victims: Callable[[Path], Victim], pair_of: Callable[..., Subject]
) -> None:
    peft = victims(tiny.peft)
    model = deepcopy(peft.model)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([1.0, 0.0]))  # always "negative": right on every other example

    readings = list(
        replace(PROBE, max_accuracy_loss=0.02).measure(pair_of(Victim(model, peft.tokenizer, (0, 1)), count=8))
    )

    discarded = [r for r in readings if r.measurement.status is MeasurementStatus.UNSUPPORTED]
    assert [(r.module, r.measurement.scope, r.measurement.value) for r in discarded] == [
        ("head", "full-in-peft", None)
    ]
    assert "loses 0.5" in discarded[0].measurement.reason


@pytest.mark.parametrize(("right", "discarded"), [(7, False), (6, True)])
def test_a_hybrid_that_loses_exactly_the_maximum_is_kept(
    right: int, discarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe, ten = replace(PROBE, max_accuracy_loss=0.1), SimpleNamespace(examples=[None] * 10)
    monkeypatch.setattr(transplant, "answered_rightly", lambda *_: [True] * right + [False] * (10 - right))
    monkeypatch.setattr(ModuleTransplant, "_distances", lambda *_: [])

    accuracy, *rest = probe._of_hybrid(ten, ten, None, 8, "full-in-peft")  # type: ignore[arg-type]

    assert accuracy.measurement.value == right / 10
    assert bool(rest) is discarded


def test_arms_that_share_no_modules_are_unsupported(
    tiny: Any, victims: Callable[[Path], Victim], subject_of: Callable[..., Subject], pair_of: Callable[..., Subject]
) -> None:
    other = deepcopy(victims(tiny.full).model)
    other.bert.encoder.layer = other.bert.encoder.layer[:1]
    smaller = Victim(other, victims(tiny.full).tokenizer, (0, 1))

    with pytest.raises(Unsupported, match="once per pair, at its PEFT arm"):
        list(PROBE.measure(subject_of(tiny.full)))
    with pytest.raises(Unsupported, match="other parameters"):
        list(PROBE.measure(pair_of(smaller)))


def test_a_run_writes_the_effects_of_every_module_into_the_layers(tiny: Any, tmp_path: Path) -> None:
    suite = tmp_path / "one.toml"
    suite.write_text(
        'summary = "s"\ntestsets = ["demo-sentiment"]\nprobes = ["module-transplant"]\n'
        "[parameters.module-transplant]\nsteps = 2\ndistance_examples = 3\n"
    )

    report = api.run(
        str(suite), tiny.pairs, tmp_path / "run", RunSettings(data=tiny.data, testsets=[str(tiny.testset)], limit=6)
    )

    layers = report.tables[Table.LAYERS]
    rows = report.tables[Table.SENSITIVITY].set_index("checkpoint")
    measured = layers[layers["quantity"].isin(["transplant-effect", "transplant-accuracy"])]
    assert set(layers["checkpoint"]) == {"lora"}
    assert measured.groupby(["scope", "quantity"]).size().to_dict() == {
        (scope, quantity): 4
        for scope in ("full-in-peft", "peft-in-full")
        for quantity in ("transplant-accuracy", "transplant-effect")
    }
    assert rows.loc["full", "status"] == "unsupported"
    assert set(rows.loc["lora", "quantity"]) == {"transplant-distance", "transplant-gap"}
    assert report.n_errored_measurements == 0
