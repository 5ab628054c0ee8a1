from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftConfig, PrefixTuningConfig, PromptTuningConfig
from safetensors.torch import load_file, save_file

from robustness.definitions.tasks import find_task
from robustness.errors import CheckpointError, UsageError
from robustness.victims.files.checkpoint import check_weights, read_checkpoint
from robustness.victims.loading import (
    as_victim,
    digest_files,
    digest_victim,
    load_checkpoint,
    merge,
    place,
    to_untuned_victim,
    to_victim,
)

METHODS: dict[str, tuple[PeftConfig, bool]] = {
    "lora": (LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"]), True),
    "dora": (LoraConfig(task_type="SEQ_CLS", r=2, use_dora=True, target_modules=["query"]), True),
    "adalora": (
        AdaLoraConfig(task_type="SEQ_CLS", init_r=2, target_r=2, total_step=10_000, target_modules=["query"]),
        True,
    ),
    "ia3": (IA3Config(task_type="SEQ_CLS", target_modules=["key", "value"], feedforward_modules=[]), True),
    "prefix": (PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4), False),
    "prompt": (PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4), False),
}


def message_of(load: Callable, *arguments: object, **options: object) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("method", METHODS)
def test_every_method_loads_and_answers_as_the_model_that_was_saved(
    tmp_path: Path, load: Callable, save_adapter: Callable, texts: list, tokenizer: Any, method: str
) -> None:
    config, mergeable = METHODS[method]
    model = save_adapter(tmp_path / method, config)

    loaded = load(tmp_path / method)
    victim = to_victim(loaded, place("cpu"))

    assert (loaded.checkpoint.adaptation, loaded.uninitialised) == (method, ())
    assert (merge(load(tmp_path / method)) is not None) is mergeable
    with torch.no_grad():
        expected = [
            model(**tokenizer(*text, truncation=True, max_length=60, return_tensors="pt")).logits[0].numpy()
            for text in texts
        ]
    np.testing.assert_allclose(victim.scores(texts), expected, atol=1e-4)


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_learnt_tokens_take_positions_from_long_texts(
    tmp_path: Path, load: Callable, save_adapter: Callable, method: str
) -> None:
    save_adapter(tmp_path / method, METHODS[method][0])

    victim = to_victim(load(tmp_path / method), place("cpu"))
    scores = victim.scores([("fine " * 100,), ("dull",)])

    assert victim.max_tokens == 60
    assert np.isfinite(scores).all()
    assert len(victim.truncated) == 1


@pytest.mark.parametrize("method", ["lora", "dora", "ia3"])
def test_merging_changes_nothing_but_rounding(
    tmp_path: Path, load: Callable, save_adapter: Callable, texts: list, method: str
) -> None:
    save_adapter(tmp_path / method, METHODS[method][0])
    loaded = load(tmp_path / method)

    unmerged = as_victim(loaded, loaded.unmerged, place("cpu")).scores(texts)
    merged = to_victim(loaded, place("cpu")).scores(texts)

    np.testing.assert_allclose(merged, unmerged, atol=1e-4)


def test_a_model_is_loaded_in_evaluation_mode_and_full_precision(tiny: Any, load: Callable) -> None:
    for folder in (tiny.full, tiny.peft):
        model = load(folder).unmerged

        assert not any(module.training for module in model.modules())
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_reversed_id2label_gives_the_same_scores_in_the_tasks_order(
    tiny: Any, copied: Callable[[str], Path], load: Callable, texts: list
) -> None:
    folder = copied("full")
    edit_json(folder / "config.json", id2label={"0": "positive", "1": "negative"}, label2id={})

    def swap(tensors: dict[str, torch.Tensor]) -> None:
        for name in ("classifier.weight", "classifier.bias"):
            tensors[name] = tensors[name].flip(0).contiguous()

    edit_tensors(folder / "model.safetensors", swap)
    expected = to_victim(load(tiny.full), place("cpu")).scores(texts)

    np.testing.assert_array_equal(to_victim(load(folder), place("cpu")).scores(texts), expected)


