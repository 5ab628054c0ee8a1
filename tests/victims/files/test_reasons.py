"""What a library cannot make a model of is refused by the file's line, and by what it should say."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, BertForSequenceClassification

from robustness.definitions.tasks import find_task
from robustness.errors import RobustnessError
from robustness.tasks.gold import GoldSpan
from robustness.training.adaptation import _load_base
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.gate import inspect_checkpoint
from robustness.victims.inputs import empty_model
from robustness.victims.loading import place, to_victim

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 133466304\n"


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusal(attempt: Callable[..., object], *given: Any) -> str:
    with pytest.raises(RobustnessError) as caught:
        attempt(*given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("lora_alpha", "sixteen", "'sixteen'"),
        ("lora_alpha", [16], "[16]"),
        ("r", "8", "'8'"),
        ("r", None, "None"),
        ("lora_dropout", "0.1", "'0.1'"),
    ],
)
def test_a_setting_of_an_adapter_that_is_no_number_is_named(
    copied: Callable[[str], Path], load: Callable, key: str, value: object, shown: str
) -> None:
    folder = copied("lora")
    edit(folder / "adapter_config.json", **{key: value})

    assert f"{folder / 'adapter_config.json'}: {key} is {shown}; expected a number" in refusal(load, folder)


def test_a_number_that_no_setting_is_without_is_no_reason(copied: Callable[[str], Path], load: Callable) -> None:
    """None is peft's own word for a setting that is not given."""
    folder = copied("lora")
    edit(folder / "adapter_config.json", layers_to_transform=None, r=3)

    assert "has the size" in refusal(load, folder)


@pytest.mark.parametrize("name", ["full", "base"])
def test_an_activation_that_transformers_does_not_know_is_named_with_its_nearest(
    tiny: Any, copied: Callable[[str], Path], load: Callable, name: str
) -> None:
    folder = copied(name)
    edit(folder / "config.json", hidden_act="gelux")

    said = refusal(load, folder) if name == "full" else refusal(load, tiny.peft, folder)

    assert f"{folder} cannot be loaded: hidden_act in its config.json is 'gelux', which transformers" in said
    assert said.endswith("does not know; did you mean 'gelu'?")


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("kind", ["flash_attention_2", "nothing"])
def test_a_kind_of_attention_that_is_not_installed_is_named_with_what_to_set(
    copied: Callable[[str], Path], load: Callable, key: str, kind: str
) -> None:
    folder = copied("full")
    edit(folder / "config.json", **{key: kind})
    try:
        BertForSequenceClassification.from_pretrained(folder)
    except (ImportError, ValueError):
        said = refusal(load, folder)
    else:  # transformers 4 reads neither key of a file
        assert load(folder).uninitialised == ()
        return

    assert f"{key} in its config.json is {kind!r}, which is not available here: " in said
    assert said.endswith("; take it out, or set it to 'sdpa' or 'eager', which compute the same")


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_attention_that_is_compiled_for_each_length_is_refused_at_once(
    copied: Callable[[str], Path], load: Callable, key: str
) -> None:
    folders = [copied(name) for name in ("full", "base")]
    for folder in folders:
        edit(folder / "config.json", **{key: "flex_attention"})
    if AutoConfig.from_pretrained(folders[0])._attn_implementation != "flex_attention":
        assert load(folders[0]).uninitialised == ()  # transformers 4 reads neither key of a file
        return
    started = time.monotonic()

    said = [refusal(load, folders[0]), refusal(lambda: _load_base(folders[1], find_task("sst2")))]

    assert time.monotonic() - started < 10  # a load took 45 seconds and more
    for folder, words in zip(folders, said, strict=True):
        assert f"{folder / 'config.json'}: {key} is 'flex_attention', which is compiled for each length" in words
        assert words.endswith("; take it out, or set it to 'sdpa' or 'eager', which compute the same")


def test_training_and_models_without_weights_give_the_same_reasons(copied: Callable[[str], Path]) -> None:
    folder = copied("base")
    edit(folder / "config.json", hidden_act="gelux")

    for attempt in (lambda: _load_base(folder, find_task("sst2")), lambda: empty_model(folder)):
        assert "hidden_act in its config.json is 'gelux'" in refusal(attempt)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("full", "config.json"),
        ("full", "model.safetensors"),
        ("full", "tokenizer.json"),
        ("full", "tokenizer_config.json"),
        ("lora", "adapter_config.json"),
        ("lora", "adapter_model.safetensors"),
    ],
)
def test_a_file_that_git_did_not_fetch_is_told_with_the_command_that_fetches_it(
    copied: Callable[[str], Path], load: Callable, name: str, file: str
) -> None:
    folder = copied(name)
    (folder / file).write_text(POINTER)

    assert f"{file} is Git LFS's pointer to the file, not the file: run git lfs pull in {folder}" in refusal(
        load, folder
    )


def test_a_pointer_in_the_place_of_a_list_of_words_is_no_list_of_three_words(
    copied: Callable[[str], Path], load: Callable
) -> None:
    folder = copied("full")
    (folder / "tokenizer.json").unlink(missing_ok=True)
    (folder / "vocab.txt").write_text(POINTER)

    assert "vocab.txt is Git LFS's pointer" in refusal(load, folder)


def test_a_pointer_that_nothing_reads_is_no_reason(
    tiny: Any, copied: Callable[[str], Path], load: Callable, texts: list[tuple[str, ...]]
) -> None:
    folder = copied("full")
    (folder / "other.safetensors").write_text(POINTER)

    scores = to_victim(load(folder), place("cpu")).scores(texts)

    assert np.array_equal(scores, to_victim(load(tiny.full), place("cpu")).scores(texts))


def test_a_base_that_git_did_not_fetch_is_told_before_training(copied: Callable[[str], Path]) -> None:
    folder = copied("base")
    (folder / "model.safetensors").write_text(POINTER)

    assert "model.safetensors is Git LFS's pointer" in refusal(_load_base, folder, find_task("sst2"))


@pytest.mark.parametrize("name", ["full", "base"])
def test_an_encoder_that_its_config_makes_a_decoder_is_refused_for_labels(
    tiny: Any, copied: Callable[[str], Path], load: Callable, name: str
) -> None:
    """Its first token, which the head reads, sees no other: plain transformers gives every text one answer."""
    folder = copied(name)
    edit(folder / "config.json", is_decoder=True)

    said = refusal(load, folder) if name == "full" else refusal(load, tiny.peft, folder)

    plain = BertForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        one, other = (plain(input_ids=torch.tensor([[2, *ids, 3]])).logits for ids in ([5, 6, 7], [8, 9, 10]))
    assert torch.equal(one, other)
    assert said.startswith(f"{folder}/config.json: is_decoder is true, so the first token of a text")
    assert said.endswith("expected an encoder: set is_decoder to false")


def test_a_reader_below_its_floor_is_told_that_its_config_makes_it_a_decoder(answering: Any, tmp_path: Path) -> None:
    """Its tokens see what stands before them, so that spans are told apart, but not as it was trained."""
    folder = Path(shutil.copytree(answering.full, tmp_path / "full"))
    edit(folder / "config.json", is_decoder=True)
    told = [(e, answer.text) for e in answering.examples() for answer in e.answers]
    paragraphs = [replace(e, texts=(e.texts[0], text), answers=(GoldSpan(text, 0),)) for e, text in told]
    checkpoint = read_checkpoint("full", str(folder), str(answering.base))

    facts = inspect_checkpoint(checkpoint, find_task("squad"), place("cpu"), paragraphs)

    assert "is_decoder: true, by which no token sees those behind it: set it to false" in facts.failures[0]
