"""Pickles that run code: none of the ways that lead to one is taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import MultitaskPromptTuningConfig
from safetensors.torch import load_file, save_file

from robustness.errors import CheckpointError
from robustness.victims.files.adapters import UNSERVED
from robustness.victims.files.checkpoint import read_checkpoint

INDEX = "model.safetensors.index.json"


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, ran: Path) -> None:
        self._ran = ran

    def __reduce__(self) -> Any:
        return open, (str(self._ran), "w")


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """The file that is there once a hostile pickle has been opened."""
    return tmp_path / "ran"


@pytest.fixture
def lay(ran: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Writes a hostile pickle, as would work on a torch.load that trusts what it opens."""
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *given, **options: load(*given, **options | {"weights_only": False}))

    def write(file: Path) -> None:
        torch.save({"weight": Hostile(ran)}, file)
        torch.load(file)
        assert ran.exists()
        ran.unlink()

    return write


def point(folder: Path, file: object, name: str = INDEX) -> None:
    """Has an index name one file for all tensors; the model's own is gone."""
    names = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "piece.safetensors")
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, file)}))


def refused(action: Callable[[], object]) -> str:
    with pytest.raises(CheckpointError) as caught:
        action()
    return str(caught.value)


def test_an_index_beside_a_pickled_adapter_is_no_adapter(
    tiny: Any, copied: Callable[[str], Path], load: Callable, lay: Callable, ran: Path
) -> None:
    folder = copied("lora")
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.safetensors.index.json").write_text("{}")
    lay(folder / "adapter_model.bin")

    message = refused(lambda: load(folder))

    assert "adapter_model.bin is a pickle" in message
    assert not ran.exists()


@pytest.mark.parametrize("name", ["full", "base"])
def test_an_index_that_names_a_pickle_elsewhere_is_refused(
    tiny: Any, copied: Callable[[str], Path], load: Callable, lay: Callable, ran: Path, name: str
) -> None:
    folder = copied(name)
    lay(folder.parent / "pytorch_model.bin")
    point(folder, "../pytorch_model.bin")

    message = refused(lambda: load(folder) if name == "full" else load(tiny.peft, base=folder))

    assert f"{folder / INDEX} names '../pytorch_model.bin'; expected safetensors files beside it" in message
    assert not ran.exists()


@pytest.mark.parametrize("file", ["model.bin", "../piece.safetensors", "/piece.safetensors", "a\\b.safetensors", 7])
def test_an_index_names_nothing_but_safetensors_files_beside_it(
    tiny: Any, copied: Callable[[str], Path], file: object
) -> None:
    folder = copied("full")
    point(folder, file)

    assert f"names {str(file)!r}" in refused(lambda: read_checkpoint("full", str(folder), str(tiny.base)))


def test_an_index_whose_pieces_are_missing_is_refused(tiny: Any, copied: Callable[[str], Path]) -> None:
    folder = copied("full")
    point(folder, "gone.safetensors")

    assert "names gone.safetensors, which is not there" in refused(
        lambda: read_checkpoint("full", str(folder), str(tiny.base))
    )
    (folder / INDEX).write_text("{}")
    assert "has no weight_map" in refused(lambda: read_checkpoint("full", str(folder), str(tiny.base)))


def test_a_model_that_is_split_over_safetensors_files_is_loaded(
    tiny: Any, copied: Callable[[str], Path], load: Callable
) -> None:
    folder = copied("full")
    tensors = list(load_file(folder / "model.safetensors").items())
    (folder / "model.safetensors").unlink()
    places = {}
    for number, part in enumerate((tensors[:9], tensors[9:])):
        file = f"model-0000{number + 1}-of-00002.safetensors"
        save_file(dict(part), folder / file, {"format": "pt"})
        places |= {name: file for name, _ in part}
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))

    loaded = load(folder)

    assert loaded.uninitialised == ()
    whole = load(tiny.full).unmerged.state_dict()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in loaded.unmerged.state_dict().items())


def test_a_base_that_is_itself_an_adapter_leads_nowhere(
    tiny: Any, copied: Callable[[str], Path], load: Callable, lay: Callable, ran: Path
) -> None:
    folder = copied("base")
    config = json.loads((tiny.peft / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config))
    lay(folder / "adapter_model.bin")

    message = refused(lambda: load(tiny.peft, base=folder))

    assert f"holds a whole model; remove {folder / 'adapter_config.json'}" in message
    assert not ran.exists()


def test_a_config_that_names_other_weights_is_refused(
    tiny: Any, copied: Callable[[str], Path], load: Callable, lay: Callable, ran: Path
) -> None:
    folder = copied("full")
    point(folder, "hostile.bin", "other.safetensors.index.json")
    lay(folder / "hostile.bin")
    (folder / "piece.safetensors").rename(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_weights": "other.safetensors.index.json"}))

    assert "has transformers_weights" in refused(lambda: load(folder))
    assert not ran.exists()


def test_whatever_a_config_leads_a_library_to_is_not_unpickled(
    tiny: Any,
    copied: Callable[[str], Path],
    load: Callable,
    lay: Callable,
    ran: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(UNSERVED, "MULTITASK_PROMPT_TUNING")  # the method whose config names a pickle
    folder = copied("lora")
    lay(folder / "start.bin")
    config = MultitaskPromptTuningConfig(
        task_type="SEQ_CLS",
        num_virtual_tokens=2,
        num_tasks=1,
        prompt_tuning_init="ONLY_SOURCE_SHARED",
        prompt_tuning_init_state_dict_path=str(folder / "start.bin"),
        base_model_name_or_path=str(tiny.base),
    )
    config.save_pretrained(folder)
    trusting = torch.load

    message = refused(lambda: load(folder))

    assert f"{folder / 'start.bin'} would be unpickled" in message
    assert not ran.exists()
    assert torch.load is trusting