@pytest.mark.parametrize("name", ["full", "lora"])
def test_labels_without_names_are_refused(copied: Callable[[str], Path], load: Callable, name: str) -> None:
    folder = copied(name)
    edit_json(folder / "config.json", id2label={"0": "LABEL_0", "1": "LABEL_1"}, label2id={})

    assert f"checkpoint {name}: label-map: its labels (0: LABEL_0, 1: LABEL_1)" in message_of(load, folder)


@pytest.mark.parametrize("value", [None, [], ["negative", "positive"], {"a": "negative"}, 3])
def test_an_adapter_whose_labels_are_no_table_is_refused(
    copied: Callable[[str], Path], load: Callable, value: object
) -> None:
    folder = copied("lora")
    edit_json(folder / "config.json", id2label=value)

    assert "checkpoint lora: label-map: " in message_of(load, folder)


def test_an_adapter_whose_labels_nobody_names_is_told_what_to_write(
    copied: Callable[[str], Path], load: Callable
) -> None:
    folder = copied("lora")
    (folder / "config.json").unlink()

    message = message_of(load, folder)
    (folder / "config.json").write_text(message.partition("as in ")[2])

    assert "label-map: no config.json names its labels" in message
    assert load(folder).label_columns == (0, 1)


def test_a_checkpoint_of_another_task_is_refused(tiny: Any, load: Callable) -> None:
    assert "cannot be mapped by name to those of rte" in message_of(load, tiny.full, task="rte")


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
@pytest.mark.parametrize(("name", "file"), [("full", "model.safetensors"), ("lora", "adapter_model.safetensors")])
def test_truncated_weights_are_refused_in_one_line(
    copied: Callable[[str], Path], load: Callable, name: str, file: str, keep: int
) -> None:
    folder = copied(name)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:keep])

    assert message_of(load, folder).startswith(f"checkpoint {name}: ")


def cut_header(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "nothing in it": lambda content: b"",
    "no header": lambda content: content[:8],
    "header longer than the file": lambda content: (2**40).to_bytes(8, "little") + content[8:],
    "header too short": lambda content: (
        (int.from_bytes(content[:8], "little") - 8).to_bytes(8, "little") + content[8:]
    ),
    "header empty": lambda content: bytes(8) + content[8:],
    "first byte of the header": lambda content: cut_header(content, 8),
    "an offset": lambda content: cut_header(content, content.index(b'"data_offsets":[') + 16),
    "a shape": lambda content: cut_header(content, content.index(b'"shape":[') + 9),
    "a type": lambda content: content.replace(b'"F32"', b'"G32"', 1),
    "bytes too many": lambda content: content + b"more",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    ("name", "file"),
    [("full", "model.safetensors"), ("lora", "adapter_model.safetensors"), ("base", "model.safetensors")],
)
def test_damaged_weights_are_refused_by_the_files_name(
    tiny: Any, copied: Callable[[str], Path], load: Callable, name: str, file: str, damage: str
) -> None:
    folder = copied(name)
    (folder / file).write_bytes(DAMAGE[damage]((folder / file).read_bytes()))

    message = message_of(load, tiny.peft, folder) if name == "base" else message_of(load, folder)

    assert f"{folder / file} cannot be read: " in message


def test_no_flipped_bit_of_a_header_does_more_than_a_refusal(tiny: Any, copied: Callable[[str], Path]) -> None:
    folder = copied("lora")
    file = folder / "adapter_model.safetensors"
    content = file.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    refused = 0

    for at in range(header):
        damaged = bytearray(content)
        damaged[at] ^= (1, 4, 128)[at % 3]
        file.write_bytes(damaged)
        try:
            check_weights("lora", folder, file.name)
        except CheckpointError as error:
            assert str(file) in str(error)
            refused += 1

    assert header / 3 < refused < header  # a name with another letter in it is a tensor's name still


def test_an_unknown_kind_of_adapter_is_refused(copied: Callable[[str], Path], load: Callable) -> None:
    folder = copied("lora")
    edit_json(folder / "adapter_config.json", peft_type="MAGIC")

    assert "checkpoint lora: " in message_of(load, folder)


