"""Adapters as peft saves them: added tokens, labels of the partner, heads, merges that cannot be."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, TrainableTokensConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BartConfig,
    BartForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaModel,
    SqueezeBertConfig,
    SqueezeBertForSequenceClassification,
    SqueezeBertModel,
)

from robustness.definitions.tasks import find_task
from robustness.errors import CheckpointError
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.gate import inspect_checkpoint
from robustness.victims.heads.kinds import is_prompted
from robustness.victims.loading import load_checkpoint, merge, place, to_untuned_victim, to_victim

SST2 = find_task("sst2")
LABELS = {0: "negative", 1: "positive"}
WORDS = ["[PAD]", "[UNK]", "</s>", "good", "bad", "fine", "dull", "the", "film", "is", "a", "."]
TEXTS = [("good film",), ("the film is bad .",), ("a",), ("fine fine dull the film is a good film .",)]


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def refusal(folder: Path, base: Path, partner: Path | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(read_checkpoint("mine", str(folder), str(base), partner and str(partner)), SST2)
    message = str(caught.value)
    assert "\n" not in message
    return message


def answers(folder: Path, base: Path, partner: Path | None = None) -> np.ndarray:
    checkpoint = read_checkpoint("mine", str(folder), str(base), partner and str(partner))
    return to_victim(load_checkpoint(checkpoint, SST2), place("cpu")).scores(TEXTS)


@torch.no_grad()
def answers_of(model: Any, tokenizer: Any) -> np.ndarray:
    """Text by text, without padding."""
    return torch.cat([model.eval()(**tokenizer(text, return_tensors="pt")).logits for (text,) in TEXTS]).numpy()


@dataclass(frozen=True, slots=True)
class Small:
    """A decoder, its tokenizer, and what is trained on it."""

    folder: Path
    base: Path
    tokenizer: Any

    def model(self) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            return AutoModelForSequenceClassification.from_pretrained(self.base, num_labels=2, id2label=LABELS)

    def adapt(self, name: str, model: Any = None, tokenizer: Any = None, **options: Any) -> Path:
        """Saves a LoRA of random weights as peft does, with nothing but the tokenizer beside it."""
        config = LoraConfig(**{"task_type": "SEQ_CLS", "r": 2, "target_modules": ["q_proj"]} | options)
        with torch.random.fork_rng():
            torch.manual_seed(5)
            adapted = get_peft_model(model or self.model(), config)
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.data += 0.1 * torch.randn_like(parameter)
        adapted.save_pretrained(self.folder / name)
        (tokenizer or self.tokenizer).save_pretrained(self.folder / name)
        return self.folder / name

    def full(self, name: str, model: Any = None) -> Path:
        (model or self.model()).save_pretrained(self.folder / name)
        self.tokenizer.save_pretrained(self.folder / name)
        return self.folder / name


@pytest.fixture
def small(tmp_path: Path) -> Small:
    raw = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", eos_token="</s>", model_max_length=32,
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32, initializer_range=0.3, pad_token_id=0, bos_token_id=2, eos_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return Small(tmp_path, tmp_path / "base", tokenizer)


@pytest.fixture
def longer(small: Small) -> Any:
    """The tokenizer with two words more."""
    tokenizer = AutoTokenizer.from_pretrained(small.base)
    tokenizer.add_tokens(["gripping", "tedious"])
    return tokenizer


def test_tokens_that_were_added_to_a_model_that_was_not_resized_are_named(small: Small, longer: Any) -> None:
    folder = small.adapt("lora", tokenizer=longer)

    message = refusal(folder, small.base, small.full("full"))

    assert (
        "its tokenizer has 2 tokens, from 'gripping' on, beyond the 12 that the model has embeddings for" in message
    )
    assert "call model.resize_token_embeddings(len(tokenizer)) before training" in message
    assert "save_embedding_layers=True" in message


@pytest.mark.parametrize("multiple", [None, 8])
def test_an_adapter_that_holds_the_embeddings_of_added_tokens_answers_as_in_peft(
    small: Small, longer: Any, multiple: int | None
) -> None:
    model = small.model()
    model.resize_token_embeddings(len(longer), pad_to_multiple_of=multiple, mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[-3:] += 1.0
    folder = small.adapt("lora", model, longer)
    resized = small.model()
    resized.resize_token_embeddings(len(longer), pad_to_multiple_of=multiple, mean_resizing=False)
    expected = answers_of(PeftModel.from_pretrained(resized, folder), longer)
    full = small.full("full")

    np.testing.assert_allclose(answers(folder, small.base, full), expected, atol=1e-5)
    checkpoint = read_checkpoint("mine", str(folder), str(small.base), str(full))
    assert to_untuned_victim(load_checkpoint(checkpoint, SST2), place("cpu")) is None  # it lacks the added tokens


def test_embeddings_that_were_saved_though_nothing_was_added_answer_as_in_peft(small: Small) -> None:
    adapted = PeftModel.from_pretrained(small.model(), small.adapt("lora"))
    adapted.save_pretrained(small.folder / "again", save_embedding_layers=True)
    expected = answers_of(adapted, small.tokenizer)

    np.testing.assert_allclose(answers(small.folder / "again", small.base, small.full("full")), expected, atol=1e-5)


def test_a_padding_token_without_an_embedding_leaves_padding_to_another(small: Small) -> None:
    """As after `add_special_tokens({"pad_token": ...})` on a model that is never resized for it."""
    tokenizer = AutoTokenizer.from_pretrained(small.base)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    folder = small.adapt("lora", tokenizer=tokenizer)
    expected = answers_of(PeftModel.from_pretrained(small.model(), folder), small.tokenizer)

    np.testing.assert_allclose(answers(folder, small.base, small.full("full")), expected, atol=1e-5)


def test_labels_come_from_the_partner_where_the_adapter_names_none(small: Small) -> None:
    folder = small.adapt("lora")
    expected = answers_of(PeftModel.from_pretrained(small.model(), folder), small.tokenizer)
    full = small.full("full")
    edit(full / "config.json", id2label={"0": "positive", "1": "negative"})

    np.testing.assert_allclose(answers(folder, small.base, full), expected[:, ::-1], atol=1e-5)


@pytest.mark.parametrize("own", [{}, {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, {"id2label": None}])
def test_labels_without_names_of_their_own_are_the_partners(small: Small, own: dict[str, object]) -> None:
    folder = small.adapt("lora")
    (folder / "config.json").write_text(json.dumps(own))
    expected = answers_of(PeftModel.from_pretrained(small.model(), folder), small.tokenizer)

    np.testing.assert_allclose(answers(folder, small.base, small.full("full")), expected, atol=1e-5)


def test_an_adapters_own_labels_come_first(small: Small) -> None:
    folder = small.adapt("lora")
    (folder / "config.json").write_text(json.dumps({"id2label": {"0": "positive", "1": "negative"}}))
    expected = answers_of(PeftModel.from_pretrained(small.model(), folder), small.tokenizer)

    np.testing.assert_allclose(answers(folder, small.base, small.full("full")), expected[:, ::-1], atol=1e-5)


def language_model(small: Small) -> Any:
    return LlamaForCausalLM.from_pretrained(small.base)


def headed(small: Small) -> Path:
    """A base whose own files hold a head for labels."""
    model = small.model()
    model.save_pretrained(small.folder / "headed")
    small.tokenizer.save_pretrained(small.folder / "headed")
    return small.folder / "headed"


@pytest.mark.parametrize("task_type", ["CAUSAL_LM", None])
def test_an_adapter_on_a_language_model_is_prompted_whatever_its_task_type(
    small: Small, task_type: str | None
) -> None:
    folder = small.adapt("lora", language_model(small), task_type=task_type)

    assert is_prompted(read_checkpoint("mine", str(folder), str(small.base)), SST2)


def test_a_task_type_is_not_believed_where_the_file_holds_a_head(small: Small) -> None:
    folder = small.adapt("lora")
    edit(folder / "adapter_config.json", task_type="CAUSAL_LM")
    edit(folder / "adapter_config.json", modules_to_save=["score"])

    message = refusal(folder, small.base, small.full("full"))
    edit(folder / "adapter_config.json", task_type="SEQ_CLS")

    assert f"its task_type is CAUSAL_LM: set it to SEQ_CLS in {folder / 'adapter_config.json'}" in message
    assert answers(folder, small.base, small.folder / "full").shape == (4, 2)


def test_an_adapter_without_its_head_beside_a_partner_with_one_is_told_how_to_train(small: Small) -> None:
    folder = small.adapt("lora", task_type=None)
    edit(folder / "adapter_config.json", task_type="CAUSAL_LM", auto_mapping=None)

    message = refusal(folder, small.base, small.full("full"))

    assert "task_type: its partner" in message
    assert "says CAUSAL_LM and its file holds no head for labels; train it with task_type SEQ_CLS" in message


def test_an_adapter_with_a_head_beside_a_prompted_partner_is_refused(small: Small) -> None:
    message = refusal(small.adapt("lora"), small.base, small.full("full", language_model(small)))

    assert "is a LlamaForCausalLM, which is asked by prompts, but it answers by a head for labels" in message


def test_a_full_checkpoint_is_not_judged_by_the_config_beside_its_adapter(small: Small) -> None:
    """Training copies the base's, which names the language model."""
    adapter, full = small.adapt("lora"), small.full("full")
    language_model(small).config.save_pretrained(adapter)
    edit(adapter / "config.json", architectures=["LlamaForCausalLM"])

    expected = answers_of(AutoModelForSequenceClassification.from_pretrained(full), small.tokenizer)

    np.testing.assert_allclose(answers(full, small.base, adapter), expected, atol=1e-5)


