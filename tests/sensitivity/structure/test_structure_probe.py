from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PrefixTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from scipy.linalg import hadamard
from transformers import BertForSequenceClassification

from robustness import RunSettings, api
from robustness.definitions.tasks import find_task
from robustness.reports.tables.columns import Table
from robustness.sensitivity.building import find_probe
from robustness.sensitivity.measurement import MeasurementStatus
from robustness.sensitivity.probe import Reading, Subject, Unsupported
from robustness.sensitivity.structure.anatomy import UpdateStructure
from robustness.tuners.layers import FormConfig
from robustness.tuners.registration import register_tuners
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.loading import load_checkpoint, place, to_victim

QUERY = "encoder.layer.1.attention.self.query"


@pytest.fixture
def subject(tiny: Any) -> Callable[..., Subject]:
    """A checkpoint of the tiny base, its victim loaded when asked for."""

    def make(folder: Path, partner: Path | None = None, name: str = "") -> Subject:
        checkpoint = read_checkpoint(name or folder.name, str(folder), str(tiny.base))
        return Subject(
            checkpoint=checkpoint,
            examples=(),
            seed=0,
            digest="d",
            load_victim=lambda: to_victim(load_checkpoint(checkpoint, find_task("sst2")), place("cpu")),
            partners=[read_checkpoint("full", str(partner), str(tiny.base))] if partner else [],
        )

    return make


def values(readings: list[Reading], module: str | None) -> dict[str, float]:
    found = {
        r.measurement.quantity.name: r.measurement.value
        for r in readings
        if r.module == module and r.measurement.scope == "matrices"
    }
    return {name: value for name, value in found.items() if value is not None}


def test_the_numbers_of_one_matrix_are_those_of_its_definition(tiny: Any, subject: Callable[..., Subject]) -> None:
    before = load_file(tiny.base / "model.safetensors")[f"{QUERY}.weight"].double().numpy()
    after = load_file(tiny.full / "model.safetensors")[f"bert.{QUERY}.weight"].double().numpy()
    change = after - before

    found = values(list(UpdateStructure().measure(subject(tiny.full))), QUERY)

    u, s, vt = np.linalg.svd(before)
    singular = np.linalg.svd(change, compute_uv=False)
    tuned_left = np.linalg.svd(after)[0][:, :10]
    core = u.T @ change @ vt.T
    assert found["update-relative-norm"] == pytest.approx(np.linalg.norm(change) / np.linalg.norm(before))
    assert found["update-stable-rank"] == pytest.approx(np.sum(singular**2) / singular[0] ** 2, rel=1e-5)
    assert found["core-diagonal-share"] == pytest.approx(np.sum(np.diag(core) ** 2) / np.sum(core**2), rel=1e-3)
    assert found["intruders"] == np.sum(np.abs(tuned_left.T @ u).max(axis=1) < 0.5)
    assert found["log-spectral-growth"] == pytest.approx(math.log(np.linalg.norm(after, 2) / s[0]), abs=1e-6)
    assert found["overlap-left"] == pytest.approx(
        np.sum((np.linalg.svd(change)[0][:, :10].T @ u[:, :10]) ** 2) / 10, rel=1e-3
    )
    assert "cosine-with-full" not in found


def test_the_growth_of_an_update_of_a_millionth_is_its_closed_form(
    tiny: Any, subject: Callable[..., Subject], tmp_path: Path
) -> None:
    """W_0 = H diag(s) H^t / 32 and dW = e s_1 h_1 h_1^t / 32, all of them numbers that float32 holds exactly.

    Norms in single precision, 1e-7 off, made of a growth of 1e-6 whatever rounding left.
    """
    directions, share = hadamard(32).astype(float), 2.0**-20
    before = directions @ np.diag([8.0, 4.0, *[2.0] * 10, *[1.0] * 20]) @ directions.T / 32
    after = before + share * 8 * np.outer(directions[:, 0], directions[:, 0]) / 32
    for folder, prefix, matrix in ((tiny.base, "", before), (tiny.full, "bert.", after)):
        copy = Path(shutil.copytree(folder, tmp_path / folder.name))
        tensors = load_file(copy / "model.safetensors")
        tensors[f"{prefix}{QUERY}.weight"] = torch.tensor(matrix, dtype=torch.float32)
        save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    checkpoint = read_checkpoint("full", str(tmp_path / tiny.full.name), str(tmp_path / tiny.base.name))

    found = values(list(UpdateStructure(draws=1).measure(replace(subject(tiny.full), checkpoint=checkpoint))), QUERY)

    assert found["log-spectral-growth"] == pytest.approx(math.log1p(share), rel=1e-8)
    assert found["log-spectral-growth-weyl"] == pytest.approx(math.log1p(share), rel=1e-8)
    assert found["log-spectral-growth-first-order"] == pytest.approx(share, rel=1e-5)


