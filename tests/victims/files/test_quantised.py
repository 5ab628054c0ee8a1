"""Adapters on a base in 4 bit, against transformers and peft with dequantised weights."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification, BitsAndBytesConfig

from robustness.definitions.pairs import BasePrecision
from robustness.definitions.tasks import find_task
from robustness.errors import CheckpointError
from robustness.testsets.example import Example
from robustness.victims.files import quantised
from robustness.victims.files.bases import check_precision
from robustness.victims.files.checkpoint import Checkpoint, read_checkpoint
from robustness.victims.files.quantised import find_fault, packed_layers
from robustness.victims.gate import inspect_checkpoint
from robustness.victims.heads.labels import Victim
from robustness.victims.loading import load_checkpoint, merge, place, to_untuned_victim, to_victim

bitsandbytes = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: the extra qlora has it")

SST2 = find_task("sst2")
CONFIG = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value", "dense"])
ROUNDING = 1e-5


@pytest.fixture(scope="session")
def qlora(tiny: Any, save_adapter: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter with the record of a training on a base in 4 bit."""
    folder = tmp_path_factory.mktemp("adapters") / "qlora"
    save_adapter(folder, CONFIG)
    (folder / "training.json").write_text(json.dumps({"fingerprint": {"base_precision": "4bit"}}))
    return folder


@pytest.fixture
def read(tiny: Any, qlora: Path) -> Callable[..., Checkpoint]:
    def read_as(base_precision: str | None = None, folder: Path = qlora, base: Path | None = None) -> Checkpoint:
        asked = None if base_precision is None else BasePrecision(base_precision)
        if base is not None:
            folder = Path(shutil.copytree(folder, base.parent / "moved", dirs_exist_ok=True))
            config = json.loads((folder / "adapter_config.json").read_text())
            (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(base)}))
        return read_checkpoint("arm", str(folder), str(base or tiny.base), base_precision=asked)

    return read_as


@pytest.fixture
def unrecorded(qlora: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(qlora, tmp_path / "unrecorded"))
    (folder / "training.json").unlink()
    return folder


@pytest.fixture
def no_cache() -> Iterator[None]:
    """Lets a test break the library, whose trial is otherwise done once."""
    find_fault.cache_clear()
    yield
    find_fault.cache_clear()


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """A weight as NF4 with double quantisation gives it back."""
    packed, state = bitsandbytes.functional.quantize_4bit(
        weight.detach().contiguous(), quant_type="nf4", compress_statistics=True
    )
    return bitsandbytes.functional.dequantize_4bit(packed, state)


def plain_model(folder: Path, adapter: Path | None = None, *, in_4bit: bool = True) -> torch.nn.Module:
    """The model by transformers and peft alone, with the body's matrices as 4 bits give them back."""
    model = BertForSequenceClassification.from_pretrained(folder, num_labels=2).eval()
    if in_4bit:
        for name, module in model.bert.named_modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.data = rounded(module.weight)
                assert "classifier" not in name
    return model if adapter is None else PeftModel.from_pretrained(model, str(adapter)).eval()


def plain_logits(model: torch.nn.Module, victim: Victim, texts: list[tuple[str, ...]]) -> np.ndarray:
    rows = []
    with torch.no_grad():
        for (text,) in texts:
            encoded = victim.tokenizer(text, return_tensors="pt", truncation=True, max_length=victim.max_tokens)
            rows.append(model(**encoded).logits[0].numpy())
    return np.stack(rows)


def test_its_logits_are_those_of_plain_libraries_with_dequantised_weights(
    tiny: Any, qlora: Path, read: Callable[..., Checkpoint], texts: list[tuple[str, ...]]
) -> None:
    victim = to_victim(load_checkpoint(read(), SST2), place("cpu"))

    expected = plain_logits(plain_model(tiny.base, qlora), victim, texts)
    unrounded = plain_logits(plain_model(tiny.base, qlora, in_4bit=False), victim, texts)
    assert np.abs(victim.scores(texts) - expected).max() < ROUNDING
    assert np.abs(expected - unrounded).max() > 100 * ROUNDING  # else the comparison would show nothing


def test_by_choice_its_base_is_in_full_precision(
    tiny: Any, qlora: Path, read: Callable[..., Checkpoint], texts: list[tuple[str, ...]]
) -> None:
    checkpoint = read("full")
    victim = to_victim(load_checkpoint(checkpoint, SST2), place("cpu"))

    expected = plain_logits(plain_model(tiny.base, qlora, in_4bit=False), victim, texts)
    assert (checkpoint.adaptation, checkpoint.base_precision) == ("qlora", BasePrecision.FULL)
    assert np.abs(victim.scores(texts) - expected).max() < ROUNDING
    assert check_precision(checkpoint) == (
        "it was trained on a base in 4 bit and is evaluated on a base in full precision, as asked"
    )