def test_the_head_of_the_base_answers_for_an_adapter_that_saved_none(small: Small) -> None:
    base = headed(small)
    folder = small.adapt("lora", AutoModelForSequenceClassification.from_pretrained(base), task_type=None)
    edit(folder / "adapter_config.json", auto_mapping=None)
    expected = answers_of(
        PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained(base), folder), small.tokenizer
    )

    np.testing.assert_allclose(answers(folder, base), expected, atol=1e-5)


def test_a_method_that_saves_no_head_asks_for_a_base_with_one(small: Small) -> None:
    adapted = get_peft_model(small.model(), TrainableTokensConfig(task_type="SEQ_CLS", token_indices=[3, 4]))
    adapted.get_base_model().get_input_embeddings().trainable_tokens_delta["default"].data += 1.0
    adapted.save_pretrained(small.folder / "tokens")
    checkpoint = read_checkpoint("mine", str(small.folder / "tokens"), str(small.base), str(small.full("full")))
    clean: list[Any] = [example_of(text, label) for text, label in (("good", 1), ("bad", 0))]

    failures = inspect_checkpoint(checkpoint, SST2, place("cpu"), clean).failures

    assert any(
        "head-loaded: no file holds score.weight" in failure
        and "TRAINABLE_TOKENS saves no head: use a base whose own files hold the trained head" in failure
        for failure in failures
    )


