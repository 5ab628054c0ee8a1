"""Whole runs with an adapter on a base in 4 bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustness import CheckpointPair, RunSettings, api
from robustness.definitions.pairs import BasePrecision, read_pairs
from robustness.errors import CheckpointError, RunError, UsageError
from robustness.reports.report import build_report
from robustness.reports.tables.columns import Table
from robustness.runs.planning.admission import admit
from robustness.runs.storage.record import read_record
from robustness.workers.execution import Execution

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: the extra qlora has it")

TIMES = ["seconds"]


@pytest.fixture(scope="module")
def pairs(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full and a LoRA checkpoint whose record says that it was trained on a base in 4 bit."""
    folder = tmp_path_factory.mktemp("four-bit")
    for name in ("base", "full"):
        shutil.copytree(tiny.folder / name, folder / name)
    shutil.copytree(tiny.folder / "lora", folder / "qlora")
    (folder / "qlora" / "training.json").write_text(json.dumps({"fingerprint": {"base_precision": "4bit"}}))
    return write_pairs(folder, "")


def write_pairs(folder: Path, more: str, *, full: str = "full") -> Path:
    file = folder / f"pairs{len(more)}{full.replace('/', '-')}.toml"
    arms = f'base = "base"\nfull = "{full}"\npeft = "qlora"\n'
    file.write_text(f'[[pair]]\nname = "tiny"\ntask = "sst2"\n{arms}seed = 0\n{more}')
    return file


def settings(tiny: Any, **more: Any) -> RunSettings:
    return RunSettings(
        data=tiny.data, testsets=[tiny.testset], attacks=["deepwordbug", "fgsm"], limit=4, device="cpu", **more
    )


