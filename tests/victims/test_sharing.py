from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from transformers import AutoModelForSequenceClassification

from robustness.definitions.tasks import find_task
from robustness.runs.victim_loader import VictimLoader
from robustness.victims.files.checkpoint import Checkpoint, read_checkpoint
from robustness.victims.loading import load_checkpoint, place, to_victim

TEXTS = [("the film is fine .",), ("a dull plot",), ("the song is lovely . good",)]


def adapter(tiny: Any, folder: Path, config: Any, seed: int) -> Checkpoint:
    """An adapter of random numbers on the tiny base, as plain peft saves it."""
    names = {"id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = get_peft_model(AutoModelForSequenceClassification.from_pretrained(tiny.base, **names), config)
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    model.config.save_pretrained(folder)
    return read_checkpoint(folder.name, str(folder), str(tiny.base))


@pytest.mark.parametrize(
    ("config", "shared"),
    [
        (PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3), 0.9),
        (LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"]), 0.4),
    ],
    ids=["unmerged", "merged"],
)
def test_two_adapters_of_one_base_hold_it_once_and_answer_as_when_loaded_alone(
    config: Any, shared: float, tiny: Any, tmp_path: Path
) -> None:
    made = [adapter(tiny, tmp_path / f"adapter-{seed}", config, seed) for seed in (1, 2)]
    task, placement = find_task("sst2"), place("cpu")
    alone = [to_victim(load_checkpoint(each, task), placement).scores(TEXTS) for each in made]
    victims = VictimLoader({each.name: each for each in made}, {each.name: task for each in made}, placement)

    victims = [victims.load(each.name)[0] for each in made]

    for victim, expected in zip(victims, alone, strict=True):
        assert np.array_equal(victim.logits(TEXTS), expected)
    held = [{p.data_ptr(): p.numel() for p in victim.model.parameters()} for victim in victims]
    both = sum(size for place_, size in held[1].items() if place_ in held[0])
    assert both > shared * sum(held[1].values())


def test_the_untuned_base_shares_what_a_tuned_arm_left_as_it_was(tiny: Any) -> None:
    task = find_task("sst2")
    checkpoint = read_checkpoint("lora", str(tiny.peft), str(tiny.base))
    victims = VictimLoader({"lora": checkpoint}, {"lora": task}, place("cpu"))
    tuned, _ = victims.load("lora")
    before = tuned.logits(TEXTS)

    untuned = victims.load_untuned("lora")

    assert untuned is not None
    tensors = {name: p.data_ptr() for name, p in tuned.model.named_parameters()}
    alike = {name for name, p in untuned.model.named_parameters() if p.data_ptr() == tensors[name]}
    assert "bert.embeddings.word_embeddings.weight" in alike
    assert not any("attention.self.query.weight" in name for name in alike)
    assert np.array_equal(tuned.logits(TEXTS), before)