def example_of(text: str, label: int) -> Any:
    from robustness.testsets.example import Example

    return Example(text, (text,), label)


def test_an_option_that_the_installed_peft_does_not_know_is_told(
    small: Small, caplog: pytest.LogCaptureFixture
) -> None:
    folder = small.adapt("lora")
    edit(folder / "adapter_config.json", use_magic=True, magic_words=[])

    with caplog.at_level(logging.WARNING):
        answers(folder, small.base, small.full("full"))

    assert "the installed peft does not know use_magic = True of its adapter_config.json" in caplog.text
    assert "magic_words" not in caplog.text  # empty: without effect


def test_an_adapter_of_another_model_says_what_its_file_lacks(small: Small) -> None:
    folder = small.adapt("lora")
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file(
        {name.replace("q_proj", "v_proj"): tensor for name, tensor in tensors.items()},
        folder / "adapter_model.safetensors",
    )

    message = refusal(folder, small.base, small.full("full"))

    assert "its file lacks base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight (2 such tensors)" in message
    assert "its adapter_config.json and adapter_model.safetensors are not of one training" in message


def squeeze(folder: Path, tokenizer: Any) -> tuple[Path, Path]:
    """A model of grouped convolutions and an adapter on it: peft adapts them and cannot merge them."""
    config = SqueezeBertConfig(
        vocab_size=len(WORDS), hidden_size=16, embedding_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=32, initializer_range=0.3, id2label=LABELS,
        q_groups=2, k_groups=2, v_groups=2, post_attention_groups=1, intermediate_groups=2, output_groups=2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        SqueezeBertModel(config).save_pretrained(folder / "squeeze")
        tokenizer.save_pretrained(folder / "squeeze")
        model = SqueezeBertForSequenceClassification.from_pretrained(folder / "squeeze")
        # The first of these merges, the others do not.
        modules = ["post_attention.conv1d", "query", "value", "output.conv1d"]
        adapted = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=modules))
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data += 0.1 * torch.randn_like(parameter)
    adapted.save_pretrained(folder / "squeezed")
    return folder / "squeezed", folder / "squeeze"


