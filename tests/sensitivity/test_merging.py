"""Every number is of the merged model: it must be the function, with the slopes, that plain peft runs unmerged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from sensitivity.peft_types import config_of
from transformers import AutoModelForSequenceClassification

from robustness.definitions.tasks import find_task
from robustness.sensitivity.input.jacobian import margin_gradients
from robustness.testsets.example import Example
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.heads.embedded_batch import frozen, margins
from robustness.victims.loading import load_checkpoint, place, to_victim

LABELS = {"id2label": {"0": "negative", "1": "positive"}, "label2id": {"negative": 0, "positive": 1}}
KINDS = ("LORA", "dora", "IA3", "BITFIT")
TEXTS = ("the film is fine .", "a dull plot", "the song is lovely . good")


def adapter(base: Path, folder: Path, kind: str) -> Path:
    """An adapter of random numbers on a base, as plain peft saves it."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
        adapted = get_peft_model(model, config_of(kind, ["query", "output.dense"], task_type="SEQ_CLS"))
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad and "modules_to_save" not in name:
                parameter.data += 0.05 * torch.randn_like(parameter)
    adapted.save_pretrained(folder)
    own = json.loads((base / "config.json").read_text()) | LABELS
    (folder / "config.json").write_text(json.dumps(own))
    for each in base.glob("*token*"):
        shutil.copy(each, folder)
    for each in base.glob("vocab*"):
        shutil.copy(each, folder)
    return folder


def compare(base: Path, folder: Path) -> None:
    """Logits and slopes of the merged victim against those of the PeftModel on the text's own embeddings."""
    checkpoint = read_checkpoint("arm", str(folder), str(base))
    loaded = load_checkpoint(checkpoint, find_task("sst2"))
    victim = to_victim(load_checkpoint(checkpoint, find_task("sst2")), place("cpu"))
    unmerged = loaded.unmerged.eval()
    assert any("base_layer" in name or "form" in name for name, _ in unmerged.named_modules())
    assert not hasattr(victim.model, "peft_config")

    for text in TEXTS:
        inputs = loaded.tokenizer(text, return_tensors="pt")
        point = unmerged.get_input_embeddings()(inputs.pop("input_ids")).detach().requires_grad_()
        logits = unmerged(inputs_embeds=point, **inputs).logits
        label = int(logits.argmax())
        (slope,) = torch.autograd.grad(margins(logits, torch.tensor([label])).sum(), point)
        with frozen(victim):
            batch = victim.embed([Example("e", (text,), label)])
            merged, _ = margin_gradients(batch)
            answers = batch.logits(batch.embeddings)
        assert torch.allclose(answers, logits, rtol=1e-4, atol=1e-5)
        content = batch.content[0]
        assert torch.allclose(merged[0, content], slope[0, content], rtol=1e-3, atol=1e-3 * float(slope.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_adapter_has_the_logits_and_slopes_of_the_unmerged_one(kind: str, tiny: Any, tmp_path: Path) -> None:
    compare(tiny.base, adapter(tiny.base, tmp_path / kind, kind))


@pytest.mark.parametrize("kind", ["BITFIT", *(pytest.param(kind, marks=pytest.mark.soak) for kind in KINDS[:3])])
def test_on_the_real_minilm_too(kind: str, minilm: Path, tmp_path: Path) -> None:
    compare(minilm, adapter(minilm, tmp_path / kind, kind))
