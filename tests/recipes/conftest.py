"""Tiny masked language models with random weights, as folders."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaTokenizerFast,
)

# Its downloads print to what was standard error when it was imported: within a test, that is closed afterwards.
with suppress(ImportError):
    import nltk  # noqa: F401

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
NAMES = ["film", "plot", "song", "scene", "story", "actor"]
OPINIONS = ["good", "fine", "warm", "dull", "cold", "bleak"]
WORDS = ["the", "a", "of", *NAMES, *OPINIONS, "very", "not", "is", "was", "it", "never"]
PIECES = ["##ing", "##ly", "##er", "##film", "##good"]
SIGNS = [".", ",", "!", "'", "-", "1990", "2"]
LETTERS = list("bcdefghijklmnopqrstuvwxyz")
SPREAD = 0.4
"""Of random weights: far from uniform, so that no two tokens are equally likely."""


@pytest.fixture(scope="session")
def bert_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT whose word pieces are a few words, inner pieces, signs and single letters."""
    folder = tmp_path_factory.mktemp("bert_lm")
    vocabulary = [*SPECIAL, *WORDS, *PIECES, *SIGNS, *LETTERS, *(f"##{letter}" for letter in ["a", *LETTERS])]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=48,
        initializer_range=SPREAD,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        BertForMaskedLM(config).save_pretrained(folder)
    BertTokenizerFast.from_pretrained(folder, model_max_length=48).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def roberta_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RoBERTa with a byte-level vocabulary learnt from a few sentences."""
    from tokenizers import ByteLevelBPETokenizer

    folder = tmp_path_factory.mktemp("roberta_lm")
    learnt = ByteLevelBPETokenizer()
    text = " ".join(WORDS)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    corpus = [text, text.title(), f"x {text}", "the film is good , not dull ."] * 3
    learnt.train_from_iterator(corpus, vocab_size=420, min_frequency=2, special_tokens=special)
    learnt.save_model(str(folder))
    tokenizer = RobertaTokenizerFast.from_pretrained(folder, model_max_length=48)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=50,
        pad_token_id=1,
        initializer_range=SPREAD,
    )
    with torch.random.fork_rng():
        torch.manual_seed(4)
        RobertaForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
