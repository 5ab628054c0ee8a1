"""Tiny random checkpoints of many architectures, beside what plain transformers makes of them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CONFIG_MAPPING, AutoTokenizer, PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")
WORDS = ("a", "b", "c", "d", "e", "film", "plot", "song", "is", "was", "fine", "dull", "warm", "cold", "not", "very")
PAD, UNK, START, END = range(4)
LABELS = {0: "negative", 1: "positive"}

SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "emb_dim", "dim", "embedding_size", "embedding_dim"), 32),
    **dict.fromkeys(("word_embed_proj_dim", "input_embedding_size", "output_embedding_size"), 32),
    **dict.fromkeys(("intermediate_size", "d_ff", "d_inner", "hidden_dim", "ffn_dim", "n_inner", "dff"), 48),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "ffn_hidden_size", "feed_forward_size"), 48),
    **dict.fromkeys(("n_layers", "n_layer", "num_hidden_layers", "num_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("n_heads", "n_head", "num_attention_heads", "num_heads", "num_key_value_heads"), 2),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
    **dict.fromkeys(("d_kv", "d_head", "head_dim", "attention_head_size"), 16),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_encoder_position_embeddings"), 64),
    **dict.fromkeys(("max_decoder_position_embeddings", "max_seq_len"), 64),
    "rotary_dim": 8,
    "attention_window": [8, 8],
    "block_sizes": [1, 1],
    "attention_types": [[["global"], 2]],
    "num_local_experts": 2,
    "num_experts_per_tok": 1,
    "vocab_size": len(SPECIAL) + len(WORDS),
    "pad_token_id": PAD,
    "pad_index": PAD,
    "bos_token_id": START,
    "eos_token_id": END,
    "sep_token_id": END,
    "segment_means_seq_len": 64,
}
"""By the names that configurations use."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """One kind of model, and the longest text it takes."""

    kind: str
    """transformers' model type."""
    longest: int | None = 64
    """Tokens; None: any number."""
    frame: str = "both"
    """Special tokens around a text: `both` sides, at the `end`, `none`, or xlnet's."""
    settings: dict[str, Any] = field(default_factory=dict)
    """That differ from SIZES."""

    def save(self, folder: Path, auto: type) -> Any:
        """Writes a random checkpoint with a tokenizer that has no limit of its own; returns the model."""
        plain = CONFIG_MAPPING[self.kind]
        names = {*inspect.signature(plain.__init__).parameters, *plain().to_dict()}
        chosen = {name: value for name, value in SIZES.items() if name in names}
        chosen |= {"decoder_start_token_id": START} if plain().is_encoder_decoder else {}
        labels = {"id2label": LABELS, "label2id": {name: index for index, name in LABELS.items()}}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = auto.from_config(plain(**(chosen | labels | self.settings)))
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, std=0.2)
        model.eval().save_pretrained(folder)
        make_tokenizer(self.frame).save_pretrained(folder)
        return model

    def __str__(self) -> str:
        return self.kind


def make_tokenizer(frame: str) -> PreTrainedTokenizerFast:
    """Whole words; segments are always told, as by a BERT tokenizer that stands beside any model."""
    vocabulary = {word: index for index, word in enumerate(SPECIAL + WORDS)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    single, pair = {
        "both": ("<s> $A </s>", "<s> $A </s> </s> $B:1 </s>:1"),
        "end": ("$A </s>", "$A </s> $B:1 </s>:1"),
        "none": ("$A", "$A $B:1"),
        "xlnet": ("$A </s> <s>:2", "$A </s> $B:1 </s>:1 <s>:2"),
    }[frame]
    words.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[("<s>", START), ("</s>", END)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        mask_token="<mask>",
        padding_side="left" if frame == "xlnet" else "right",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def answer_plainly(model: Any, folder: Path, text: tuple[str, ...], longest: int | None) -> Any:
    """What transformers answers to one text, unpadded and without a mask."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    limit = {} if longest is None else {"truncation": True, "max_length": longest}
    encoded = tokenizer(*text, **limit)
    return run_plainly(model, {"input_ids": encoded["input_ids"], "token_type_ids": encoded["token_type_ids"]})


@torch.no_grad()
def run_plainly(model: Any, row: dict[str, list[int]]) -> Any:
    """One forward pass of one row of tokens."""
    taken = inspect.signature(model.forward).parameters
    return model(**{name: torch.tensor([values]) for name, values in row.items() if name in taken})


def sentences(count: int, longest: int) -> list[tuple[str, ...]]:
    """Texts of many lengths."""
    rng = np.random.default_rng(0)
    return [(" ".join(rng.choice(WORDS, size=1 + index * longest // count)),) for index in range(count)]
