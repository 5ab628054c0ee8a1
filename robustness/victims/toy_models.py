"""Planted victims: generated bags of word embeddings with a known best substitution."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from robustness.victims.heads.head import LabelHead
from robustness.victims.heads.labels import Victim

CORPUS = (
    "the film is good and the plot is fine",
    "the film is bad and the plot is dull",
    "a warm song , a cold scene , a bright actor",
    "movie movies story stories acting played playing player great awful",
)


class BagModel(torch.nn.Module):
    """Logits are the sum, or the mean, over real tokens of embedding times weight: linear in every embedding."""

    def __init__(self, embeddings: torch.Tensor, weights: torch.Tensor, *, mean: bool = False) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(embeddings.shape[0], embeddings.shape[1], _weight=embeddings)
        self.head = torch.nn.Parameter(weights)
        self.dropout = torch.nn.Dropout(0.5)
        self.mean = mean
        self.config = SimpleNamespace(max_position_embeddings=64, model_type="bag")

    def get_input_embeddings(self) -> torch.nn.Module:
        """The table."""
        return self.table

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> Any:
        """Logits, shape (batch, labels)."""
        vectors = self.dropout(self.table(input_ids)) * attention_mask[:, :, None]
        pooled = vectors.sum(dim=1)
        if self.mean:
            pooled = pooled / attention_mask.sum(dim=1, keepdim=True)
        return SimpleNamespace(logits=pooled @ self.head)


def word_pieces(words: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """A BERT tokenizer of these whole words, single letters and their continuations."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, ".", ",", "!", *letters])
    vocabulary |= dict.fromkeys([f"##{letter}" for letter in letters] + ["##ing", "##ed", "##s"])
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    ids = {name: list(vocabulary).index(name) for name in ("[CLS]", "[SEP]")}
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=64,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def byte_pairs(corpus: tuple[str, ...] = CORPUS) -> PreTrainedTokenizerFast:
    """A RoBERTa tokenizer, byte-level, trained on a few sentences."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        min_frequency=1,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=64,
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
    )


def toy_victims(seed: int) -> list[LabelHead]:
    """Two and three labels, word pieces and byte pairs, for checking attacks with gradients."""
    words = tuple(dict.fromkeys(" ".join(CORPUS).replace(",", "").split()))
    return [bag_victim(word_pieces(words), seed=seed), bag_victim(byte_pairs(), labels=3, seed=seed, mean=True)]


def bag_victim(tokenizer: Any, *, labels: int = 2, dim: int = 6, seed: int = 0, mean: bool = False) -> Victim:
    """A bag model with random numbers for the tokenizer's vocabulary."""
    rng = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(len(tokenizer), dim, generator=rng)
    model = BagModel(embeddings, torch.randn(dim, labels, generator=rng), mean=mean)
    return Victim(model.eval(), tokenizer, tuple(range(labels)))
