from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from robustness.errors import CheckpointError
from robustness.victims.files.bases import digest_weights
from robustness.victims.files.checkpoint import locate, read_checkpoint
from robustness.victims.loading import place, to_victim


def refused(reference: Path | str, base: Path | str) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint("mine", str(reference), str(base))
    message = str(caught.value)
    assert "\n" not in message
    return message


def pickle(folder: Path, safe: str, pickled: str) -> None:
    torch.save(load_file(folder / safe), folder / pickled)
    (folder / safe).unlink()


def convert(message: str) -> None:
    """Runs the command that the message gives, as a shell would."""
    command = shlex.split(message.partition("convert it: ")[2])
    assert command[0] == "python"
    subprocess.run([sys.executable, *command[1:]], check=True, timeout=60)


def test_a_full_checkpoint_is_told_from_an_adapter(tiny: Any) -> None:
    full = read_checkpoint("full", str(tiny.full), str(tiny.base))
    peft = read_checkpoint("lora", str(tiny.peft), str(tiny.base))

    assert (full.adaptation, full.is_adapter, full.named_base) == ("full", False, None)
    assert (peft.adaptation, peft.is_adapter, peft.named_base) == ("lora", True, tiny.base)


@pytest.mark.parametrize(
    ("change", "adaptation"),
    [
        ({"use_dora": True}, "dora"),
        ({"peft_type": "PREFIX_TUNING"}, "prefix"),
        ({"peft_type": "PROMPT_TUNING"}, "prompt"),
        ({"peft_type": "IA3"}, "ia3"),
        ({"peft_type": "ADALORA"}, "adalora"),
    ],
)
def test_the_method_comes_from_the_adapters_config(
    tiny: Any, copied: Callable[[str], Path], change: dict[str, object], adaptation: str
) -> None:
    folder = copied("lora")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | change))

    assert read_checkpoint("mine", str(folder), str(tiny.base)).adaptation == adaptation


def test_a_pickled_checkpoint_is_refused_with_a_command_that_converts_it(
    tiny: Any, copied: Callable[[str], Path], load: Callable, texts: list
) -> None:
    folder = copied("full")
    folder = folder.rename(folder.with_name('it\'s a "full" $HOME one'))
    pickle(folder, "model.safetensors", "pytorch_model.bin")

    message = refused(folder, tiny.base)
    convert(message)

    assert "pytorch_model.bin is a pickle, which can run code" in message
    converted = to_victim(load(folder), place("cpu")).scores(texts)
    np.testing.assert_array_equal(converted, to_victim(load(tiny.full), place("cpu")).scores(texts))


def test_a_pickle_in_pieces_is_converted_to_one_file(
    tiny: Any, copied: Callable[[str], Path], load: Callable
) -> None:
    folder = copied("full")
    tensors = list(load_file(folder / "model.safetensors").items())
    (folder / "model.safetensors").unlink()
    names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    torch.save(dict(tensors[:9]), folder / names[0])
    torch.save(dict(tensors[9:]), folder / names[1])
    (folder / "pytorch_model.bin.index.json").write_text("{}")

    convert(refused(folder, tiny.base))

    assert load(folder).uninitialised == ()


def test_a_pickled_adapter_is_refused_with_a_command_that_converts_it(
    tiny: Any, copied: Callable[[str], Path], load: Callable
) -> None:
    folder = copied("lora")
    pickle(folder, "adapter_model.safetensors", "adapter_model.bin")

    message = refused(folder, tiny.base)
    convert(message)

    assert "expected adapter_model.safetensors" in message
    assert load(folder).uninitialised == ()


def test_a_pickled_base_under_an_adapter_is_refused(tiny: Any, copied: Callable[[str], Path]) -> None:
    base = copied("base")
    pickle(base, "model.safetensors", "pytorch_model.bin")

    assert "checkpoint mine: base: " in refused(tiny.peft, base)