def test_it_is_never_merged(read: Callable[..., Checkpoint], clean: list[Example]) -> None:
    facts = inspect_checkpoint(read(), SST2, place("cpu"), clean)

    assert merge(load_checkpoint(read(), SST2)) is None
    assert (facts.stays_apart, facts.merge_difference) == (True, None)


def test_gradients_pass_through_its_layers_even_after_texts_were_scored(
    tiny: Any, qlora: Path, read: Callable[..., Checkpoint], clean: list[Example]
) -> None:
    victim = to_victim(load_checkpoint(read(), SST2), place("cpu"))
    victim.scores([each.texts for each in clean])  # by default it would repack the weights, and no gradient pass
    batch = victim.embed(clean[:4])
    leaf = batch.embeddings.clone().requires_grad_()
    (found,) = torch.autograd.grad(batch.forward(leaf, batch.inputs).square().sum(), leaf)
    model = plain_model(tiny.base, qlora)
    other = batch.embeddings.clone().requires_grad_()
    given = {name: each for name, each in batch.inputs.items() if name != "input_ids"}
    (expected,) = torch.autograd.grad(model(inputs_embeds=other, **given).logits.square().sum(), other)

    assert float(expected.abs().max()) > 100 * ROUNDING
    assert torch.allclose(found, expected, atol=ROUNDING)


def test_heads_and_modules_without_weights_stay_in_full_precision(
    tiny: Any, qlora: Path, read: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    base = Path(shutil.copytree(tiny.base, tmp_path / "base"))
    tensors = load_file(base / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if "pooler" not in n}, base / "model.safetensors", {"format": "pt"})
    model = load_checkpoint(read(base=base), SST2).unmerged

    packed = {name for name, module in model.named_modules() if module in packed_layers(model)}
    assert packed and not any("pooler" in name or "classifier" in name for name in packed)


def test_the_untuned_victim_is_the_base_in_4_bit_with_the_trained_head(
    tiny: Any, qlora: Path, read: Callable[..., Checkpoint], texts: list[tuple[str, ...]]
) -> None:
    untuned = to_untuned_victim(load_checkpoint(read(), SST2), place("cpu"))
    assert untuned is not None
    trained, expected = dict(plain_model(tiny.base, qlora).named_parameters()), plain_model(tiny.base)
    for name, parameter in expected.classifier.named_parameters():
        parameter.data = trained[f"base_model.model.classifier.modules_to_save.default.{name}"]

    assert np.abs(untuned.scores(texts) - plain_logits(expected, untuned, texts)).max() < ROUNDING


@pytest.mark.parametrize(
    ("recorded", "asked", "expected"),
    [
        ("4bit", None, ("qlora", "4bit")),
        ("full", None, ("lora", "full")),
        (None, None, ("lora", "full")),
        (None, "4bit", ("qlora", "4bit")),
        ("full", "4bit", ("lora", "4bit")),
        ("unheard-of", None, ("lora", "full")),
    ],
)
def test_its_training_and_the_question_decide_name_and_base(
    read: Callable[..., Checkpoint], unrecorded: Path, recorded: str | None, asked: str | None, expected: tuple
) -> None:
    if recorded:
        (unrecorded / "training.json").write_text(json.dumps({"fingerprint": {"base_precision": recorded}}))
    checkpoint = read(asked, unrecorded)

    assert (checkpoint.adaptation, checkpoint.base_precision) == expected


def test_an_adapter_trained_in_full_precision_is_named_on_a_base_in_4_bit(
    read: Callable[..., Checkpoint], unrecorded: Path, clean: list[Example]
) -> None:
    (unrecorded / "training.json").write_text(json.dumps({"fingerprint": {"base_precision": "full"}}))
    notes = inspect_checkpoint(read("4bit", unrecorded), SST2, place("cpu"), clean).notes

    assert "arm: it was trained on a base in full precision and is evaluated on a base in 4 bit, as asked" in notes


