"""Steps on victims: scores agree with a processor's, batches fit the memory, texts a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gpu.bench import ROOM, Bench
from gpu.steps import Found, Step, require
from robustness.testsets.example import Example
from robustness.victims.batches import CUDA_BATCH_TOKENS
from robustness.victims.heads.labels import PROBE_TOKENS

TOLERANCE = 2e-3
"""Of a float32 score between two devices, or between two batches on one."""
ROUGH = 0.3
"""Of a score in bfloat16, which has three digits, in spreads of the scores over texts."""
COMPARED = 12


def compare(one: NDArray[np.float32], other: NDArray[np.float32], tolerance: float, what: str) -> float:
    """Returns the largest difference; fails where it is above the tolerance or no number."""
    require(one.shape == other.shape, f"{what}: shapes {one.shape} and {other.shape}")
    require(bool(np.isfinite(one).all() and np.isfinite(other).all()), f"{what}: a score is not finite")
    worst = float(np.abs(one - other).max())
    require(worst <= tolerance, f"{what}: scores differ by {worst:.2g}, more than {tolerance:.2g}")
    return worst


def scores_agree(bench: Bench) -> Found:
    """The encoder's logits here, there, and one text at a time."""
    texts = bench.sentences[:COMPARED]
    here = bench.encoder.scores(texts)
    there = bench.twin(bench.encoder, "cpu", torch.float32).scores(texts)
    worst = compare(here, there, TOLERANCE, "this device and the processor")
    alone = np.concatenate([bench.encoder.scores([text]) for text in texts])
    padded = compare(here, alone, TOLERANCE, "in a batch and alone")
    return Found(f"logits off by {worst:.1e} from the processor's, {padded:.1e} by batch", {"spread": spread(here)})


def spread(scores: NDArray[np.float32]) -> float:
    """The standard deviation over texts of the gap between the first two scores."""
    return float((scores[:, 1] - scores[:, 0]).std())


def queued_calls(bench: Bench) -> Found:
    """Several calls that are under way at once, whose answers are taken in any order, are those of one at a time."""
    parts = [bench.sentences[i::3][:64] for i in range(3)]
    expected = [bench.encoder.scores(part) for part in parts]
    asked = [[Example(str(i), text, label=0) for i, text in enumerate(part)] for part in parts]
    waiting = [bench.encoder.start(part) for part in asked]
    found = [collect() for collect in waiting[::-1]][::-1]
    worst = max(compare(a, b, TOLERANCE, "queued and one at a time") for a, b in zip(expected, found, strict=True))
    return Found(f"3 calls under way at once: off by {worst:g}")


def bfloat16_scores(bench: Bench) -> Found:
    """The encoder's logits in bfloat16."""
    texts = bench.sentences[:256]
    exact = bench.encoder.scores(texts)
    rough = bench.twin(bench.encoder, str(bench.device), torch.bfloat16).scores(texts)
    off = float(np.sqrt(np.mean((rough - exact) ** 2)) / max(spread(exact), 1e-6))
    same = float((rough.argmax(axis=1) == exact.argmax(axis=1)).mean())
    require(bool(np.isfinite(rough).all()), "a bfloat16 score is not finite")
    require(off <= ROUGH, f"bfloat16 is off by {off:.2f} of the scores' spread over texts, more than {ROUGH}")
    return Found(f"off by {off:.3f} of the spread over texts; {same:.1%} have the same label")


def batch_size(bench: Bench) -> Found:
    """What a fresh victim finds out about the memory."""
    victim = bench.twin(bench.encoder, str(bench.device), torch.float32)
    victim.scores(bench.sentences[:64])
    tokens = victim.batches.tokens
    require(tokens is not None and tokens > 0, f"a batch has {tokens} tokens")
    assert tokens is not None
    require(tokens & (tokens - 1) == 0, f"{tokens} tokens are no power of two")
    require(not bench.on_cuda or tokens >= PROBE_TOKENS, f"only {tokens} tokens a batch")
    return Found(f"{tokens} tokens a batch", {"tokens": tokens})


def texts_a_second(bench: Bench) -> Found:
    """The rate at which the encoder scores sentences."""
    rates: dict[str, float] = {}
    for dtype in (torch.float32, torch.bfloat16):
        victim = bench.twin(bench.encoder, str(bench.device), dtype)
        victim.scores(bench.sentences[: 4 * COMPARED])
        rates[str(dtype).removeprefix("torch.")] = bench.rate(lambda v=victim: len(v.scores(bench.sentences)))
    return Found(", ".join(f"{rate:,.0f} texts/s {name}" for name, rate in rates.items()), {"texts_a_second": rates})