def test_a_pickle_beside_safe_weights_is_not_opened(tiny: Any, copied: Callable[[str], Path], load: Callable) -> None:
    folder = copied("full")
    (folder / "pytorch_model.bin").write_bytes(b"not a pickle at all")

    assert load(folder).uninitialised == ()


def test_a_missing_folder_is_named(tiny: Any, tmp_path: Path) -> None:
    assert f"no folder {tmp_path / 'nothing'}" in refused(tmp_path / "nothing", tiny.base)


def test_a_missing_base_is_named(tiny: Any, tmp_path: Path) -> None:
    message = refused(tiny.full, tmp_path / "nothing")

    assert message.startswith(f"checkpoint mine: base: no folder {tmp_path / 'nothing'}")


def test_a_hub_id_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise ConnectionError("no network\nand a long story")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)

    message = refused("owner/name", "owner/base")

    assert message == "checkpoint mine: no folder owner/name, and not available from the hub: no network"


def test_from_the_hub_neither_pickles_nor_code_are_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = {}

    def download(reference: str, allow_patterns: list[str], etag_timeout: float) -> str:
        asked[reference] = allow_patterns
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)

    assert locate("owner/name", "checkpoint mine") == tmp_path
    names = ("chat_template.jinja", "additional_chat_templates/tool_use.jinja")
    assert all(any(fnmatch(name, pattern) for pattern in asked["owner/name"]) for name in names)
    assert not [pattern for pattern in asked["owner/name"] if pattern.endswith(("bin", "py", "pt", "*"))]


def test_a_file_in_place_of_a_folder_is_refused(tiny: Any) -> None:
    message = refused(tiny.full / "model.safetensors", tiny.base)

    assert "is a file; expected a folder or a hub id" in message


def test_a_folder_without_any_config_is_refused(tiny: Any, tmp_path: Path) -> None:
    assert "has neither config.json nor adapter_config.json" in refused(tmp_path, tiny.base)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe{", b"nonsense"])
@pytest.mark.parametrize(("name", "file"), [("full", "config.json"), ("lora", "adapter_config.json")])
def test_a_broken_config_is_named(
    tiny: Any, copied: Callable[[str], Path], name: str, file: str, content: bytes
) -> None:
    folder = copied(name)
    (folder / file).write_bytes(content)

    assert refused(folder, tiny.base).startswith(str(folder / file))


def test_a_folder_without_weights_is_refused(tiny: Any, copied: Callable[[str], Path]) -> None:
    folder = copied("full")
    (folder / "model.safetensors").unlink()

    assert refused(folder, tiny.base) == f"checkpoint mine: {folder} has no model.safetensors"


def test_a_piece_of_a_name_that_no_file_can_have_is_not_there(tiny: Any, copied: Callable[[str], Path]) -> None:
    folder = copied("full")
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "x" * 300 + ".safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    assert "x.safetensors, which is not there" in refused(folder, tiny.base)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"peft_type": None}, "has no peft_type"),
        ({"base_model_name_or_path": None}, "names no base; set base_model_name_or_path to"),
        ({"base_model_name_or_path": ""}, "names no base"),
    ],
)
def test_an_adapter_that_does_not_say_what_it_stands_on_is_refused(
    tiny: Any, copied: Callable[[str], Path], change: dict[str, object], expected: str
) -> None:
    folder = copied("lora")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | change))

    assert expected in refused(folder, tiny.base)


def test_an_adapters_base_may_be_named_relative_to_the_adapter(tiny: Any, copied: Callable[[str], Path]) -> None:
    folder, base = copied("lora"), copied("base")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "../base"}))

    assert read_checkpoint("mine", str(folder), str(tiny.base)).named_base == base


def test_the_digest_of_weights_is_that_of_the_files_content(tiny: Any, copied: Callable[[str], Path]) -> None:
    assert digest_weights(copied("base")) == digest_weights(tiny.base)
    assert digest_weights(tiny.full) != digest_weights(tiny.base)