def test_a_model_whose_layers_do_not_merge_is_asked_unmerged(small: Small) -> None:
    folder, base = squeeze(small.folder, small.tokenizer)
    tokenizer = AutoTokenizer.from_pretrained(base)
    plain = SqueezeBertForSequenceClassification.from_pretrained(base)
    expected = answers_of(PeftModel.from_pretrained(plain, folder), tokenizer)

    np.testing.assert_allclose(answers(folder, base), expected, atol=1e-5)
    checkpoint = read_checkpoint("mine", str(folder), str(base))
    assert merge(load_checkpoint(checkpoint, SST2)) is None
    facts = inspect_checkpoint(checkpoint, SST2, place("cpu"), [example_of("good", 1), example_of("bad", 0)])
    assert facts.merge_difference is None
    assert not [failure for failure in facts.failures if not failure.startswith("clean-accuracy")]


def test_a_head_of_several_layers_does_not_keep_an_adapter_from_merging(small: Small) -> None:
    config = RobertaConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=34, initializer_range=0.3, pad_token_id=0, id2label=LABELS,
    )  # fmt: skip
    base = small.folder / "roberta"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        RobertaModel(config).save_pretrained(base)
        adapted = get_peft_model(
            RobertaForSequenceClassification.from_pretrained(base), IA3Config(task_type="SEQ_CLS")
        )
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data += 0.1 * torch.randn_like(parameter)
    small.tokenizer.save_pretrained(base)
    adapted.save_pretrained(small.folder / "ia3")
    expected = answers_of(adapted, small.tokenizer)

    np.testing.assert_allclose(answers(small.folder / "ia3", base), expected, atol=1e-5)
    assert merge(load_checkpoint(read_checkpoint("mine", str(small.folder / "ia3"), str(base)), SST2)) is not None


def test_a_table_that_two_layers_share_leaves_an_adapter_of_one_apart(small: Small) -> None:
    """Merging an adapter of the encoder's embeddings would change those of the decoder as well."""
    config = BartConfig(
        vocab_size=len(WORDS), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=32, init_std=0.3,
        pad_token_id=0, bos_token_id=2, eos_token_id=2, decoder_start_token_id=2, id2label=LABELS,
    )  # fmt: skip
    base = small.folder / "bart"
    tokenizer = AutoTokenizer.from_pretrained(small.base)
    end = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 2)])
    tokenizer.backend_tokenizer.post_processor = end
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BartForSequenceClassification(config).save_pretrained(base)
        modules = LoraConfig(task_type=None, r=2, target_modules=r".*encoder\.embed_tokens")
        adapted = get_peft_model(BartForSequenceClassification.from_pretrained(base), modules)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data += 0.3 * torch.randn_like(parameter)
    tokenizer.save_pretrained(base)
    adapted.save_pretrained(small.folder / "table")
    expected = answers_of(adapted, tokenizer)

    np.testing.assert_allclose(answers(small.folder / "table", base), expected, atol=1e-5)
    assert merge(load_checkpoint(read_checkpoint("mine", str(small.folder / "table"), str(base)), SST2)) is None


def test_a_merge_that_would_change_answers_leaves_the_adapter_apart(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small.adapt("lora")
    full = small.full("full")
    expected = answers(folder, small.base, full)
    merging = PeftModel.merge_and_unload if hasattr(PeftModel, "merge_and_unload") else None
    assert merging is None  # it is the tuner's
    from peft import LoraModel

    def wrong(model: Any, *arguments: Any, **options: Any) -> Any:
        merged = true(model, *arguments, **options)
        merged.score.weight.data += 1.0
        return merged

    true = LoraModel.merge_and_unload
    monkeypatch.setattr(LoraModel, "merge_and_unload", wrong)

    np.testing.assert_allclose(answers(folder, small.base, full), expected, atol=1e-5)


def test_a_base_without_a_language_models_head_is_as_good(small: Small) -> None:
    LlamaModel.from_pretrained(small.base).save_pretrained(small.folder / "bare")
    shutil.copytree(small.base, small.folder / "copy")
    for file in small.base.glob("token*"):
        shutil.copy(file, small.folder / "bare")
    folder = small.adapt("lora")
    edit(folder / "adapter_config.json", base_model_name_or_path="../bare")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        plain = LlamaForSequenceClassification.from_pretrained(small.folder / "bare", num_labels=2)
    expected = answers_of(PeftModel.from_pretrained(plain, folder), small.tokenizer)

    np.testing.assert_allclose(answers(folder, small.folder / "bare", small.full("full")), expected, atol=1e-5)
