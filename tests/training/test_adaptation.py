from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from robustness.definitions.tasks import find_task
from robustness.errors import CheckpointError
from robustness.training.adaptation import Base, adapt
from robustness.training.adapters import LoraAdapter
from robustness.training.methods import find_method

LORA = find_method("lora").definition.adapter


def test_the_head_starts_equal_for_all_methods_of_one_seed(tiny_base: Path) -> None:
    heads = []
    for adapter in (None, LORA):
        torch.manual_seed(5)
        model = adapt(Base(tiny_base, str(tiny_base)), find_task("sst2"), adapter, 1)
        heads.append([p for name, p in model.named_parameters() if "classifier" in name and p.requires_grad])

    assert len(heads[0]) == len(heads[1]) == 2
    assert all(torch.equal(full, lora) for full, lora in zip(*heads, strict=True))


def test_lora_trains_query_value_and_head_alone(tiny_base: Path) -> None:
    model = adapt(Base(tiny_base, str(tiny_base)), find_task("sst2"), LORA, 1)

    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("query.lora_" in name or "value.lora_" in name or "classifier" in name for name in trained)
    assert sum("lora_" in name for name in trained) == 2 * 2 * 2  # layers, projections, A and B


def test_a_pooler_that_the_base_lacks_is_saved_with_the_adapter(base_without_pooler: Path, tmp_path: Path) -> None:
    model = adapt(Base(base_without_pooler, str(base_without_pooler)), find_task("sst2"), LORA, 1)
    model.save_pretrained(tmp_path, save_embedding_layers=False)

    names = load_file(tmp_path / "adapter_model.safetensors")
    assert any(name.endswith("pooler.dense.weight") for name in names)
    assert any(name.endswith("classifier.weight") for name in names)


def test_an_adapter_names_its_base_by_the_reference_and_not_by_a_cache_folder(
    tiny_base: Path, tmp_path: Path
) -> None:
    adapt(Base(tiny_base, "owner/name"), find_task("sst2"), LORA, 1).save_pretrained(
        tmp_path, save_embedding_layers=False
    )

    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "owner/name"


def test_named_target_modules_replace_the_default(tiny_base: Path) -> None:
    adapter = LoraAdapter(peft_type="lora", rank=2, alpha=2, dropout=0.0, target_modules=("key",))

    model = adapt(Base(tiny_base, str(tiny_base)), find_task("sst2"), adapter, 1)

    assert all("key" in name for name, _ in model.named_parameters() if "lora_" in name)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        adapt(Base(tmp_path, str(tmp_path)), find_task("sst2"), None, 1)
