"""Who won: questions, and a Bert of random weights in float64 that answers them in windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import BertConfig, BertForQuestionAnswering

from robustness.tasks.gold import GoldSpan
from robustness.testsets.example import Example
from robustness.victims.heads.spans.answering import AnsweringVictim
from robustness.victims.toy_models import word_pieces

WORDS = ("who", "won", "the", "a", "denver", "broncos", "city", "of", "played", "in", "rome", "and", "yes", "no")
ASKED = "who won"


def question(paragraph: str, *golds: str, number: int = 1, attacked: Sequence[int] = (1,)) -> Example:
    """Who won, by a paragraph; the places of gold answers are not told."""
    answers = tuple(GoldSpan(gold, 0) for gold in golds)
    return Example(str(number), (ASKED, paragraph), 1, attacked=tuple(attacked), answers=answers)


def answering_head(positions: int, *, batch_tokens: int | None = None, output_spread: float = 0.3) -> AnsweringVictim:
    """So few positions make several windows of a long paragraph."""
    tokenizer = word_pieces(WORDS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=positions,
            initializer_range=0.3,
        )
        model = BertForQuestionAnswering(config).double().eval()
        torch.nn.init.normal_(model.qa_outputs.weight, std=output_spread)
    return AnsweringVictim(model, tokenizer, batch_tokens=batch_tokens)


def read_windows(victim: AnsweringVictim, paragraph: str) -> Any:
    """The windows of a paragraph as the tokenizer alone makes them: a third of each is read again."""
    return victim.tokenizer(
        [ASKED],
        [paragraph],
        truncation="only_second",
        max_length=victim.max_tokens,
        stride=victim.max_tokens // 3,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