def test_an_unknown_kind_of_model_is_refused(copied: Callable[[str], Path], load: Callable) -> None:
    folder = copied("full")
    edit_json(folder / "config.json", model_type="magic", architectures=["Magic"])

    assert "checkpoint full: " in message_of(load, folder)


def test_code_beside_a_checkpoint_is_never_run(
    copied: Callable[[str], Path], load: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt="": "y")
    folder = copied("full")
    (folder / "magic.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    edit_json(
        folder / "config.json",
        model_type="magic",
        auto_map={"AutoConfig": "magic.Config", "AutoModelForSequenceClassification": "magic.Model"},
    )

    message = message_of(load, folder)

    assert "cannot be loaded" in message
    assert not (tmp_path / "ran").exists()


def test_an_adapter_of_another_shape_is_refused(copied: Callable[[str], Path], load: Callable) -> None:
    folder = copied("lora")
    edit_json(folder / "adapter_config.json", r=8)

    assert "the adapter does not fit the base" in message_of(load, folder)


def test_an_adapter_whose_file_lacks_a_layer_is_refused(copied: Callable[[str], Path], load: Callable) -> None:
    folder = copied("lora")

    def drop(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if "layer.1." in name]:
            del tensors[name]

    edit_tensors(folder / "adapter_model.safetensors", drop)

    message = message_of(load, folder)

    assert "the adapter does not fit the base" in message
    assert "its file lacks" in message
    assert "(4 such tensors)" in message


def test_an_adapter_with_more_layers_than_the_base_is_refused(copied: Callable[[str], Path], load: Callable) -> None:
    folder = copied("lora")

    def add(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if "layer.1." in name]:
            tensors[name.replace("layer.1.", "layer.2.")] = tensors[name].clone()

    edit_tensors(folder / "adapter_model.safetensors", add)

    assert "the base has no place for its" in message_of(load, folder)


def test_an_adapter_of_another_base_is_refused(copied: Callable[[str], Path], load: Callable) -> None:
    base = copied("base")

    def nudge(tensors: dict[str, torch.Tensor]) -> None:
        tensors["embeddings.word_embeddings.weight"][0, 0] += 1e-3

    edit_tensors(base / "model.safetensors", nudge)

    message = message_of(load, copied("lora"), base=base)

    assert "checkpoint lora: same-base: " in message
    assert str(base) in message


def test_the_same_base_in_another_place_is_the_same_base(
    tiny: Any, copied: Callable[[str], Path], load: Callable, texts: list
) -> None:
    moved = to_victim(load(tiny.peft, base=copied("base")), place("cpu"))

    np.testing.assert_array_equal(moved.scores(texts), to_victim(load(tiny.peft), place("cpu")).scores(texts))


def test_an_adapter_without_a_tokenizer_takes_the_bases(
    tiny: Any, copied: Callable[[str], Path], load: Callable, tokenizer: Any
) -> None:
    folder = copied("lora")
    for file in folder.glob("*token*"):
        file.unlink()

    assert load(folder).tokenizer.get_vocab() == tokenizer.get_vocab()


def test_a_tokenizer_without_its_words_is_refused(copied: Callable[[str], Path], load: Callable) -> None:
    """transformers 5 makes one of special tokens alone, to which every text is the same."""
    folder = copied("full")
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)

    assert f"checkpoint full: no tokenizer in {folder}: " in message_of(load, folder)


def test_a_limit_that_is_no_number_is_named(copied: Callable[[str], Path], load: Callable) -> None:
    folder = copied("full")
    edit_json(folder / "tokenizer_config.json", model_max_length="512")

    assert "model_max_length in its tokenizer_config.json is '512'; expected a number" in message_of(load, folder)


@pytest.mark.parametrize("settings", [{"return_dict": False}, {"torchscript": True}])
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_model_that_answers_by_position_answers_the_same(
    tiny: Any, copied: Callable[[str], Path], kind: str, settings: dict[str, bool]
) -> None:
    """A base too, on which the adapter stands."""
    base, folder = copied("base"), copied(kind)
    for each in (base, folder):
        edit_json(each / "config.json", **settings)
    if kind == "lora":
        edit_json(folder / "adapter_config.json", base_model_name_or_path=str(base))
    task, texts = find_task("sst2"), [("the day is fine .",), ("a",)]

    scores = [
        to_victim(load_checkpoint(read_checkpoint(kind, str(where), str(on)), task), place("cpu")).scores(texts)
        for where, on in ((folder, base), (getattr(tiny, "peft" if kind == "lora" else kind), tiny.base))
    ]

    np.testing.assert_array_equal(*scores)


