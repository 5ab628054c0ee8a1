"""Randomly initialised models with tokenizers and texts of their own: nothing is downloaded."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
)

from robustness.testsets.example import Example, Texts
from robustness.victims.heads.labels import Victim
from robustness.victims.heads.verbalisers import PromptedVictim

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
SPREAD = 0.08
"""Standard deviation of drawn weights: with the usual 0.02 a deep random model answers every text alike."""
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
_LLAMA = {
    **{"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8},
    **{"intermediate_size": 8192, "vocab_size": 128_256, "tie_word_embeddings": True},
}
_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


@dataclass(frozen=True, slots=True)
class Size:
    """How large the models are, and how many texts they are given."""

    name: str
    words: int
    """Of the vocabulary, beside pieces of one and two letters."""
    longest: int
    """Words of a sentence."""
    large: Mapping[str, int]
    base: Mapping[str, int]
    causal: Mapping[str, int]
    texts: int
    """Whose scores are timed."""
    examples: int
    """Attacked by cheap recipes; costly ones take a part."""
    probed: int
    """Examples of a probe."""
    rows: int
    """Trained on."""


REAL = Size("real", 2_000, 40, _LARGE, _BASE, _LLAMA, texts=4_096, examples=128, probed=16, rows=512)
TINY = Size(
    "tiny", 60, 10, _SMALL, _SMALL, _SMALL | {"num_key_value_heads": 1}, texts=24, examples=4, probed=2, rows=32
)
SIZES = {size.name: size for size in (REAL, TINY)}


def make_words(count: int) -> list[str]:
    """Words of two to eight letters, sorted; fewer than `count` where draws coincide."""
    rng = np.random.default_rng(0)
    return sorted({"".join(rng.choice(list(string.ascii_lowercase), size=rng.integers(2, 9))) for _ in range(count)})


def make_tokenizer(words: list[str], *, ends: bool = True) -> PreTrainedTokenizerFast:
    """Words are tokens, and what a typo makes of them is pieces of one and two letters, as with a real vocabulary.

    Args:
        words: known whole.
        ends: whether an end token follows each text, as encoders have it.
    """
    letters = string.ascii_letters + string.digits + string.punctuation
    pieces = [*letters, *(a + b for a in string.ascii_lowercase for b in string.ascii_lowercase[:6])]
    tokens = dict.fromkeys([*SPECIAL, *pieces, *(f"##{piece}" for piece in pieces), *words])
    core = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if ends else "<s> $A",
        pair="<s> $A </s> </s> $B </s>" if ends else "<s> $A $B",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=512,
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )


def make_sentences(count: int, words: list[str], longest: int, seed: int = 0) -> list[Texts]:
    """Sentences of 4 words or more."""
    rng = np.random.default_rng(seed)
    return [(" ".join(rng.choice(words, size=rng.integers(4, longest + 1))),) for _ in range(count)]


def make_questions(count: int, words: list[str], seed: int = 0) -> list[Texts]:
    """Questions with their paragraphs, every fourth of which is longer than a window."""
    rng = np.random.default_rng(seed)
    return [
        (" ".join(rng.choice(words, size=9)), " ".join(rng.choice(words, size=500 if i % 4 == 3 else 110)))
        for i in range(count)
    ]


def encoder_config(size: Mapping[str, int], vocabulary: int, spread: float = SPREAD) -> RobertaConfig:
    """RoBERTa of that size; `spread` is the standard deviation of drawn weights."""
    return RobertaConfig(
        vocab_size=vocabulary,
        max_position_embeddings=514,
        type_vocab_size=1,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        initializer_range=spread,
        num_labels=2,
        id2label={0: "negative", 1: "positive"},
        label2id={"negative": 0, "positive": 1},
        **size,
    )


def make_classifier(size: Mapping[str, int], vocabulary: int, device: torch.device) -> Any:
    """A RoBERTa with a head for two labels, float32."""
    return _make(RobertaForSequenceClassification, encoder_config(size, vocabulary), device)


def make_reader(size: Mapping[str, int], vocabulary: int, device: torch.device) -> Any:
    """A RoBERTa that answers with spans, float32."""
    return _make(RobertaForQuestionAnswering, encoder_config(size, vocabulary), device)


def make_causal(size: Mapping[str, int], vocabulary: int, device: torch.device) -> Any:
    """A Llama that reads prompts, float32."""
    settings = {"vocab_size": vocabulary, "max_position_embeddings": 2048} | dict(size)
    config = LlamaConfig(bos_token_id=0, pad_token_id=1, eos_token_id=2, **settings)
    return _make(LlamaForCausalLM, config, device)


def _make(kind: Any, config: Any, device: torch.device) -> Any:
    """Drawn where it will live: a processor takes half a minute for a billion normal numbers."""
    with torch.random.fork_rng(devices=[]), torch.device(device if device.type == "cuda" else "cpu"):
        torch.manual_seed(0)
        model = kind(config)
    return model.to(device).eval()


def balance(victim: Victim, heads: Sequence[torch.nn.Linear], texts: Sequence[Texts]) -> None:
    """Moves heads so that the victim gives half of the texts either label, and scales them so that logits differ.

    A random model answers nearly all texts alike: what it is asked would show nothing.
    """
    scores = victim.scores(texts).astype(np.float64)
    gaps = scores[:, 1] - scores[:, 0]
    scale = 1 / max(float(gaps.std()), 1e-6)
    with torch.no_grad():
        for head in heads:
            head.weight.mul_(scale)
            head.bias.mul_(scale)
            head.bias[1] -= float(np.median(gaps)) * scale


def label(victim: Victim | PromptedVictim, texts: Sequence[Texts]) -> list[Example]:
    """Returns examples with the victim's own answers for labels."""
    answers = victim.scores(texts).argmax(axis=1)
    return [Example(f"e{i}", text, int(answer)) for i, (text, answer) in enumerate(zip(texts, answers, strict=True))]
