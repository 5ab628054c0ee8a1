"""The identity of a method, of checkpoints as training saves them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from robustness.definitions.tasks import find_task
from robustness.training.adaptation import Base, adapt
from robustness.training.methods import find_method, method_names
from robustness.victims.files.checkpoint import Checkpoint, read_checkpoint
from robustness.victims.files.identity import MethodIdentity, identify_method, own_settings, shown_settings

Save = Callable[..., Path]
LORA = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["query", "value"]}


@pytest.fixture(scope="module")
def save(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Save:
    """Saves an untrained checkpoint of a shipped method, as another seed would draw it."""

    def save_method(name: str, seed: int) -> Path:
        torch.manual_seed(seed)
        adapter = find_method(name).definition.adapter
        model = adapt(Base(tiny_base, str(tiny_base)), find_task("sst2"), adapter, 100)
        folder = tmp_path_factory.mktemp(name)
        model.save_pretrained(folder, **({} if adapter is None else {"save_embedding_layers": False}))
        trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
        (folder / "trained").write_text(str(trained), encoding="utf-8")
        return folder

    return save_method


def identify(folder: Path, base: Path) -> MethodIdentity:
    return identify_method(read_checkpoint("c", str(folder), str(base)), "sst2", "base digest")


@pytest.mark.parametrize("name", method_names())
def test_two_seeds_of_a_method_have_one_digest_and_the_parameters_that_are_trained(
    save: Save, tiny_base: Path, name: str
) -> None:
    first, second = (save(name, seed) for seed in (0, 1))

    one, other = identify(first, tiny_base), identify(second, tiny_base)

    trained = int((first / "trained").read_text(encoding="utf-8"))
    if name == "p-tuning":  # the network that makes its vectors is not saved
        trained = 20 * 32 + 2 * 32 + 2
    assert one == other
    assert len(one.digest) == 16 and int(one.digest, 16) >= 0
    assert one.trainable_parameters == trained
    assert bool(one.settings) == (name != "full")


def test_no_two_shipped_methods_have_one_digest(save: Save, tiny_base: Path) -> None:
    digests = {name: identify(save(name, 0), tiny_base).digest for name in method_names()}

    assert len(set(digests.values())) == len(digests)


def test_the_ranks_that_adalora_has_learnt_are_no_method_of_their_own(save: Save, tiny_base: Path) -> None:
    folder = save("adalora", 0)
    before = identify(folder, tiny_base)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    config["rank_pattern"] = {"layer.0.query": [True, False], "layer.1.value": [False, True]}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")

    assert identify(folder, tiny_base) == before
    assert (before.settings["init_r"], before.settings["target_r"]) == ("12", "8")
    assert "r" not in before.settings  # LoRA's own, which AdaLoRA inherits and does not use


@pytest.mark.parametrize(
    "change",
    [
        {"r": 64},
        {"lora_alpha": 8},
        {"use_rslora": True},
        {"use_dora": True},
        {"target_modules": ["query"]},
        {"rank_pattern": {"query": 4}},
        {"init_lora_weights": "pissa"},
        {"peft_type": "ADALORA"},
        {"field_of_another_release": 3},
    ],
)
def test_another_configuration_is_another_method(change: dict[str, Any]) -> None:
    assert own_settings(LORA | change) != own_settings(LORA)


@pytest.mark.parametrize(
    "change",
    [
        {"target_modules": ["value", "query", "value"]},
        {"base_model_name_or_path": "/elsewhere", "revision": "main", "peft_version": "0.1", "inference_mode": True},
        {"auto_mapping": {"base_model_class": "BertModel"}},
        {"use_rslora": False, "bias": "none", "megatron_core": "megatron.core", "loftq_config": {}},
        {"modules_to_save": [], "rank_pattern": None, "layers_pattern": ""},
        {"monteclora_config": None},
    ],
)
def test_places_versions_orders_and_defaults_are_no_part_of_a_method(change: dict[str, Any]) -> None:
    assert own_settings(LORA | change) == own_settings(LORA)


def test_a_seed_of_random_projections_is_no_method_of_its_own() -> None:
    vera = {"peft_type": "VERA", "r": 256, "target_modules": ["query"]}

    assert own_settings(vera | {"projection_prng_key": 1}) == own_settings(vera | {"projection_prng_key": 2})


def test_shown_are_ranks_and_what_differs_from_the_defaults() -> None:
    config = LORA | {"use_rslora": True, "lora_dropout": 0.0, "task_type": "SEQ_CLS"}

    assert shown_settings(config | {"modules_to_save": ["classifier", "score"]}) == {
        "r": "8",  # the default, and shown all the same
        "lora_alpha": "16",
        "target_modules": "query, value",
        "use_rslora": "true",
    }
    assert shown_settings(config | {"modules_to_save": ["classifier", "pooler"]})["modules_to_save"] == "pooler"


def test_base_and_task_are_part_of_a_method(trained: Path, tiny_base: Path) -> None:
    checkpoint = read_checkpoint("c", str(trained.parent / "tiny-lora-seed0"), str(tiny_base))

    digests = [
        identify_method(checkpoint, task, base).digest for task, base in (("sst2", "a"), ("rte", "a"), ("sst2", "b"))
    ]

    assert len(set(digests)) == 3


@pytest.mark.parametrize("arm", ["full", "lora"])
@pytest.mark.parametrize(
    ("path", "value", "is_same"),
    [
        (("fingerprint", "seed"), 7, True),
        (("learning_rate",), 0.5, True),
        (("epoch",), 9, True),
        (("fingerprint", "rows_trained"), 7, False),
        (("fingerprint", "train_digest"), "other rows", False),
        (("fingerprint", "rows_digest"), "another order", False),
        (("fingerprint", "task_digest"), "another prompt", False),
        (("fingerprint", "base_files_digest"), "another tokenizer", False),
        (("fingerprint", "settings", "epochs"), 9, False),
        (("fingerprint", "method_digest"), "another grid", False),
    ],
)
def test_training_rows_and_settings_are_part_of_a_method_and_seeds_are_not(
    trained: Path, tiny_base: Path, tmp_path: Path, arm: str, path: tuple[str, ...], value: object, is_same: bool
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(trained.parent / f"tiny-{arm}-seed0", folder)
    before = identify(folder, tiny_base).digest
    content = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    place = content
    for key in path[:-1]:
        place = place[key]
    assert path[-1] in place
    place[path[-1]] = value
    (folder / "training.json").write_text(json.dumps(content), encoding="utf-8")

    assert (identify(folder, tiny_base).digest == before) == is_same


def test_the_checkpoint_of_an_epoch_has_the_training_record_of_its_run(
    trained: Path, tiny_base: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "run"
    shutil.copytree(trained.parent / "tiny-lora-seed0", whole)
    shutil.copytree(trained.parent / "tiny-lora-seed0", whole / "epoch-1", ignore=shutil.ignore_patterns("training*"))

    assert identify(whole / "epoch-1", tiny_base) == identify(whole, tiny_base)


def test_parameters_are_counted_over_the_pieces_of_a_model(save: Save, tiny_base: Path) -> None:
    folder = save("full", 0)
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    pieces = {"model-1.safetensors": names[:5], "model-2.safetensors": names[5:]}
    for file, part in pieces.items():
        save_file({name: weights[name] for name in part}, folder / file, {"format": "pt"})
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, part in pieces.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")

    identity = identify_method(Checkpoint("c", folder, tiny_base, "full"), "sst2", "base")

    assert identity.trainable_parameters == sum(each.numel() for each in weights.values())
