"""What people have on disk: names that wrappers changed, leftovers, pieces, quantised and damaged weights."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from robustness.errors import CheckpointError
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.loading import place, to_victim

Tensors = dict[str, torch.Tensor]


def refusal(load: Callable, *arguments: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def rename(file: Path, change: Callable[[str], str]) -> None:
    save_file({change(name): tensor for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def run_command(message: str, before: str) -> None:
    command = shlex.split(message.partition(before)[2])
    assert command[0] == "python"
    subprocess.run([sys.executable, *command[1:]], check=True, timeout=60)


WRAPPED: dict[str, Callable[[str], str]] = {
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "DataParallel": lambda name: f"module.{name}",
    "both": lambda name: f"module._orig_mod.{name}",
    "FSDP": lambda name: f"_fsdp_wrapped_module.{name.replace('layer.1.', 'layer.1._fsdp_wrapped_module.')}",
    "an encoder that was compiled": lambda name: name.replace("encoder.", "encoder._orig_mod."),
    "Lightning": lambda name: f"model.{name}",
}


@pytest.mark.parametrize("wrapper", WRAPPED)
@pytest.mark.parametrize("name", ["full", "base"])
def test_names_that_a_wrapper_changed_are_read_as_they_were(
    tiny: Any, copied: Callable[[str], Path], load: Callable, texts: list, name: str, wrapper: str
) -> None:
    folder = copied(name)
    rename(folder / "model.safetensors", WRAPPED[wrapper])
    if name == "base":
        copied("lora")
        edit(folder.parent / "lora" / "adapter_config.json", base_model_name_or_path="../base")

    loaded = load(folder) if name == "full" else load(folder.parent / "lora", folder)

    expected = to_victim(load(tiny.full if name == "full" else tiny.peft), place("cpu")).scores(texts)
    assert loaded.uninitialised == ()
    np.testing.assert_array_equal(to_victim(loaded, place("cpu")).scores(texts), expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module.{name}",
        lambda name: name.replace("base_model.model.", "base_model.model._orig_mod."),
        lambda name: name.replace("base_model.model.", "base_model.model.module."),
        lambda name: name.replace("encoder.", "encoder._orig_mod."),
    ],
)
def test_an_adapter_of_a_wrapped_model_is_read_as_it_was(
    tiny: Any, copied: Callable[[str], Path], load: Callable, texts: list, change: Callable[[str], str]
) -> None:
    folder = copied("lora")
    rename(folder / "adapter_model.safetensors", change)

    scores = to_victim(load(folder), place("cpu")).scores(texts)

    np.testing.assert_array_equal(scores, to_victim(load(tiny.peft), place("cpu")).scores(texts))


def test_a_model_saved_with_its_adapter_unmerged_in_it_is_told_from_a_full_one(
    tiny: Any, copied: Callable[[str], Path], load: Callable
) -> None:
    folder = copied("full")
    adapted = PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained(tiny.base), tiny.peft)
    save_file(adapted.base_model.model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})

    message = refusal(load, folder)

    assert "a peft model that was saved with its adapter neither merged nor apart" in message
    assert "save model.merge_and_unload()" in message


def test_a_merged_model_over_its_adapter_names_the_file_to_remove(
    tiny: Any, copied: Callable[[str], Path], load: Callable, texts: list
) -> None:
    folder = copied("full")
    shutil.copy(tiny.peft / "adapter_config.json", folder)

    message = refusal(load, folder)
    (folder / "adapter_config.json").unlink()

    assert f"a whole model, as after merging; remove {folder / 'adapter_config.json'}" in message
    expected = to_victim(load(tiny.full), place("cpu")).scores(texts)
    np.testing.assert_array_equal(to_victim(load(folder), place("cpu")).scores(texts), expected)


def test_adapter_weights_without_their_config_ask_for_it(copied: Callable[[str], Path], load: Callable) -> None:
    folder = copied("lora")
    (folder / "adapter_config.json").unlink()

    assert "but adapter_model.safetensors; copy the adapter_config.json that was saved with it" in refusal(
        load, folder
    )


@pytest.mark.parametrize("labels_above", [False, True])
def test_an_adapter_in_a_named_subfolder_is_pointed_at(
    tiny: Any, tmp_path: Path, load: Callable, *, labels_above: bool
) -> None:
    """As peft saves every adapter that is not called `default`."""
    shutil.copytree(tiny.peft, tmp_path / "run" / "sentiment")
    if labels_above:
        shutil.copy(tiny.peft / "config.json", tmp_path / "run")

    message = refusal(load, tmp_path / "run")

    assert f"what is saved lies in its subfolder: give {tmp_path / 'run' / 'sentiment'}" in message
    assert load(tmp_path / "run" / "sentiment").uninitialised == ()


def test_of_many_checkpoints_of_one_training_a_few_are_named(tiny: Any, tmp_path: Path, load: Callable) -> None:
    for step in (100, 200, 300, 400):
        shutil.copytree(tiny.full, tmp_path / "run" / f"checkpoint-{step}")

    message = refusal(load, tmp_path / "run")

    assert f"give {tmp_path / 'run' / 'checkpoint-100'} or " in message
    assert message.endswith("checkpoint-300 or another")


def test_an_adapter_in_pieces_is_joined_by_the_command_that_the_refusal_gives(
    tiny: Any, copied: Callable[[str], Path], load: Callable, texts: list
) -> None:
    folder = copied("lora")
    tensors = list(load_file(folder / "adapter_model.safetensors").items())
    (folder / "adapter_model.safetensors").unlink()
    for number, part in enumerate((tensors[:4], tensors[4:])):
        save_file(dict(part), folder / f"adapter_model-0000{number + 1}-of-00002.safetensors")

    run_command(refusal(load, folder), "join them: ")

    expected = to_victim(load(tiny.peft), place("cpu")).scores(texts)
    np.testing.assert_array_equal(to_victim(load(folder), place("cpu")).scores(texts), expected)


@pytest.mark.parametrize(
    ("name", "file", "key"),
    [
        ("full", "model.safetensors", "classifier.bias"),
        ("base", "model.safetensors", "pooler.dense.weight"),
        ("lora", "adapter_model.safetensors", "base_model.model.classifier.weight"),
    ],
)
@pytest.mark.parametrize(("value", "called"), [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_a_weight_that_is_no_number_is_named_before_a_text_is_read(
    tiny: Any, copied: Callable[[str], Path], load: Callable, monkeypatch: pytest.MonkeyPatch,
    name: str, file: str, key: str, value: float, called: str,
) -> None:  # fmt: skip
    folder = copied(name)
    tensors = load_file(folder / file)
    tensors[key].view(-1)[1] = value
    save_file(tensors, folder / file, metadata={"format": "pt"})
    monkeypatch.delattr(BertForSequenceClassification, "forward")
    if name == "base":
        shutil.copytree(tiny.peft, folder.parent / "lora")
        edit(folder.parent / "lora" / "adapter_config.json", base_model_name_or_path="../base")

    message = refusal(load, folder) if name != "base" else refusal(load, folder.parent / "lora", folder)

    assert f"finite: 1 of {tensors[key].numel()} numbers of " in message
    assert f"{key} in {folder}" in message and f"are {called}" in message


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("name", "file"), [("full", "model.safetensors"), ("lora", "adapter_model.safetensors")])
def test_weights_in_half_precision_are_computed_in_float32(
    copied: Callable[[str], Path], load: Callable, texts: list, name: str, file: str, dtype: torch.dtype
) -> None:
    folder = copied(name)
    halves = {key: tensor.to(dtype) for key, tensor in load_file(folder / file).items()}
    save_file(halves, folder / file, metadata={"format": "pt"})
    half = to_victim(load(folder), place("cpu")).scores(texts)
    save_file({key: tensor.float() for key, tensor in halves.items()}, folder / file, metadata={"format": "pt"})

    np.testing.assert_array_equal(half, to_victim(load(folder), place("cpu")).scores(texts))


@pytest.mark.parametrize("reference", ["{}/", "{}/../full", "{}-link", "{}-link/"])
def test_a_folder_is_found_however_it_is_written(
    tiny: Any, copied: Callable[[str], Path], texts: list, load: Callable, reference: str
) -> None:
    folder = copied("full")
    folder.with_name("full-link").symlink_to(folder)

    checkpoint = read_checkpoint("full", reference.format(folder), str(tiny.base))

    assert checkpoint.folder == folder


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"quant_method": "gptq", "bits": 4}, "optimum"),
        ({"quant_method": "awq", "bits": 4}, "autoawq|gptqmodel"),
        ({"quant_method": "torchao"}, "torchao"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
    ],
)
@pytest.mark.parametrize("name", ["full", "base"])
def test_a_quantised_model_names_the_package_that_it_needs(
    tiny: Any, copied: Callable[[str], Path], load: Callable, name: str, settings: dict[str, object], expected: str
) -> None:
    folder = copied(name)
    edit(folder / "config.json", quantization_config=settings)

    with pytest.raises(CheckpointError, match=f"pip install .*({expected})") as caught:
        load(folder) if name == "full" else load(tiny.peft, folder)

    assert f"its config.json says that {settings['quant_method']} quantised it: " in str(caught.value)
    assert str(caught.value).endswith("; or use the unquantised model")


def test_sizes_that_config_and_weights_do_not_share_are_named(copied: Callable[[str], Path], load: Callable) -> None:
    folder = copied("full")
    words = json.loads((folder / "config.json").read_text())["vocab_size"]
    edit(folder / "config.json", vocab_size=words + 3)

    message = refusal(load, folder)

    assert f"bert.embeddings.word_embeddings.weight has the size ({words}, 32) in the file" in message
    assert f"and ({words + 3}, 32) by config.json" in message


def test_a_head_of_another_number_of_labels_is_refused_by_its_labels(
    copied: Callable[[str], Path], load: Callable
) -> None:
    folder = copied("lora")
    tensors = load_file(folder / "adapter_model.safetensors")
    for key in ("weight", "bias"):
        name = f"base_model.model.classifier.{key}"
        tensors[name] = torch.cat([tensors[name], tensors[name][:1]])
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})

    message = refusal(load, folder)

    assert "label-map: its head base_model.model.classifier.bias has 3 labels, the task sst2 has 2" in message


def test_a_size_that_does_not_fit_the_adapters_config_is_named(copied: Callable[[str], Path], load: Callable) -> None:
    folder = copied("lora")
    edit(folder / "adapter_config.json", r=8)

    message = refusal(load, folder)

    assert "lora_A.weight has the size (4, 32) in its file and (8, 32) by its config" in message
    assert "are not of one training" in message


def test_a_config_that_pads_with_a_token_that_is_not_there_names_its_line(
    copied: Callable[[str], Path], load: Callable
) -> None:
    folder = copied("full")
    words = json.loads((folder / "config.json").read_text())["vocab_size"]
    edit(folder / "config.json", pad_token_id=words)

    assert f"pads with token {words} of {words}: set pad_token_id to one below" in refusal(load, folder)