def test_a_base_whose_own_weights_are_packed_shows_the_training(
    tiny: Any, read: Callable[..., Checkpoint], unrecorded: Path, tmp_path: Path, texts: list[tuple[str, ...]]
) -> None:
    packing = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        llm_int8_skip_modules=["classifier"],
    )
    packed = AutoModelForSequenceClassification.from_pretrained(
        tiny.base, quantization_config=packing, num_labels=2, device_map={"": "cpu"}, dtype=torch.float32
    )
    packed.save_pretrained(tmp_path / "packed")
    for file in tiny.base.glob("*token*"):
        shutil.copy(file, tmp_path / "packed")
    checkpoint = read(None, unrecorded, tmp_path / "packed")
    own = to_victim(load_checkpoint(checkpoint, SST2), place("cpu"))
    full = to_victim(load_checkpoint(read("full", unrecorded, tmp_path / "packed"), SST2), place("cpu"))

    expected = plain_logits(plain_model(tiny.base, unrecorded), own, texts)
    assert (checkpoint.adaptation, checkpoint.base_precision) == ("qlora", "4bit")
    assert np.abs(own.scores(texts) - expected).max() < ROUNDING
    assert np.abs(full.scores(texts) - expected).max() < ROUNDING  # dequantised, as the gate would say
    assert len(packed_layers(own.model)) > 0 == len(packed_layers(full.model))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quant_method": "gptq", "bits": 4}, "says that gptq quantised it, so it cannot be held in 4 bit"),
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_storage": "bfloat16"},
            "bnb_4bit_quant_storage is 'bfloat16'; expected uint8",
        ),
    ],
)
def test_a_base_that_is_quantised_otherwise_is_refused(
    tiny: Any, read: Callable[..., Checkpoint], tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    base = Path(shutil.copytree(tiny.base, tmp_path / "base"))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))

    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(read("4bit", base=base), SST2)


@pytest.mark.usefixtures("no_cache")
def test_without_bitsandbytes_the_message_has_the_install_line(
    read: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)

    with pytest.raises(CheckpointError, match=r"pip install 'peft-robustness\[qlora\]'; or take the base in full"):
        load_checkpoint(replace(read(), packed_by=""), SST2)


@pytest.mark.usefixtures("no_cache")
def test_a_device_without_kernels_is_refused_by_name(
    read: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NotImplementedError("no kernel image is available")

    monkeypatch.setattr(bitsandbytes, "matmul_4bit", fail)

    with pytest.raises(CheckpointError, match="bitsandbytes has no kernels for cpu: NotImplementedError: no kernel"):
        load_checkpoint(read(), SST2)


@pytest.mark.usefixtures("no_cache")
def test_a_device_that_computes_wrongly_is_refused(
    read: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bitsandbytes, "matmul_4bit", lambda rows, *_, **__: torch.zeros_like(rows))

    with pytest.raises(CheckpointError, match="computes wrongly on cpu, with errors of 1"):
        load_checkpoint(read(), SST2)


def test_a_worker_with_another_bitsandbytes_is_refused(read: Callable[..., Checkpoint]) -> None:
    other = replace(read(), packed_by="0.1.0")

    with pytest.raises(CheckpointError, match=r"in 4 bit by bitsandbytes 0\.1\.0, and here is .*; install the same"):
        load_checkpoint(other, SST2)


def test_the_gate_says_what_4_bits_change_in_both_arms(
    tiny: Any, qlora: Path, read: Callable[..., Checkpoint], clean: list[Example]
) -> None:
    full = read_checkpoint("full", str(tiny.full), str(tiny.base))
    asked = [each.texts for each in clean]
    victim = to_victim(load_checkpoint(full, SST2), place("cpu"))
    for checkpoint, models in (
        (full, [plain_model(tiny.full, in_4bit=each) for each in (False, True)]),
        (read(), [plain_model(tiny.base, qlora, in_4bit=each) for each in (False, True)]),
    ):
        effect = inspect_checkpoint(checkpoint, SST2, place("cpu"), clean, quantised=True).quantisation
        logits = [plain_logits(model, victim, asked)[:, list(victim.label_columns)] for model in models]
        plain, packed = (torch.tensor(each).softmax(dim=1).numpy() for each in logits)

        assert effect is not None and effect.n == len(clean)
        assert effect.changed == pytest.approx((plain.argmax(axis=1) != packed.argmax(axis=1)).mean())
        assert effect.probability == pytest.approx(np.abs(plain - packed).max(), abs=ROUNDING)
    assert inspect_checkpoint(full, SST2, place("cpu"), clean).quantisation is None


def test_packed_numbers_are_counted_as_weights() -> None:
    layer = bitsandbytes.nn.Linear4bit(48, 40, bias=False, quant_type="nf4").to("cpu")

    assert layer.weight.numel() < 48 * 40 == quantised.count_numbers(layer.weight)
