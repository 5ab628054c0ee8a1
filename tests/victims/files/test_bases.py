"""An adapter whose base has moved, with all that can tell whether the pair's base is that base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from robustness.errors import CheckpointError
from robustness.victims.files.bases import check_base, digest_weights
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.files.named_bases import find_named_base


@pytest.fixture
def moved(tiny: Any, tmp_path: Path) -> Path:
    """The LoRA checkpoint, whose config names a base that is not there."""
    folder = Path(shutil.copytree(tiny.peft, tmp_path / "lora"))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "/old/home"}))
    return folder


def record_training(folder: Path, digest: str) -> None:
    (folder / "training.json").write_text(json.dumps({"fingerprint": {"base_digest": digest, "base": "/old/home"}}))


def hold_embeddings(tiny: Any, folder: Path, shift: float) -> None:
    """Saves the base's embeddings with the adapter, as peft does where the vocabulary grew."""
    words = load_file(tiny.base / "model.safetensors")["embeddings.word_embeddings.weight"] + shift
    file = folder / "adapter_model.safetensors"
    name = "base_model.model.bert.embeddings.word_embeddings.weight"
    save_file(load_file(file) | {name: torch.cat([words, words[:2]])}, file)


def test_the_base_that_is_named_needs_no_word(tiny: Any) -> None:
    assert check_base(read_checkpoint("lora", str(tiny.peft), str(tiny.base))) == ""


def test_a_base_that_moved_is_known_by_the_digest_that_training_recorded(tiny: Any, moved: Path) -> None:
    record_training(moved, digest_weights(tiny.base))

    said = check_base(read_checkpoint("lora", str(moved), str(tiny.base)))

    assert said.startswith("the adapter names the base /old/home, which does not exist; the weights of")
    assert said.endswith("have the digest that its training recorded")


def test_a_recorded_digest_of_other_weights_is_refused(tiny: Any, moved: Path) -> None:
    record_training(moved, "0" * 64)

    with pytest.raises(CheckpointError, match="same-base: the adapter was trained on /old/home"):
        check_base(read_checkpoint("lora", str(moved), str(tiny.base)))


def test_embeddings_in_the_adapters_file_tell_the_base(tiny: Any, moved: Path) -> None:
    hold_embeddings(tiny, moved, 0.0)

    said = check_base(read_checkpoint("lora", str(moved), str(tiny.base)))

    assert "their shapes fit, and embeddings.word_embeddings.weight of both are the same" in said


def test_other_embeddings_in_the_adapters_file_are_refused(tiny: Any, moved: Path) -> None:
    hold_embeddings(tiny, moved, 1e-3)

    with pytest.raises(CheckpointError, match=r"same-base: .*embeddings.word_embeddings.weight was another"):
        check_base(read_checkpoint("lora", str(moved), str(tiny.base)))


def test_where_nothing_tells_it_is_said_that_nothing_does(tiny: Any, moved: Path) -> None:
    said = check_base(read_checkpoint("lora", str(moved), str(tiny.base)))

    assert f"whether it was trained on {tiny.base} in its place is not known: their shapes fit" in said


def test_a_pair_without_a_base_has_that_of_its_adapter(tiny: Any, tmp_path: Path) -> None:
    assert find_named_base(str(tiny.peft)) == str(tiny.base)
    assert find_named_base(str(tiny.full)) is None
    assert find_named_base("owner/name") is None
