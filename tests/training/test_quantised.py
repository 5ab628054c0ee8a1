"""Training on a base in 4 bit, for real on this processor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from robustness.definitions.pairs import BasePrecision
from robustness.definitions.tasks import find_task
from robustness.errors import CheckpointError, DefinitionError, UsageError
from robustness.training import quantised
from robustness.training.adaptation import Base, adapt
from robustness.training.methods import find_method
from robustness.training.protocol import TrainingSettings
from robustness.training.training import train
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.files.quantised import find_fault, packed_layers
from robustness.victims.loading import load_checkpoint, place, to_victim

bitsandbytes = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: the extra qlora has it")

SST2 = find_task("sst2")
CPU = torch.device("cpu")
SETTINGS = TrainingSettings(epochs=2, batch_size=8, max_tokens=16, dev_limit=40, grid="one")


@pytest.fixture(scope="module")
def made(tiny_base: Path, data: Path, testset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished call with a full and a QLoRA checkpoint."""
    out = tmp_path_factory.mktemp("quantised") / "out"
    methods, base = ["full", "qlora"], str(tiny_base)
    train(testset, base=base, methods=methods, seeds=[0], out=out, data=data, limit=64, settings=SETTINGS)
    return out


def test_its_record_says_how_the_base_was_held(made: Path) -> None:
    record = json.loads((made / "tiny-qlora-seed0" / "training.json").read_text())

    assert record["fingerprint"]["base_precision"] == "4bit"
    assert record["base_in_4bit"]["type"] == "nf4" and record["base_in_4bit"]["double"] is True
    assert record["base_in_4bit"]["compute_dtype"] == "float32"  # the processor's, whatever is faster
    assert record["versions"]["bitsandbytes"] == bitsandbytes.__version__
    assert len(record["trials"][0]["losses"]) == SETTINGS.epochs
    full = json.loads((made / "tiny-full-seed0" / "training.json").read_text())
    assert (full["fingerprint"]["base_precision"], full["base_in_4bit"]) == ("full", None)
    assert record["parameters"] == full["parameters"] + record["parameters_trained"]  # the head is in both and twice


def test_what_is_saved_is_a_plain_adapter(made: Path, tiny_base: Path) -> None:
    folder = made / "tiny-qlora-seed0"
    tensors = load_file(folder / "adapter_model.safetensors")
    model = PeftModel.from_pretrained(BertForSequenceClassification.from_pretrained(tiny_base), str(folder))

    assert all(tensor.dtype is torch.float32 for tensor in tensors.values())
    assert all(bool(tensor.any()) for name, tensor in tensors.items() if "lora_B" in name)  # they began at zero
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(tiny_base)
    assert model.active_peft_config.peft_type == "LORA"


def test_a_run_reads_it_on_the_base_that_it_was_trained_on(made: Path, tiny_base: Path) -> None:
    checkpoint = read_checkpoint("arm", str(made / "tiny-qlora-seed0"), str(tiny_base))
    victim = to_victim(load_checkpoint(checkpoint, SST2), place("cpu"))

    assert (checkpoint.adaptation, checkpoint.base_precision) == ("qlora", BasePrecision.FOUR_BIT)
    assert len(packed_layers(victim.model)) == 13  # with the pooler


def test_its_head_starts_as_that_of_every_method(tiny_base: Path) -> None:
    method = find_method("qlora").definition
    base, models = Base(tiny_base, str(tiny_base)), []
    for packed_on in (None, CPU):
        torch.manual_seed(5)
        models.append(adapt(base, SST2, method.adapter, 10, packed_on=packed_on))
    plain, packed = ({n: p for n, p in model.named_parameters() if p.requires_grad} for model in models)

    heads = [name for name in plain if "classifier" in name]
    assert plain.keys() == packed.keys() and len(heads) == 2
    assert all(torch.equal(plain[name], packed[name]) for name in heads)
    assert not packed_layers(models[0])
    names = {name for name, module in models[1].named_modules() if module in packed_layers(models[1])}
    assert len([name for name in names if "encoder" in name]) == 12
    assert not any("classifier" in name for name in names)


def test_a_base_without_a_pooler_trains_it_in_full_precision(base_without_pooler: Path) -> None:
    method = find_method("qlora").definition
    model = adapt(Base(base_without_pooler, "base"), SST2, method.adapter, 10, packed_on=CPU)

    assert model.active_peft_config.modules_to_save is not None
    assert any("pooler" in name for name in model.active_peft_config.modules_to_save)
    assert not any("pooler" in n for n, module in model.named_modules() if module in packed_layers(model))


def test_gradients_are_those_of_the_dequantised_base(tiny_base: Path) -> None:
    method, base = find_method("qlora").definition, Base(tiny_base, str(tiny_base))
    torch.manual_seed(5)
    packed = adapt(base, SST2, method.adapter, 10, packed_on=CPU)
    torch.manual_seed(5)
    plain = adapt(base, SST2, method.adapter, 10)
    weights = {name: layer.weight for name, layer in packed.named_modules() if layer in packed_layers(packed)}
    for name, weight in weights.items():
        rounded = bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state)
        plain.get_submodule(name).weight.data = rounded
    found = []
    for model in (packed, plain):
        model.eval()
        model(input_ids=torch.tensor([[2, 7, 9, 3]]), labels=torch.tensor([1])).loss.backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})

    assert found[0].keys() == found[1].keys() and len(weights) == 13  # with the pooler
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-6) for name in found[0])


def test_a_causal_language_model_keeps_its_output_layer(tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    adapter = find_method("qlora").definition.adapter
    model = adapt(Base(tmp_path, "base"), find_task("viggo"), adapter, 5, packed_on=CPU)

    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    output = model.get_base_model().get_output_embeddings()
    assert len(packed_layers(model)) == 7 and output not in packed_layers(model)
    assert torch.equal(output.weight, plain.get_output_embeddings().weight)


def test_full_fine_tuning_of_a_packed_base_is_refused_by_name(
    made: Path, tiny_base: Path, data: Path, testset: str, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for file in tiny_base.iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    settings = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    config = json.loads((base / "config.json").read_text()) | {"quantization_config": settings}
    (base / "config.json").write_text(json.dumps(config))

    with pytest.raises(CheckpointError, match="says that bitsandbytes quantised it, and packed weights cannot be"):
        train(testset, base=str(base), methods=["full", "qlora"], seeds=[0], out=tmp_path / "out", data=data)


def test_without_bitsandbytes_nothing_is_trained(
    tiny_base: Path, data: Path, testset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantised, "find_fault", lambda _: "bitsandbytes is not installed: pip install X")

    with pytest.raises(UsageError, match="--method qlora: it trains on a base in 4 bit, and bitsandbytes is not"):
        train(testset, base=str(tiny_base), methods=["full", "qlora"], seeds=[0], out=tmp_path / "out", data=data)
    assert find_fault("cpu") is None


def test_only_an_adapter_may_stand_on_a_base_in_4_bit(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('summary = "x"\nlearning_rates = [1e-3]\nbase_precision = "4bit"\n')

    with pytest.raises(DefinitionError, match="only an adapter is trained on such a base"):
        find_method(str(file))