def test_arms_that_change_unlike_many_matrices_are_held_side_by_side_on_those_both_change(
    tiny: Any, subject: Callable[..., Subject]
) -> None:
    """The full arm changes thirteen matrices, LoRA four: their sums compare on the four alone."""
    arms = {"full": subject(tiny.full, name="full"), "lora": subject(tiny.peft, name="lora")}
    readings = {
        name: list(
            UpdateStructure(draws=1).measure(
                replace(arm, partners=[other.checkpoint], load_partner=lambda _, other=other: other.load_victim())
            )
        )
        for (name, arm), other in zip(arms.items(), reversed(arms.values()), strict=True)
    }

    scope = "matrices changed in full and lora"
    assert {r.measurement.scope for r in readings["lora"]} == {"matrices", scope}
    lora = {r.module for r in readings["lora"] if r.measurement.quantity.name == "update-rank"} - {None}
    assert len(lora) == 4
    for name, found in readings.items():
        shared = {r.measurement.quantity.name: r.measurement.value for r in found if r.measurement.scope == scope}
        own = [values(found, module) for module in lora]
        assert shared["log-spectral-growth"] == pytest.approx(sum(each["log-spectral-growth"] for each in own))
        assert shared["update-rank"] == np.median([each["update-rank"] for each in own])
        assert {r.module for r in found if r.measurement.scope == scope} == {None}
        whole = values(found, None)
        assert name == "lora" or shared["intruders-by-chance"] < whole["intruders-by-chance"]
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny.base, tiny.full))
    moved = sum(float((after[f"bert.{m}.weight"] - before[f"{m}.weight"]).double().square().sum()) for m in lora)
    size = sum(float(before[f"{m}.weight"].double().square().sum()) for m in lora)
    shared = [r.measurement for r in readings["full"] if r.measurement.scope == scope]
    assert next(each.value for each in shared if each.quantity.name == "update-relative-norm") == pytest.approx(
        math.sqrt(moved / size)
    )


def test_beside_a_partner_without_weights_of_its_own_all_matrices_stand_alone(
    tiny: Any, subject: Callable[..., Subject], tmp_path: Path
) -> None:
    folder = save(tiny, tmp_path / "prefix", PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2), 0.3)
    prefix = subject(folder)

    beside = replace(subject(tiny.full), partners=[prefix.checkpoint], load_partner=lambda _: prefix.load_victim())

    assert {reading.measurement.scope for reading in UpdateStructure(draws=1).measure(beside)} == {"matrices"}


def test_a_full_checkpoint_is_read_without_a_model(tiny: Any, subject: Callable[..., Subject]) -> None:
    def refuse() -> Any:
        raise AssertionError("a model was loaded")

    readings = list(UpdateStructure(draws=1).measure(replace(subject(tiny.full), load_victim=refuse)))

    modules = {reading.module for reading in readings}
    assert len(modules - {None}) == 2 * 6 + 1  # the matrices of two blocks, and the pooler's
    assert {reading.layer for reading in readings if reading.module and "encoder" in reading.module} == {0, 1}


def test_a_lora_update_has_its_rank_and_stands_beside_its_full_partners(
    tiny: Any, subject: Callable[..., Subject]
) -> None:
    readings = list(UpdateStructure(draws=1, rank=4).measure(subject(tiny.peft, partner=tiny.full)))

    base, full = load_file(tiny.base / "model.safetensors"), load_file(tiny.full / "model.safetensors")
    adapter = load_file(tiny.peft / "adapter_model.safetensors")
    inner = squares = np.zeros(2)
    for name, before in base.items():
        key = f"base_model.model.bert.{name.removesuffix('.weight')}"
        if f"{key}.lora_A.weight" in adapter:
            a, b = (adapter[f"{key}.lora_{side}.weight"].double() for side in "AB")
            peft, whole = 2 * b @ a, full[f"bert.{name}"].double() - before.double()
            inner = inner + float((peft * whole).sum())
            squares = squares + np.array([float(whole.square().sum()), float(peft.square().sum())])
        elif name.endswith("weight") and before.ndim == 2 and "embed" not in name:
            squares = squares + np.array([float((full[f"bert.{name}"].double() - before.double()).square().sum()), 0])
    query, whole = values(readings, QUERY), values(readings, None)
    assert query["update-rank"] == 4
    assert query["fit-rank-4"] == pytest.approx(1, abs=1e-5)
    assert query["mpc-o-residual"] >= query["mpc-d-residual"] >= 0
    assert whole["cosine-with-full"] == pytest.approx(inner[0] / math.sqrt(squares[0] * squares[1]), rel=1e-4)
    assert whole["best-scale-to-full"] == pytest.approx(inner[0] / squares[1], rel=1e-4)
    assert values(readings, "encoder.layer.0.output.dense") == {"update-relative-norm": 0.0}


