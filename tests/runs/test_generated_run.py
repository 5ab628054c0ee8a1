"""A whole run of a tiny pair that generates: a pool, rows that both arms have right, best-of-n."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from architectures import WORDS, make_tokenizer
from causal_models import tiny_model
from peft import LoraConfig, get_peft_model

from robustness import RunSettings, api
from robustness.definitions.tasks import find_task
from robustness.reports.report import Report
from robustness.reports.tables.columns import Table
from robustness.testsets.example import Example
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.loading import load_checkpoint, place, to_victim
from robustness.workers.execution import Execution

TASK = """\
kind = "text"
fields = ["text"]
attacked = ["text"]
template = "a {text} is"
[answer]
parser = "whole"
metric = "token-f1"
max_new_tokens = 6
"""
TESTSET = """\
summary = "What the tuned model says."
licence = "none"
task = "{task}"
kind = "clean"
[[test.local]]
reader = "table"
file = "rows.jsonl"
columns = ["text"]
answers = "gold"
provenance = "own"
"""
SUITE = """\
summary = "A pool, and few attacked rows."
testsets = []
attacks = ["deepwordbug", "best-of-n"]
limit = 40
attacked = 6
"""
PAIRS = '[[pair]]\nname = "p"\ntask = "{task}"\nbase = "base"\nfull = "full"\npeft = "lora"\nseed = 0\n'


def write_arms(folder: Path) -> None:
    """A tiny causal model, one with all its weights moved a little, and a small adapter."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = tiny_model("llama")
        for arm in ("base", "full"):
            make_tokenizer("none").save_pretrained(folder / arm)
        model.save_pretrained(folder / "base")
        moved = type(model).from_pretrained(folder / "base")
        with torch.no_grad():
            for parameter in moved.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.005)
        moved.save_pretrained(folder / "full")
        config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        adapted = get_peft_model(type(model).from_pretrained(folder / "base"), config)
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name:
                    parameter.mul_(0.01)
        adapted.save_pretrained(folder / "lora")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generated")


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    write_arms(folder)
    (folder / "copying.toml").write_text(TASK)
    task = find_task(str(folder / "copying.toml"))
    full = read_checkpoint("full", str(folder / "full"), str(folder / "base"))
    victim: Any = to_victim(load_checkpoint(full, task), place("cpu"))
    rng = np.random.default_rng(0)
    texts = dict.fromkeys(" ".join(rng.choice(WORDS, size=6)) for _ in range(60))
    asked = [Example(str(i), (text,), 1) for i, text in enumerate(texts)]
    said = [victim.grader.response(row) for row in victim.rows(asked)]
    rows = [{"text": e.texts[0], "gold": gold} for e, gold in zip(asked, said, strict=True) if gold.strip()]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "set.toml").write_text(TESTSET.format(task=folder / "copying.toml"))
    (folder / "pool.toml").write_text(SUITE)
    (folder / "pairs.toml").write_text(PAIRS.format(task=folder / "copying.toml"))
    return run(folder, "run")


def run(folder: Path, name: str, execution: Execution | None = None) -> Report:
    settings = RunSettings(data=folder, testsets=[str(folder / "set.toml")])
    return api.run(str(folder / "pool.toml"), folder / "pairs.toml", folder / name, settings, execution=execution)


def test_a_worker_attacks_the_rows_that_both_arms_have_right_and_no_others(report: Report, folder: Path) -> None:
    again = run(folder, "again", Execution(workers=1))

    assert again.missing == again.n_errored == 0
    for table in Table:
        ours, theirs = (each.tables[table].drop(columns="seconds", errors="ignore") for each in (again, report))
        pd.testing.assert_frame_equal(ours, theirs)


def test_best_of_n_attacks_generated_answers_on_rows_that_both_arms_have_right(report: Report) -> None:
    examples = report.tables[Table.EXAMPLES]
    attacked = examples[examples["attack"] == "best-of-n"]

    assert report.missing == report.n_errored == 0
    assert len(attacked) == 2 * 6
    assert (attacked["clean_correct"] == 1).all()
    assert (attacked["status"] == "succeeded").any()
    broken = attacked[attacked["status"] == "succeeded"]
    assert (broken["response"] != broken["gold"]).all()
    assert (broken["queries"] >= 1).all() and (broken["queries"] <= 100).all()


def test_every_table_says_what_was_decoded_and_how_good_it_is(report: Report) -> None:
    attacks, pairs = report.tables[Table.ATTACKS], report.tables[Table.PAIRS]

    single = attacks[attacks["attack"] != "worst-case"]
    assert (single["decodes"] > 0).all() and (single["generated_tokens"] > 0).all()
    assert (single["clean_quality"] == 1).all() and (single["quality"] <= 1).all()
    metrics = set(pairs.loc[pairs["attack"] == "best-of-n", "metric"])
    assert {"robust_accuracy", "token_f1", "effort"} <= metrics
    assert (pairs["n_left_out"] == 0).all()
    assert (pairs.loc[pairs["attack"] != "none", "n"] == 6).all()
    assert (pairs["noise_floor"] == 0).all()
    page = (report.folder / "report.html").read_text(encoding="utf-8")
    assert '<p class="reply"><span class="before">' in page
