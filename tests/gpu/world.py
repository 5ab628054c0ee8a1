"""A base, a full and a LoRA checkpoint of it, and rows that both answer rightly, as files."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from gpu.models import SPREAD, Size, balance, make_classifier, make_sentences
from robustness.testsets.example import Texts
from robustness.victims.heads.labels import Victim

TESTSET = """summary = "Made-up words."
licence = "Apache-2.0"
task = "sst2"
kind = "clean"

[[test.local]]
reader = "table"
file = "rows.csv"
columns = ["sentence"]
label = "label"
id = "id"
"""
NOISE = 1e-3
"""Of the full checkpoint's weights, as a share of their spread: it is not the adapter merged."""


@dataclass(frozen=True, slots=True)
class World:
    """Files of one pair."""

    folder: Path
    pairs: Path
    testset: Path
    texts: tuple[Texts, ...]
    labels: tuple[int, ...]

    @property
    def base(self) -> Path:
        """The base's folder."""
        return self.folder / "base"


def write_world(folder: Path, size: Size, words: list[str], tokenizer: Any, device: torch.device) -> World:
    """Draws a base; the full checkpoint is nearly the LoRA checkpoint merged, so both answer alike."""
    base = make_classifier(size.base, len(tokenizer), torch.device("cpu"))
    texts = make_sentences(max(16, size.examples // 2), words, size.longest, seed=1)
    adapted = _adapt(base)
    full = _disturb(copy.deepcopy(adapted).merge_and_unload())
    victim = Victim(full.to(device), tokenizer, (0, 1))
    heads = (full.classifier, adapted.base_model.model.classifier.modules_to_save["default"])
    balance(victim, [head.out_proj for head in heads], texts)
    labels = victim.scores(texts).argmax(axis=1).tolist()
    _save(folder, base, full.cpu(), adapted, tokenizer)
    _write_rows(folder, texts, labels)
    return World(folder, folder / "pairs.toml", folder / "made-up.toml", tuple(texts), tuple(labels))


def _adapt(base: Any) -> Any:
    """Rank 8 on queries and values, both factors drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"])
        adapted = get_peft_model(copy.deepcopy(base), config)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=SPREAD / 8)
    return adapted.eval()


def _disturb(model: Any) -> Any:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.base_model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * NOISE * parameter.std() if parameter.numel() > 1 else 0)
    return model


def _save(folder: Path, base: Any, full: Any, adapted: Any, tokenizer: Any) -> None:
    adapted.peft_config["default"].base_model_name_or_path = str(folder / "base")
    for name, model in (("base", base.roberta), ("full", full), ("lora", adapted)):
        model.save_pretrained(folder / name, **({"save_embedding_layers": False} if name == "lora" else {}))
        tokenizer.save_pretrained(folder / name)
    base.config.save_pretrained(folder / "lora")
    (folder / "pairs.toml").write_text(
        f'[[pair]]\nname = "made-up"\ntask = "sst2"\nbase = {json.dumps(str(folder / "base"))}\n'
        'full = "full"\npeft = "lora"\nseed = 0\n'
    )


def _write_rows(folder: Path, texts: Sequence[Texts], labels: Sequence[int]) -> None:
    (folder / "made-up.toml").write_text(TESTSET)
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "sentence", "label"])
        writer.writerows([f"r{i}", text[0], label] for i, (text, label) in enumerate(zip(texts, labels, strict=True)))