def save(tiny: Any, folder: Path, config: Any, std: float) -> Path:
    register_tuners()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_peft_model(BertForSequenceClassification.from_pretrained(tiny.base, num_labels=2), config)
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, mean=1.0 if std < 0.2 else 0.0, std=std)
    model.save_pretrained(folder)
    shutil.copy(tiny.peft / "config.json", folder / "config.json")
    return folder


def test_a_scaled_weight_is_explained_by_its_own_form_alone(
    tiny: Any, subject: Callable[..., Subject], tmp_path: Path
) -> None:
    config = FormConfig(peft_type="SSB", task_type="SEQ_CLS", target_modules=["query"])

    found = values(list(UpdateStructure(draws=1).measure(subject(save(tiny, tmp_path / "ssb", config, 0.1)))), QUERY)

    assert found["fit-inputs-and-outputs"] == pytest.approx(1, abs=1e-6)
    assert max(found["fit-inputs"], found["fit-outputs"], found["core-diagonal-share"]) < 0.9


def test_learnt_prompts_have_no_update_to_look_at(tiny: Any, subject: Callable[..., Subject], tmp_path: Path) -> None:
    folder = save(tiny, tmp_path / "prefix", PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2), 0.3)

    with pytest.raises(Unsupported, match="a prefix adapter does not change the base's weights"):
        list(UpdateStructure().measure(subject(folder)))


def test_trained_biases_leave_every_matrix_alone(tiny: Any, subject: Callable[..., Subject], tmp_path: Path) -> None:
    config = FormConfig(peft_type="BITFIT", task_type="SEQ_CLS", target_modules=["query", "LayerNorm"])

    readings = list(UpdateStructure().measure(subject(save(tiny, tmp_path / "bitfit", config, 0.3))))

    whole = values(readings, None)
    assert whole["update-relative-norm"] == 0
    assert whole["vector-relative-norm"] > 0
    assert whole["embedding-drift"] == 0
    assert {r.measurement.status for r in readings} == {MeasurementStatus.OK}


def test_the_chance_level_depends_on_seed_and_matrix_alone(tiny: Any, subject: Callable[..., Subject]) -> None:
    first, second = (
        [
            r
            for r in UpdateStructure().measure(subject(tiny.peft))
            if r.measurement.quantity.name == "intruders-by-chance"
        ]
        for _ in range(2)
    )

    assert [r.measurement.value for r in first] == [r.measurement.value for r in second]
    assert {r.measurement.kind.value for r in first} == {"estimate"}


def test_numbers_depend_on_no_number_of_threads(tiny: Any, subject: Callable[..., Subject]) -> None:
    alone = list(UpdateStructure().measure(subject(tiny.full)))
    torch.set_num_threads(3)
    try:
        together = list(UpdateStructure().measure(subject(tiny.full)))
    finally:
        torch.set_num_threads(1)

    assert together == alone


def test_a_base_that_shares_no_matrix_is_unsupported(
    tiny: Any, subject: Callable[..., Subject], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny.full, tmp_path / "full"))
    tensors = {f"other.{name}.x": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(Unsupported, match="shares no matrix"):
        list(UpdateStructure().measure(subject(folder)))


def test_a_run_writes_the_anatomy_of_both_arms(tiny: Any, tmp_path: Path) -> None:
    assert find_probe("update-structure").probe == UpdateStructure()

    report = api.run(
        "smoke",
        tiny.pairs,
        tmp_path / "run",
        RunSettings(
            data=tiny.data, testsets=[str(tiny.testset)], attacks=["identity"], probes=["update-structure"], limit=4
        ),
    )

    whole, layers = report.tables[Table.SENSITIVITY], report.tables[Table.LAYERS]
    assert set(whole["space"]) == {"structure"} and set(whole["target"]) == {"theta"}
    assert (whole["status"] == "ok").all() and (whole["direction"] == "neutral").all()
    peft = whole[(whole["checkpoint"] == "lora") & (whole["quantity"] == "cosine-with-full")]
    assert -1 <= float(peft["value"].iloc[0]) <= 1
    ranks = layers[(layers["checkpoint"] == "lora") & (layers["quantity"] == "update-rank")]
    assert ranks["value"].tolist() == [4.0] * 4
    written = pd.read_csv(report.folder / "layers.csv")
    assert len(written) == len(layers)