def test_a_broken_tokenizer_is_refused_in_one_line(copied: Callable[[str], Path], load: Callable) -> None:
    folder = copied("full")
    (folder / "tokenizer.json").write_text("{")
    (folder / "vocab.txt").unlink(missing_ok=True)

    assert "checkpoint full: no tokenizer in" in message_of(load, folder)


@pytest.mark.parametrize("device", ["gpu", "CPU", "", "cuda:", "cuda:x", "cuda:-1", "cpu "])
def test_an_unknown_device_is_a_usage_error(device: str) -> None:
    with pytest.raises(UsageError, match="unknown device; expected auto, cpu, cuda or cuda:N"):
        place(device)


@pytest.mark.parametrize("dtype", ["float16", "fp32", "", "float64"])
def test_an_unknown_dtype_is_a_usage_error(dtype: str) -> None:
    with pytest.raises(UsageError, match="unknown dtype; expected float32 or bfloat16"):
        place("cpu", dtype)


def test_a_device_that_is_not_there_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(UsageError, match="this machine has no CUDA device; use --device cpu or auto"):
        place("cuda")
    assert place("auto").device == torch.device("cpu")


def test_a_device_number_past_the_last_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    with pytest.raises(UsageError, match=r"--device cuda:2: this machine has 2 CUDA"):
        place("cuda:2")
    assert place("cuda:1").device == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["chat_template.jinja", "additional_chat_templates/tool_use.jinja"])
def test_files_with_an_edited_chat_template_have_another_digest(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{{ messages[0].content }}")
    before = digest_files(tmp_path)

    (tmp_path / name).write_text("{{ messages[1].content }}")

    assert digest_files(tmp_path) != before


def test_a_victims_digest_is_that_of_what_its_scores_depend_on(tiny: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny.peft, tmp_path / "lora")

    def digest(dtype: str = "float32") -> str:
        checkpoint = read_checkpoint("lora", str(folder), str(tiny.base))
        return digest_victim(
            checkpoint, to_victim(load_checkpoint(checkpoint, find_task("sst2")), place("cpu", dtype))
        )

    before = digest()
    assert digest() == before
    with torch.backends.mkldnn.flags(enabled=False):  # which need not have the instructions: nothing is scored
        assert digest("bfloat16") != before

    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 2 * config["lora_alpha"]}))

    assert digest() != before


@pytest.mark.parametrize("arm", ["full", "peft"])
def test_the_untuned_base_answers_under_the_head_that_was_trained(
    tiny: Any, load: Callable, texts: list, tokenizer: Any, arm: str
) -> None:
    trained = load(getattr(tiny, arm))
    model = merge(trained)
    with torch.no_grad():
        weights = dict(model.named_parameters())
        for name, tensor in load_file(tiny.base / "model.safetensors").items():
            weights[f"bert.{name.removeprefix('bert.')}"].copy_(tensor)
        expected = [
            model(**tokenizer(*text, truncation=True, max_length=64, return_tensors="pt")).logits[0].numpy()
            for text in texts
        ]

    untuned = to_untuned_victim(load(getattr(tiny, arm)), place("cpu"))

    assert untuned is not None
    np.testing.assert_allclose(untuned.scores(texts), expected, atol=1e-5)
    assert (
        np.abs(untuned.scores(texts) - to_victim(load(getattr(tiny, arm)), place("cpu")).scores(texts)).max() > 0.01
    )


def test_learnt_prompts_leave_no_head_to_ask_the_base_with(
    tmp_path: Path, load: Callable, save_adapter: Callable
) -> None:
    save_adapter(tmp_path / "prompt", METHODS["prompt"][0])

    assert to_untuned_victim(load(tmp_path / "prompt"), place("cpu")) is None
