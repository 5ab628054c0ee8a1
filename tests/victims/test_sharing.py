from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from allocated import peak_bytes
from peft import (
    IA3Config,
    LNTuningConfig,
    LoraConfig,
    OFTConfig,
    PrefixTuningConfig,
    TrainableTokensConfig,
    get_peft_model,
)
from transformers import AutoModelForSequenceClassification, BertTokenizerFast

from robustness.definitions.tasks import find_task
from robustness.runs.victim_loader import VictimLoader
from robustness.victims.files.checkpoint import Checkpoint, read_checkpoint
from robustness.victims.loading import load_checkpoint, place, to_victim
from robustness.victims.sharing import SharedBases

TEXTS = [("the film is fine .",), ("a dull plot",), ("the song is lovely . good",)]


def adapter(base: Path, folder: Path, config: Any, seed: int) -> Checkpoint:
    """An adapter of random numbers on a base, as plain peft saves it."""
    names = {"id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = get_peft_model(AutoModelForSequenceClassification.from_pretrained(base, **names), config)
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    model.config.save_pretrained(folder)
    return read_checkpoint(folder.name, str(folder), str(base))


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
    made = [adapter(tiny.base, tmp_path / f"adapter-{seed}", config, seed) for seed in (1, 2)]
    task, placement = find_task("sst2"), place("cpu")
    alone = [to_victim(load_checkpoint(each, task), placement).scores(TEXTS) for each in made]
    victims = VictimLoader({each.name: each for each in made}, {each.name: task for each in made}, placement)

    victims = [victims.load(each.name)[0] for each in made]

    for victim, expected in zip(victims, alone, strict=True):
        assert np.array_equal(victim.logits(TEXTS), expected)
    held = [{p.data_ptr(): p.numel() for p in victim.model.parameters()} for victim in victims]
    both = sum(size for place_, size in held[1].items() if place_ in held[0])
    assert both > shared * sum(held[1].values())


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "dense"], bias="all"),
        IA3Config(task_type="SEQ_CLS", target_modules=["value"], feedforward_modules=[]),
        LNTuningConfig(task_type="SEQ_CLS", target_modules=["LayerNorm"]),
        OFTConfig(task_type="SEQ_CLS", oft_block_size=2, target_modules=["query"]),
        TrainableTokensConfig(task_type="SEQ_CLS", token_indices=[1, 3], target_modules=["word_embeddings"]),
    ],
    ids=lambda config: config.peft_type.value,
)
def test_what_a_second_arm_changes_of_the_base_leaves_the_first_as_it_was(
    config: Any, tiny: Any, tmp_path: Path
) -> None:
    first = adapter(tiny.base, tmp_path / "first", PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3), 1)
    second = adapter(tiny.base, tmp_path / "second", config, 2)
    task, placement = find_task("sst2"), place("cpu")
    expected = to_victim(load_checkpoint(second, task), placement).scores(TEXTS)
    arms = VictimLoader({"first": first, "second": second}, {"first": task, "second": task}, placement)
    kept, _ = arms.load("first")
    before = kept.logits(TEXTS)

    changed, _ = arms.load("second")

    assert np.array_equal(kept.logits(TEXTS), before)
    assert np.array_equal(changed.logits(TEXTS), expected)


def test_a_second_arm_takes_no_second_copy_of_the_base_while_it_loads(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base's file is in bfloat16, so that each of its numbers has to be converted, where it is not shared."""
    monkeypatch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")  # what other threads take is not counted
    base = AutoModelForSequenceClassification.from_pretrained(tiny.base).base_model
    base.resize_token_embeddings(8_000, mean_resizing=False)
    base.to(torch.bfloat16).save_pretrained(tmp_path / "base")
    BertTokenizerFast.from_pretrained(tiny.base).save_pretrained(tmp_path / "base")
    config = PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3)
    made = [adapter(tmp_path / "base", tmp_path / f"adapter-{seed}", config, seed) for seed in (1, 2)]
    size = sum(4 * each.numel() for each in base.parameters())
    arms = VictimLoader(
        {each.name: each for each in made}, {each.name: find_task("sst2") for each in made}, place("cpu")
    )
    victims: list[Any] = []

    first, second = (peak_bytes(lambda name=each.name: victims.append(arms.load(name)[0])) / size for each in made)

    assert first >= 1.5  # the file, and what it is converted to
    # Views of the file, which are counted too, and an activation; transformers 4 sets aside .43 of a copy more.
    assert second < (0.8 if int(transformers.__version__.partition(".")[0]) >= 5 else 1.0)


def test_a_checkpoint_that_is_loaded_again_opens_no_second_connection_to_the_query_cache(
    tiny: Any, tmp_path: Path
) -> None:
    arms = {name: read_checkpoint(name, str(tiny.folder / name), str(tiny.base)) for name in ("full", "lora")}
    victims = VictimLoader(arms, dict.fromkeys(arms, find_task("sst2")), place("cpu"), cache=tmp_path)

    def count_open() -> int:
        links = [each.readlink() for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
        return sum(link.name == "queries.sqlite" for link in links)

    opened = []
    for name in ("full", "lora", "full", "lora", "full"):
        victims.load(name)
        opened.append(count_open())

    assert opened == [1, 2, 2, 2, 2]
    assert victims.warnings() == []
    victims.close()
    assert count_open() == 0


def test_a_model_moves_onto_the_weights_that_are_there_one_after_the_other() -> None:
    there, coming = (torch.nn.Sequential(*(torch.nn.Linear(64, 64) for _ in range(8))) for _ in range(2))
    coming.load_state_dict(there.state_dict())
    coming[3].weight.data += 1
    expected = [each.detach().to(torch.bfloat16) for each in coming.parameters()]
    there.to(torch.bfloat16)
    bases = SharedBases()
    bases.add(Path("base"), there)

    peak = peak_bytes(lambda: bases.move(Path("base"), coming, torch.device("cpu"), torch.bfloat16))

    pairs = list(zip(there.parameters(), coming.parameters(), strict=True))
    assert [one.data_ptr() == other.data_ptr() for one, other in pairs].count(False) == 1
    assert all(torch.equal(one, other) for one, other in zip(coming.parameters(), expected, strict=True))
    assert peak < 3 * 64 * 64 * 2  # the layer that differs, and one at a time: of eight


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
