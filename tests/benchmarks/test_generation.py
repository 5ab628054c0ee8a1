"""Decoding against transformers' `generate`, and shared prefixes against rows apart: SmolLM2, float32, one thread."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustness.victims.files.smollm2 import find_smollm2, load_smollm2
from robustness.victims.generation.causal import CausalModel
from robustness.victims.generation.decoding import BATCH_ROWS, DecodingLimits, decode
from robustness.victims.generation.reading import Continuation, read_along
from robustness.victims.generation.sharing import read_shared

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
PROMPTS = int(os.environ.get("BENCH_ROWS", "64"))
NEW_TOKENS = 40
"""Of a meaning representation."""
BATCH_SIZES = (8, 16, 32, 64)
TEXTS, CANDIDATES = int(os.environ.get("BENCH_TEXTS", "2")), 24
"""Texts that are edited, and candidates of each."""
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "2"))
"""Rivals take turns; the quickest of each counts."""
Save = Callable[[str, dict[str, Any]], None]


@pytest.fixture(scope="module")
def causal() -> CausalModel:
    try:
        find_smollm2()
    except Exception as error:
        pytest.skip(str(error))
    torch.set_num_threads(1)
    found = CausalModel(*load_smollm2())
    assert found.can_cache
    return found


@pytest.fixture(scope="module")
def rows(shared_data: Path) -> list[tuple[str, str]]:
    """Sentences of ViGGO with their meaning representations."""
    with (shared_data / "viggo" / "test.csv").open(encoding="utf-8", newline="") as stream:
        return [(row["ref"], row["mr"]) for row in csv.DictReader(stream)]


def encode(causal: CausalModel, text: str) -> list[int]:
    messages = [{"role": "user", "content": f"Write the meaning of this sentence as function(slot[value]).\n{text}"}]
    prompt = causal.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return [int(token) for token in causal.tokenizer(prompt)["input_ids"]]


def seconds_of(action: Callable[[], Any]) -> tuple[float, Any]:
    """Processor time of the one thread: other work on the machine does not count."""
    started = time.process_time()
    result = action()
    return time.process_time() - started, result


def generate(causal: CausalModel, prompts: list[list[int]], size: int) -> list[list[int]]:
    """transformers' own, in batches by length: as its pipeline does, with the sorting given to it."""
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    found: dict[int, list[int]] = {}
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        ids, mask = causal.pad([prompts[index] for index in batch], left=True)
        whole = causal.model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=NEW_TOKENS)
        for index, row in zip(batch, whole[:, ids.shape[1] :].tolist(), strict=True):
            end = row.index(causal.tokenizer.eos_token_id) + 1 if causal.tokenizer.eos_token_id in row else len(row)
            found[index] = row[:end]
    return [found[index] for index in range(len(prompts))]


def test_decoding_is_no_slower_than_generate_at_its_best(causal: CausalModel, rows: Any, save_result: Save) -> None:
    rng = np.random.default_rng(0)
    prompts = [encode(causal, rows[index][0]) for index in rng.choice(len(rows), size=PROMPTS, replace=False)]
    seconds: dict[str, float] = {}
    answers: dict[str, Any] = {}

    for _ in range(ROUNDS):
        actions: dict[str, Callable[[], Any]] = {
            f"generate {size}": lambda size=size: generate(causal, prompts, size) for size in BATCH_SIZES
        }
        for size in BATCH_SIZES[1:]:
            actions[f"decode {size}"] = lambda size=size: [
                list(each.tokens) for each in decode(causal, prompts, DecodingLimits(NEW_TOKENS), batch_rows=size)
            ]
        for name, action in actions.items():
            taken, answers[name] = seconds_of(action)
            seconds[name] = min(taken, seconds.get(name, taken))

    best = min(taken for name, taken in seconds.items() if name.startswith("generate"))
    tokens = sum(map(len, answers["decode 32"]))
    ours = seconds[f"decode {BATCH_ROWS}"]
    first = answers["generate 8"]
    same = {name: sum(a == b for a, b in zip(first, each, strict=True)) for name, each in answers.items()}
    save_result(
        "generation",
        {
            "prompts": PROMPTS,
            "generated_tokens": tokens,
            "seconds": seconds,
            "same_answers": same,
            "tokens_a_second": tokens / ours,
            "speedup": best / ours,
        },
    )
    assert set(same.values()) == {PROMPTS}
    assert best / ours >= 1


@pytest.mark.parametrize("words", [25, 200])
def test_shared_prefixes_save_a_third_of_the_time(
    words: int, causal: CausalModel, rows: Any, save_result: Save
) -> None:
    rng = np.random.default_rng(words)
    vocabulary = sorted({word for text, _ in rows for word in text.split()})
    searches = []
    for _ in range(TEXTS):
        pool: list[str] = []
        while len(pool) < words:
            text, target = rows[int(rng.integers(len(rows)))]
            pool += text.split()
        answer = tuple(causal.tokenizer(target)["input_ids"])
        search = []
        for _ in range(CANDIDATES):
            edited = pool[:words]
            edited[int(rng.integers(words))] = str(rng.choice(vocabulary))
            search.append(Continuation(tuple(encode(causal, " ".join(edited))), answer))
        searches.append(search)
    seconds: dict[str, float] = {}
    readings: dict[str, Any] = {}
    tokens: dict[str, int] = {}

    for _ in range(ROUNDS):
        for name, read in {"apart": read_along, "shared": read_shared}.items():
            before = causal.token_forwards
            taken, readings[name] = seconds_of(lambda read=read: [each for s in searches for each in read(causal, s)])
            tokens[name] = causal.token_forwards - before
            seconds[name] = min(taken, seconds.get(name, taken))

    pairs = list(zip(readings["apart"], readings["shared"], strict=True))
    share = seconds["shared"] / seconds["apart"]
    result = {
        "words": words,
        "candidates": len(pairs),
        "rounds": ROUNDS,
        "seconds": seconds,
        "token_forwards": tokens,
        "share_of_seconds": share,
        "largest_difference_of_losses": max(abs(a.loss - b.loss) for a, b in pairs),
        "largest_difference_of_margins": max(abs(a.margin - b.margin) for a, b in pairs),
    }
    save_result(f"shared_prefixes_{words}", result)
    assert result["largest_difference_of_losses"] < 1e-4 and result["largest_difference_of_margins"] < 1e-3
    assert share <= 0.65
