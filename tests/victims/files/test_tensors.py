from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from robustness.errors import CheckpointError
from robustness.victims.files.tensors import TensorFolder


def test_tensors_of_all_files_are_found_by_name(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "1.safetensors")
    save_file({"b": torch.zeros(3)}, tmp_path / "2.safetensors")

    with TensorFolder(tmp_path) as tensors:
        assert sorted(tensors) == ["a", "b"] and len(tensors) == 2
        assert tensors["a"].tolist() == [1, 1]
        assert "c" not in tensors


def test_a_checkpoint_and_its_base_can_be_read_without_a_model(tiny: Any) -> None:
    with TensorFolder(tiny.base) as base, TensorFolder(tiny.full) as full:
        name = "encoder.layer.0.attention.self.query.weight"
        assert full[f"bert.{name}"].shape == base[name].shape


def test_tensors_of_a_wrapped_model_have_the_models_names(tmp_path: Path) -> None:
    save_file({"module._orig_mod.a.weight": torch.ones(2)}, tmp_path / "1.safetensors")

    with TensorFolder(tmp_path) as tensors:
        assert list(tensors) == ["a.weight"]
        assert tensors["a.weight"].tolist() == [1, 1] and tensors.dtype("a.weight") == "F32"


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no safetensors"):
        TensorFolder(tmp_path)
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be read"):
        TensorFolder(tmp_path)