@pytest.fixture(scope="module")
def run(tiny: Any, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    api.run("smoke", pairs, out, settings(tiny, probes=["margin-gradient", "sharpness", "update-structure"]))
    return out


def test_every_table_says_which_base(run: Path) -> None:
    tables = build_report(run).report.tables

    for table in (tables[name] for name in (Table.EXAMPLES, Table.ATTACKS, Table.TESTSETS, Table.SENSITIVITY)):
        said = table.groupby("adaptation")["base_precision"].unique()
        assert {name: list(each) for name, each in said.items()} == {"full": [""], "qlora": ["4bit"]}
    for table in (tables[name] for name in (Table.PAIRS, Table.FRAGILITY, Table.SENSITIVITY_PAIRS)):
        assert set(table["base_precision"]) == {"4bit"}


def test_the_record_and_the_page_say_what_4_bits_alone_change(run: Path) -> None:
    record = read_record(run)
    page = (run / "report.html").read_text()

    for checkpoint in record.checkpoints:
        assert checkpoint.n_quantised > 0 and 0 <= (checkpoint.quantised_changed or 0) <= 1
        assert checkpoint.quantised_probability is not None and checkpoint.quantised_probability > 0
    assert "Evaluated on a base in 4 bit, unmerged: QLoRA." in page
    assert "On clean texts 4 bits alone change" in page


def test_gradients_are_served_and_probes_of_weights_are_unsupported_with_the_reason(run: Path) -> None:
    sensitivity, attacks = (build_report(run).report.tables[name] for name in (Table.SENSITIVITY, Table.ATTACKS))
    mine = sensitivity[sensitivity["adaptation"] == "qlora"]
    found = mine.groupby("probe")["status"].first()

    assert found.to_dict() == {
        "margin-gradient": "ok",
        "sharpness": "unsupported",
        "update-structure": "unsupported",
    }
    reasons = mine.groupby("probe")["reason"].first()
    assert "its adapter is not merged into" in reasons["sharpness"]
    assert "is not merged into the base's weights" in reasons["update-structure"]
    attacked = attacks[(attacks["adaptation"] == "qlora") & (attacks["attack"] == "fgsm")]
    assert attacked["n_errored"].tolist() == [0]


def test_a_worker_finds_the_same(tiny: Any, pairs: Path, run: Path, tmp_path: Path) -> None:
    api.run("smoke", pairs, tmp_path / "run", settings(tiny), execution=Execution(workers=1))

    made = [build_report(folder).report.tables[Table.EXAMPLES] for folder in (run, tmp_path / "run")]
    here, there = (table.drop(columns=TIMES) for table in made)
    pd.testing.assert_frame_equal(here, there)


def test_a_resume_with_another_bitsandbytes_is_refused(tiny: Any, pairs: Path, run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    record = json.loads((copy / "run.json").read_text())
    record["fingerprint"]["bitsandbytes"] = "0.1.0"
    (copy / "run.json").write_text(json.dumps(record))

    probes = ["margin-gradient", "sharpness", "update-structure"]
    with pytest.raises(RunError, match=r"bitsandbytes \(0\.1\.0 -> "):
        api.run("smoke", pairs, copy, settings(tiny, probes=probes))


def test_by_choice_the_base_is_in_full_precision_and_arms_say_so(tiny: Any, pairs: Path, tmp_path: Path) -> None:
    api.run("smoke", pairs, tmp_path / "run", settings(tiny, base_precision="full"))
    record = read_record(tmp_path / "run")
    arm = record.find_checkpoint("qlora")

    assert (arm.adaptation, arm.base_precision) == ("qlora", "full")
    assert list(record.command[record.command.index("--base-precision") :][:2]) == ["--base-precision", "full"]
    assert "QLoRA on a full-precision base" in (tmp_path / "run" / "report.html").read_text()
    assert any("is evaluated on a base in full precision, as asked" in warning for warning in record.warnings)
    assert arm.quantised_changed is not None


def test_a_pair_names_its_base_in_the_pairs_file(pairs: Path) -> None:
    written = write_pairs(pairs.parent, 'base_precision = "full"\n')

    assert read_pairs(written)[0].base_precision is BasePrecision.FULL
    assert read_pairs(pairs)[0].base_precision is None


def test_two_whole_models_have_no_base_to_hold(tiny: Any, pairs: Path) -> None:
    shutil.copytree(pairs.parent / "full", pairs.parent / "other", dirs_exist_ok=True)
    whole = pairs.parent / "whole.toml"
    arms = 'base = "base"\nreference = "full"\ncandidate = "other"\nbase_precision = "4bit"\n'
    whole.write_text(f'[[pair]]\nname = "whole"\ntask = "sst2"\n{arms}')

    with pytest.raises(CheckpointError, match="base_precision is 4bit, which is of the base under an adapter"):
        admit(api.plan("smoke", whole, settings(tiny)))


def test_one_checkpoint_on_two_bases_is_refused(tiny: Any, pairs: Path) -> None:
    shutil.copytree(pairs.parent / "full", pairs.parent / "other", dirs_exist_ok=True)
    both = pairs.parent / "both.toml"
    other = pairs.read_text().replace('"tiny"', '"again"').replace('full = "full"', 'full = "other"')
    both.write_text(pairs.read_text() + other + 'base_precision = "full"\n')

    with pytest.raises(UsageError, match="one pair holds its base in 4bit, another in full"):
        admit(api.plan("smoke", both, settings(tiny)))


def test_a_word_that_is_no_precision_is_refused() -> None:
    with pytest.raises(UsageError, match="base_precision.*4bit.*full.*8bit"):
        RunSettings(base_precision="8bit")


def test_a_model_in_memory_on_packed_weights_is_refused(tiny: Any) -> None:
    from transformers import BertForSequenceClassification, BertTokenizerFast, BitsAndBytesConfig

    packing = BitsAndBytesConfig(load_in_4bit=True, llm_int8_skip_modules=["classifier"])
    model = BertForSequenceClassification.from_pretrained(
        tiny.base, quantization_config=packing, device_map={"": "cpu"}
    )
    arm = (model, BertTokenizerFast.from_pretrained(tiny.base))

    with pytest.raises(UsageError, match="candidate: its weights are held in 4 bit; save the adapter"):
        api.run("smoke", CheckpointPair(reference=tiny.full, candidate=arm, task="sst2", base=tiny.base), "unused")
