from __future__ import annotations

import pytest
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    SqueezeBertConfig,
    SqueezeBertForSequenceClassification,
)

from robustness.errors import CheckpointError
from robustness.training.targets import scaled_by_ia3, target_modules


@pytest.fixture(scope="module")
def bert() -> BertForSequenceClassification:
    return BertForSequenceClassification(
        BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=2, num_attention_heads=1, intermediate_size=8)
    )


def test_linear_means_the_six_matrices_of_every_block(bert: BertForSequenceClassification) -> None:
    names = target_modules(bert, "linear")

    assert len(names) == 2 * 6
    assert not any("pooler" in name or "classifier" in name for name in names)


def test_biased_means_every_bias_but_the_heads(bert: BertForSequenceClassification) -> None:
    found = {f"{name}.bias" for name in target_modules(bert, "biased")}

    assert found == {
        name for name, _ in bert.named_parameters() if name.endswith("bias") and "classifier" not in name
    }


def test_names_that_match_nothing_are_refused_with_those_that_would(bert: BertForSequenceClassification) -> None:
    with pytest.raises(
        CheckpointError, match=r"target_modules querry match no linear layer; its linear layers end in .*query"
    ):
        target_modules(bert, ("querry", "value"))


def test_no_names_are_refused(bert: BertForSequenceClassification) -> None:
    with pytest.raises(CheckpointError, match=r"target_modules \(empty\) match no"):
        target_modules(bert, ())


def test_a_base_that_peft_does_not_know_needs_names_for_ia3() -> None:
    config = GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1)
    model = GPT2ForSequenceClassification(config)
    model.config.model_type = "unheard-of"

    with pytest.raises(CheckpointError, match="name them in target_modules and feedforward_modules"):
        scaled_by_ia3(model)


def test_layers_that_store_their_matrix_transposed_are_linear_too() -> None:
    """GPT-2's blocks are made of them: attention's two and the feed-forward's two."""
    model = GPT2ForSequenceClassification(GPT2Config(vocab_size=9, n_embd=8, n_layer=2, n_head=1))

    names = target_modules(model, "linear")

    leaves = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    assert names == [f"transformer.h.{layer}.{leaf}" for layer in (0, 1) for leaf in leaves]
    assert {name for name in target_modules(model, "biased") if ".mlp." in name} < set(names)
    assert target_modules(model, ("c_attn",)) == ["c_attn"]


def test_a_base_without_linear_layers_in_blocks_is_refused() -> None:
    """SqueezeBERT's blocks are made of convolutions."""
    model = SqueezeBertForSequenceClassification(
        SqueezeBertConfig(
            vocab_size=9, hidden_size=8, embedding_size=8, num_hidden_layers=1, num_attention_heads=1,
            intermediate_size=8, q_groups=1, k_groups=1, v_groups=1, intermediate_groups=1, output_groups=1,
        )
    )  # fmt: skip

    with pytest.raises(CheckpointError, match="no linear layer in repeated blocks"):
        target_modules(model, "linear")
