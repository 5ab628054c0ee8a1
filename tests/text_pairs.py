"""A pair of tiny Llamas that generate, with a task and a test set of which most rows are answered rightly."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from architectures import WORDS, make_tokenizer
from causal_models import tiny_model
from peft import LoraConfig, get_peft_model

from robustness.definitions.tasks import find_task
from robustness.testsets.example import Example
from robustness.victims.heads.texts import TextVictim

TASK = """summary = "Words after words."
kind = "text"
fields = ["text"]
attacked = ["text"]
template = "a {text} is"

[answer]
parser = "whole"
metric = "exact"
max_new_tokens = 5
"""
TESTSET = """summary = "Words after words."
licence = "CC0"
task = "{task}"
kind = "clean"

[[test.local]]
reader = "table"
file = "words/dev.csv"
columns = ["text"]
answers = "gold"
"""


@dataclass(frozen=True, slots=True)
class TextPair:
    """Files of a pair."""

    pairs: Path
    testset: Path
    data: Path


def write_text_pair(folder: Path, rows: int = 10) -> TextPair:
    """The full arm is its base with a little noise; the gold texts are its own responses, but for every fifth."""
    tokenizer, base = make_tokenizer("none"), tiny_model("llama")
    task = folder / "words.toml"
    task.write_text(TASK)
    _save(base, tokenizer, folder / "base")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        full = tiny_model.__wrapped__("llama")
        lora = get_peft_model(
            tiny_model.__wrapped__("llama"),
            LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False),
        )
        for name, parameter in [*full.named_parameters(), *lora.named_parameters()]:
            if "lora" in name:
                parameter.data *= 0.03
            elif parameter in set(full.parameters()) and "norm" not in name:
                parameter.data += 0.001 * torch.randn_like(parameter)
    _save(full, tokenizer, folder / "full")
    lora.peft_config["default"].base_model_name_or_path = str(folder / "base")
    lora.save_pretrained(folder / "lora")
    _write_rows(TextVictim(full, tokenizer, find_task(str(task))), folder / "data" / "words" / "dev.csv", rows)
    testset = folder / "words-set.toml"
    testset.write_text(TESTSET.format(task=task))
    pairs = folder / "pairs.toml"
    pairs.write_text(
        f'[[pair]]\nname = "tiny-text"\ntask = "{task}"\nbase = "base"\nfull = "full"\npeft = "lora"\nseed = 0\n'
    )
    return TextPair(pairs, testset, folder / "data")


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _write_rows(victim: TextVictim, path: Path, count: int) -> None:
    rng = np.random.default_rng(3)
    path.parent.mkdir(parents=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "gold"])
        written = 0
        while written < count:
            text = " ".join(rng.choice(WORDS, size=rng.integers(2, 7)))
            (row,) = victim.rows([Example(text, (text,), 1)])
            response = victim.grader.response(row)
            if response.strip():
                writer.writerow([text, "not this" if written % 5 == 4 else response])
                written += 1
