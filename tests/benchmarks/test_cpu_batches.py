"""The size of a batch on a CPU: processor time per token of short and of long texts."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from robustness.victims.batches import CPU_BATCH_TOKENS
from robustness.victims.heads.labels import Victim

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

BATCH_TOKENS = (512, 1024, 2048)
TEXTS = {"of_10_words": (10, 240), "of_230_words": (230, 24)}
"""Words of a text, and number of texts."""
ROUNDS = 7


def test_no_size_of_a_cpu_batch_is_clearly_better_than_the_one_in_use(
    minilm: Path, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    model = AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=2).eval()
    victims = {size: Victim(model, tokenizer, range(2), batch_tokens=size) for size in BATCH_TOKENS}
    figures: dict[str, Any] = {"processor_seconds": {}, "tokens_a_text": {}}

    for name, (words, count) in TEXTS.items():
        texts = write_texts(tokenizer, words, count)
        seconds: dict[int, list[float]] = {size: [] for size in BATCH_TOKENS}
        for number in range(ROUNDS + 1):  # the first one warms up
            for size in BATCH_TOKENS if number % 2 else BATCH_TOKENS[::-1]:
                started = time.process_time()
                victims[size].scores(texts)
                seconds[size].append(time.process_time() - started)
        figures["processor_seconds"][name] = {str(size): float(np.median(s[1:])) for size, s in seconds.items()}
        figures["tokens_a_text"][name] = float(np.mean([len(tokenizer(text)["input_ids"]) for (text,) in texts]))

    save_result("cpu_batches", figures | {"tokens_in_use": CPU_BATCH_TOKENS})
    for measured in figures["processor_seconds"].values():
        assert measured[str(CPU_BATCH_TOKENS)] <= 1.1 * min(measured.values())


def write_texts(tokenizer: Any, words: int, count: int) -> list[tuple[str]]:
    """Texts of whole words of the vocabulary."""
    known = sorted(word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 2)
    rng = np.random.default_rng(0)
    return [(" ".join(rng.choice(known, size=words)),) for _ in range(count)]
