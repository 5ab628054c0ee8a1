from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import robustness
from robustness import RunSettings, api
from robustness.errors import DefinitionError, ProbeError, UsageError
from robustness.reports.tables.columns import Table
from robustness.runs import victim_loader
from robustness.runs.executors.bench import RunBench
from robustness.runs.storage.measurements import read_measurements
from robustness.sensitivity.measurement import Kind, Measurement, Quantity, Space
from robustness.sensitivity.probe import Reading, Unsupported

FIRST = ("margin", "margin-gradient", "jacobian-norm", "condition-profile")
TABLES = (Table.SENSITIVITY, Table.SENSITIVITY_EXAMPLES, Table.SENSITIVITY_PAIRS, Table.LAYERS)


def start(tiny: Any, out: Path, on_progress: Any = None, **options: Any) -> Any:
    options = {"probes": FIRST, "limit": 6} | options
    settings = RunSettings(data=tiny.data, testsets=[str(tiny.testset)], attacks=["identity"], **options)
    return api.run("smoke", tiny.pairs, out, settings, on_progress=on_progress)


@pytest.fixture(scope="module")
def finished(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return start(tiny, tmp_path_factory.mktemp("probing") / "run")


def test_every_probe_fills_its_tables_for_both_arms(finished: Any) -> None:
    rows = finished.tables[Table.SENSITIVITY]
    examples = finished.tables[Table.SENSITIVITY_EXAMPLES]
    layers = finished.tables[Table.LAYERS]

    assert set(rows["probe"]) == set(FIRST) and set(rows["checkpoint"]) == {"full", "lora"}
    assert (rows["status"] == "ok").all() and (rows["n"] == 6).all() and rows["value"].notna().all()
    assert set(rows["kind"]) == {"exact"}
    assert set(examples["example_id"]) == set(finished.tables[Table.EXAMPLES]["example_id"])
    assert layers.groupby("checkpoint").size().to_dict() == {"full": 3, "lora": 3}
    assert finished.n_errored_measurements == finished.missing_measurements == 0


def test_the_bounds_of_a_run_are_held_against_each_other_on_every_example(tiny: Any, tmp_path: Path) -> None:
    suite = tmp_path / "bounds.toml"
    suite.write_text(
        'summary = "s"\ntestsets = ["demo-sentiment"]\nlimit = 2\n'
        'probes = ["margin-gradient", "adversarial-distance", "lipschitz-upper", "layer-product"]\n'
        "[parameters.adversarial-distance]\nnorms = ['l2']\nsteps = 6\nshrinking_rounds = 1\nchecked_examples = 0\n"
        "[parameters.lipschitz-upper]\nsamples = 64\nexact_examples = 0\nascent_steps = 1\n"
    )

    report = robustness.run(
        str(suite), tiny.pairs, tmp_path / "run", RunSettings(data=tiny.data, testsets=[str(tiny.testset)])
    )

    brackets = report.tables[Table.BRACKETS]
    bounds = {"certified-radius-local", "layer-product-radius", "margin-gradient", "margin-lipschitz-lower"}
    assert set(brackets["lower"]) >= bounds
    assert brackets.groupby("checkpoint")["example_id"].nunique().to_dict() == {"full": 2, "lora": 2}
    assert not (brackets["status"] == "violated").any() and report.record.violations == ()
    assert (brackets["lower_value"] <= brackets["upper_value"]).all()


def test_the_page_shows_probes_of_whole_models_alone_with_the_names_of_the_arms(tiny: Any, tmp_path: Path) -> None:
    start(tiny, tmp_path / "run", probes=["update-structure"], limit=2)

    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")

    assert '<section id="sensitivity">' in page and 'href="#sensitivity"' in page
    assert "RowIndex" not in page


def test_an_adapter_whose_files_do_not_tell_its_directions_is_loaded_for_them(tiny: Any, tmp_path: Path) -> None:
    """LoRA with a bias of its own, here of zeros: plain LoRA's closed form would leave it out."""
    folder = Path(shutil.copytree(tiny.peft, tmp_path / "lora"))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"lora_bias": True}))
    tensors = load_file(folder / "adapter_model.safetensors")
    biases = {
        name.replace("lora_B.weight", "lora_B.bias"): torch.zeros(len(value))
        for name, value in tensors.items()
        if name.endswith("lora_B.weight")
    }
    save_file(tensors | biases, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    arms = {"base": tiny.base, "full": tiny.full, "peft": folder}
    pairs = tmp_path / "pairs.toml"
    places = "".join(f'{name} = "{place}"\n' for name, place in arms.items())
    pairs.write_text(f'[[pair]]\nname = "tiny"\ntask = "sst2"\nseed = 0\n{places}')

    report = api.run(
        "smoke",
        pairs,
        tmp_path / "run",
        RunSettings(
            data=tiny.data, testsets=[str(tiny.testset)], attacks=["identity"], probes=["reachability"], limit=2
        ),
    )

    rows = report.tables[Table.SENSITIVITY]
    chance = rows.loc[rows["quantity"] == "reach-chance", "value"].tolist()
    entries = 2 * (4 * (32 * 32 + 32) + 2 * 32 * 64 + 64 + 32 + 4 * 32)
    assert (rows["status"] == "ok").all()
    assert chance == [pytest.approx(4 * (4 * (32 + 32 - 4) + 32) / entries)] * 2


def test_running_again_measures_nothing_and_loads_nothing(
    finished: Any, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **keywords: object) -> None:
        raise AssertionError("a finished run loaded a checkpoint")

    monkeypatch.setattr(victim_loader, "load_checkpoint", refuse)

    again = start(tiny, finished.folder)

    for table in TABLES:
        pd.testing.assert_frame_equal(again.tables[table], finished.tables[table])


def test_a_run_interrupted_between_probes_ends_like_one_that_was_not(
    finished: Any, tiny: Any, tmp_path: Path
) -> None:
    class InterruptionError(Exception):
        pass

    def stop(progress: Any) -> None:
        if "lora | tiny | jacobian-norm" in progress.message:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        start(tiny, tmp_path / "run", on_progress=stop)
    assert api.report(tmp_path / "run").missing_measurements == 2

    whole = start(tiny, tmp_path / "run")

    for table in TABLES:
        ours, theirs = (each.tables[table].drop(columns="seconds", errors="ignore") for each in (whole, finished))
        pd.testing.assert_frame_equal(ours, theirs)


def test_the_arms_of_a_pair_stand_side_by_side_and_gradients_support_no_claim(finished: Any) -> None:
    measurements = read_measurements(finished.folder)
    norms = measurements[measurements["quantity"] == "jacobian-norm"].pivot_table(
        index="example_id", columns="checkpoint", values="value"
    )

    rows = finished.tables[Table.SENSITIVITY_PAIRS].set_index(["probe", "layer"])

    row = rows.xs("jacobian-norm").iloc[0]
    assert row["ratio"] == pytest.approx(np.exp(np.median(np.log(norms["lora"] / norms["full"]))))
    assert row["low"] <= row["ratio"] <= row["high"] and row["n"] == 6
    assert len(rows.xs("condition-profile")) == 4
    assert set(rows["direction"]) == {"neutral"} and rows["reason"].notna().all()
    assert not {"probe", "layer"} & set(finished.tables[Table.FRAGILITY]["where"])


class Letters:
    """A probe of one's own: counts characters."""

    space = Space.INPUT

    def measure(self, subject: Any) -> Any:
        for example in subject.examples:
            yield Reading(Measurement(Quantity("characters"), float(len(example.texts[0])), Kind.EXACT), example)


class NoMeaning:
    space = Space.STRUCTURE

    def measure(self, subject: Any) -> Any:
        if subject.checkpoint.is_adapter:
            raise Unsupported("adapters have no letters")
        raise ValueError("my own bug")


def test_ones_own_probes_run_and_their_failures_are_rows(tiny: Any, tmp_path: Path) -> None:
    report = start(tiny, tmp_path / "run", probes=[Letters, NoMeaning])

    rows = report.tables[Table.SENSITIVITY].set_index(["probe", "checkpoint"])
    assert rows.loc[("Letters", "full"), "value"] == rows.loc[("Letters", "lora"), "value"] > 0
    assert rows.loc[("NoMeaning", "lora"), "status"] == "unsupported"
    assert rows.loc[("NoMeaning", "lora"), "reason"] == "adapters have no letters"
    assert rows.loc[("NoMeaning", "full"), "reason"] == "ValueError: my own bug"
    assert pd.isna(rows.loc[("NoMeaning", "full"), "testset"]) or rows.loc[("NoMeaning", "full"), "testset"] == ""
    assert report.n_errored_measurements == 1


def test_the_time_of_a_probe_is_without_that_of_loading_its_checkpoint(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = RunBench._load

    def slowly(bench: RunBench, name: str) -> Any:
        time.sleep(1)
        return load(bench, name)

    monkeypatch.setattr(RunBench, "_load", slowly)
    report = start(tiny, tmp_path / "run", probes=["margin"])

    assert report.tables[Table.SENSITIVITY]["seconds"].max() < 1


def test_a_probe_file_runs_by_its_name(tiny: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from robustness.sensitivity.measurement import Kind, Measurement, Quantity, Space\n"
        "from robustness.sensitivity.probe import Reading\n"
        "class One:\n    space = Space.STRUCTURE\n    def measure(self, subject):\n"
        "        yield Reading(Measurement(Quantity('one'), 1.0, Kind.EXACT))\n"
    )

    report = start(tiny, tmp_path / "run", probes=[f"{file}:One"])

    assert report.tables[Table.SENSITIVITY]["probe"].tolist() == ["mine.py:One"] * 2


def test_wrong_probes_and_parameters_are_refused_by_name(tiny: Any, tmp_path: Path) -> None:
    suite = tmp_path / "mine.toml"

    def plan(probes: str, parameters: str = "") -> None:
        suite.write_text(f'summary = "s"\ntestsets = ["demo-sentiment"]\nprobes = [{probes}]\n{parameters}')
        api.plan(str(suite), tiny.pairs)

    with pytest.raises(DefinitionError, match="did you mean 'margin'"):
        plan('"margn"')
    with pytest.raises(UsageError, match="named twice"):
        plan('"margin", "margin"')
    with pytest.raises(DefinitionError, match=r"probe margin.*unknown key 'steps'"):
        plan('"margin"', "[parameters.margin]\nsteps = 3\n")
    with pytest.raises(DefinitionError, match=r"\[parameters.condition\].*not among its probes"):
        plan('"margin"', "[parameters.condition]\nexamples = 3\n")
    with pytest.raises(ProbeError, match="`space` is missing"):
        api.plan("smoke", tiny.pairs, RunSettings(probes=[object]))


def test_a_suite_may_say_how_many_examples_a_probe_takes(tiny: Any, tmp_path: Path) -> None:
    suite = tmp_path / "few.toml"
    suite.write_text(
        'summary = "s"\ntestsets = ["demo-sentiment"]\nprobes = ["margin"]\n[parameters.margin]\nexamples = 2\n'
    )

    report = robustness.run(
        str(suite), tiny.pairs, tmp_path / "run", RunSettings(data=tiny.data, testsets=[str(tiny.testset)])
    )

    assert report.tables[Table.SENSITIVITY]["n"].tolist() == [2, 2]