def halving(bench: Bench) -> Found:
    """A batch that does not fit is halved; no text is lost, and scores are as before."""
    victim = bench.twin(bench.encoder, str(bench.device), torch.float32)
    texts = bench.sentences[: max(24, bench.size.texts // 4)]
    expected = victim.scores(texts)
    victim.batches.tokens = CUDA_BATCH_TOKENS
    before = victim.forwards
    with bench.short_of_memory(victim, ROOM if bench.on_cuda else 100):
        found = victim.scores(texts)
    tokens = victim.batches.tokens
    require(tokens < CUDA_BATCH_TOKENS, "the memory was made short, and no batch was halved")
    require(victim.forwards - before == len(texts), f"{victim.forwards - before} forwards for {len(texts)} texts")
    worst = compare(expected, found, TOLERANCE, "before and after halving")
    return Found(f"{CUDA_BATCH_TOKENS} -> {tokens} tokens a batch, logits off by {worst:.1e}", {"tokens": tokens})


def trial_without_room(bench: Bench) -> Found:
    """Where even the batch by which memory is measured does not fit, shorter ones are tried."""
    victim = bench.twin(bench.encoder, str(bench.device), torch.float32)
    texts = sorted(bench.sentences[:64], key=lambda text: len(text[0]))[:16]
    expected = bench.encoder.scores(texts)
    victim.batches.tokens = None if bench.on_cuda else PROBE_TOKENS
    with bench.short_of_memory(victim, 600 if bench.on_cuda else 60):
        found = victim.scores(texts)
    worst = compare(expected, found, TOLERANCE, "with and without room")
    return Found(
        f"{victim.batches.tokens} tokens a batch, logits off by {worst:.1e}", {"tokens": victim.batches.tokens}
    )


def spans_agree(bench: Bench) -> Found:
    """The reader's answers here and on the processor; windows a second."""
    texts = bench.questions[:8]
    here, there = (victim.predict(texts) for victim in (bench.reader, bench.twin(bench.reader, "cpu", torch.float32)))
    worst = max(abs(a.scores[0] - b.scores[0]) for a, b in zip(here, there, strict=True))
    require(worst <= 10 * TOLERANCE, f"the best spans' scores differ by {worst:.2g}")
    same = sum(a.best == b.best for a, b in zip(here, there, strict=True))
    require(same >= len(texts) - 1, f"{len(texts) - same} of {len(texts)} answers differ")
    before = bench.reader.forwards
    rate = bench.rate(lambda: bench.reader.predict(bench.questions) and bench.reader.forwards - before)
    return Found(f"{same} of {len(texts)} answers alike, {rate:,.0f} windows/s", {"windows_a_second": rate})


def prompts_agree(bench: Bench) -> Found:
    """The language model's label scores here and on the processor; prompts a second in bfloat16."""
    texts = bench.sentences[:4]
    here = bench.prompted.scores(texts)
    there = bench.twin(bench.prompted, "cpu", torch.float32).scores(texts)
    worst = compare(here, there, 10 * TOLERANCE, "this device and the processor")
    alone = np.concatenate([bench.prompted.scores([text]) for text in texts])
    compare(here, alone, 10 * TOLERANCE, "in a batch and alone")
    rough = bench.twin(bench.prompted, str(bench.device), torch.bfloat16)
    require(bool(np.isfinite(rough.scores(texts)).all()), "a bfloat16 score is not finite")
    some = bench.sentences[: bench.size.texts // 4]
    rate = bench.rate(lambda: len(rough.scores(some)))
    return Found(f"scores off by {worst:.1e}, {rate:,.0f} prompts/s bfloat16", {"prompts_a_second": rate})


def other_heads_halve(bench: Bench) -> Found:
    """Readers and prompted models halve batches too."""
    figures = []
    victims: Sequence[tuple[Any, Any]] = (
        (bench.reader, bench.questions[:24]),
        (bench.prompted, bench.sentences[:64]),
    )
    for original, texts in victims:
        victim = bench.twin(original, str(bench.device), torch.float32)
        expected = victim.logits(texts)
        victim.batches.tokens = CUDA_BATCH_TOKENS
        with bench.short_of_memory(victim, ROOM if bench.on_cuda else 450):
            worst = compare(expected, victim.logits(texts), 10 * TOLERANCE, "before and after halving")
        require(victim.batches.tokens < CUDA_BATCH_TOKENS, f"{type(victim).__name__}: no batch was halved")
        figures.append(f"{victim.batches.tokens} tokens, off by {worst:.1e}")
        del victim
    return Found("; ".join(figures))


STEPS: tuple[Step[Bench], ...] = (
    Step("float32 scores", scores_agree),
    Step("bfloat16 scores", bfloat16_scores),
    Step("batch by free memory", batch_size),
    Step("texts a second", texts_a_second),
    Step("halving", halving),
    Step("no room for the trial", trial_without_room),
    Step("calls under way", queued_calls),
    Step("spans", spans_agree),
    Step("prompts", prompts_agree),
    Step("halving, other heads", other_heads_halve),
)
