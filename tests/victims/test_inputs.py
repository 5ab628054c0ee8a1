from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import Architecture, answer_plainly, make_tokenizer
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    LlamaConfig,
    T5Config,
)

from robustness.definitions.tasks import find_task
from robustness.errors import CheckpointError
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.heads.head import Head
from robustness.victims.heads.labels import Victim
from robustness.victims.inputs import Company, accepted_inputs, empty_model, max_tokens
from robustness.victims.loading import load_checkpoint, place, to_victim

SMALL = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


class Limit:
    """A tokenizer that has only what decides about lengths."""

    def __init__(self, longest: Any) -> None:
        self.model_max_length = longest


def model_of(config: Any) -> Any:
    with torch.device("meta"):
        return AutoModel.from_config(config)


@pytest.fixture
def distilbert() -> Any:
    config = DistilBertConfig(vocab_size=30, dim=16, hidden_dim=32, n_layers=1, n_heads=2)
    return DistilBertForSequenceClassification(config)


@pytest.mark.parametrize(
    ("config", "longest", "virtual", "expected"),
    [
        (BertConfig(**SMALL, max_position_embeddings=512), 512, 0, 512),
        (BertConfig(**SMALL, max_position_embeddings=512), int(1e30), 0, 512),
        (BertConfig(**SMALL, max_position_embeddings=512), None, 0, 512),
        (BertConfig(**SMALL, max_position_embeddings=512), 128, 0, 128),
        (BertConfig(**SMALL, max_position_embeddings=512), 512, 20, 492),
        (BertConfig(**SMALL, max_position_embeddings=512), 128, 20, 128),
        (LlamaConfig(**SMALL, intermediate_size=32, max_position_embeddings=96), -1, 0, 96),
        (T5Config(vocab_size=30, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2), 512, 0, 512),
        (T5Config(vocab_size=30, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2), -1, 0, 1_000_000),
    ],
)
def test_the_longest_text_fits_positions_and_tokenizer(
    config: Any, longest: int | None, virtual: int, expected: int
) -> None:
    assert max_tokens(model_of(config), Limit(longest), virtual) == expected


@pytest.mark.parametrize("kind", ["roberta", "longformer", "mpnet", "bart", "opt", "nystromformer", "xlnet", "bert"])
def test_a_model_without_weights_takes_texts_of_the_same_length(kind: str, tmp_path: Path) -> None:
    model = Architecture(kind).save(tmp_path, AutoModelForSequenceClassification)

    assert max_tokens(empty_model(tmp_path), Limit(None)) == max_tokens(model, Limit(None))


@pytest.mark.parametrize(("virtual", "room"), [(61, 3), (62, None), (64, None), (70, None)])
def test_learnt_tokens_that_leave_no_room_for_a_text_are_refused(virtual: int, room: int | None) -> None:
    config = BertConfig(**SMALL, intermediate_size=32, max_position_embeddings=64)
    prompt = PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=virtual)
    model = get_peft_model(BertForSequenceClassification(config), prompt)

    if room is not None:
        assert Victim(model, make_tokenizer("both"), (0, 1)).max_tokens == room
        return
    tokenizer = make_tokenizer("both")
    tokenizer.name_or_path = "some/folder"
    told = f"tokenizer some/folder: its 64 tokens leave no room .* 2 special tokens, {virtual} learnt"
    with pytest.raises(CheckpointError, match=told):
        Victim(model, tokenizer, (0, 1))


def test_a_configuration_of_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 10, "num_attention_heads": 3}')

    with pytest.raises(CheckpointError, match="cannot be built from its config.json"):
        empty_model(tmp_path)


def test_what_a_model_takes_is_read_through_its_wrappers(distilbert: Any) -> None:
    plain = accepted_inputs(distilbert)
    lora = get_peft_model(copy.deepcopy(distilbert), LoraConfig(task_type="SEQ_CLS", target_modules=["q_lin"]))
    shape = {"token_dim": 16, "num_layers": 1, "num_attention_heads": 2}
    prompt = PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2, **shape)
    prompted = get_peft_model(copy.deepcopy(distilbert), prompt)

    assert "token_type_ids" not in plain and {"input_ids", "attention_mask"} <= plain
    assert accepted_inputs(lora) == accepted_inputs(prompted) == accepted_inputs(torch.compile(lora)) == plain


def test_a_model_that_names_no_input_is_given_the_usual_ones() -> None:
    class Wrapped(torch.nn.Module):
        def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
            return inputs["input_ids"]

    assert accepted_inputs(Wrapped()) == {"input_ids", "attention_mask", "token_type_ids"}


def test_texts_share_a_batch_where_ends_and_lengths_allow() -> None:
    texts = [[5, 3], [6, 7, 3], [5, 3, 3], [8, 3]]

    assert Company().kinds(texts).tolist() == [0, 0, 0, 0]
    ends, lengths = Company(end_token=3).kinds(texts), Company(padded=False).kinds(texts)
    assert (ends[0] == ends[1] == ends[3]) and ends[2] != ends[0]
    assert (lengths[0] == lengths[3]) and (lengths[1] == lengths[2]) and lengths[0] != lengths[1]


def load(folder: Path) -> Head:
    checkpoint = read_checkpoint("full", str(folder), str(folder))
    return to_victim(load_checkpoint(checkpoint, find_task("sst2")), place("cpu"))


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_end_token_inside_a_text_takes_no_other_text_with_it(kind: str, tmp_path: Path) -> None:
    architecture = Architecture(kind, None if kind == "t5" else 64, "end")
    model = architecture.save(tmp_path, AutoModelForSequenceClassification)
    texts = [("film is fine",), ("film </s> is dull",), ("a warm song",), ("</s> </s>",), ("very </s> cold",)]

    scores = load(tmp_path).scores(texts)

    expected = [answer_plainly(model, tmp_path, text, None).logits[0].numpy() for text in texts]
    np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.parametrize(("kind", "frame"), [("t5", "end"), ("xlnet", "xlnet"), ("distilbert", "both")])
def test_the_trial_that_measures_memory_asks_about_a_text_that_the_model_takes(
    kind: str, frame: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Architecture(kind, None, frame).save(tmp_path, AutoModelForSequenceClassification)
    victim = load(tmp_path)
    assert isinstance(victim, Victim)
    for name in ("reset_peak_memory_stats", "memory_allocated", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda device: 0)
    asked: list[torch.Size] = []
    kernels, call = victim._kernels, victim._kernels._call
    monkeypatch.setattr(kernels, "_call", lambda **inputs: asked.append(inputs["input_ids"].shape) or call(**inputs))

    with torch.inference_mode():
        taken = [victim._memory_of(tokens) for tokens in (128, 2)]

    assert taken == [1, 1]  # nothing of it is on a GPU here
    length = min(128, victim.max_tokens)
    assert asked[0] == (128 // length, length) and asked[1].numel() <= 4


def test_a_tokenizer_without_a_mask_does_not_keep_the_model_from_one(tmp_path: Path) -> None:
    model = Architecture("bert").save(tmp_path, AutoModelForSequenceClassification)
    tokenizer = make_tokenizer("both")
    tokenizer.model_input_names = ["input_ids", "token_type_ids"]
    texts = [("film is fine",), ("a very very dull plot",)]

    scores = Victim(model, tokenizer, (0, 1)).scores(texts)

    expected = [answer_plainly(model, tmp_path, text, None).logits[0].numpy() for text in texts]
    np.testing.assert_allclose(scores, expected, atol=1e-5)
