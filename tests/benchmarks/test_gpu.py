"""DeepWordBug on a RoBERTa-large beside the rate at which the same victim scores the same texts, on CUDA."""

from __future__ import annotations

import os
import string
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForSequenceClassification

from robustness.engine.attack import ScoreRows
from robustness.engine.scheduler import CUDA_WIDTH, Scheduler
from robustness.recipes.building import find_attack
from robustness.testsets.example import Example, Texts
from robustness.victims.victim import Victim

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

EXAMPLES = 1_000
BATCH_TOKENS = (4_096, 8_192, 16_384, 32_768, 65_536)
LIMIT = 0.8
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


class Recording:
    """A victim that remembers its texts, and lets the scheduler go on while it works."""

    def __init__(self, victim: Victim) -> None:
        self._victim = victim
        self.texts: list[Texts] = []

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        return self.start(texts)()

    def start(self, texts: Sequence[Texts]) -> Callable[[], ScoreRows]:
        self.texts += texts
        return self._victim.start(texts)


def make_words() -> list[str]:
    rng = np.random.default_rng(0)
    return sorted({"".join(rng.choice(list(string.ascii_lowercase), size=rng.integers(2, 9))) for _ in range(2_000)})


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Words are tokens, and what a typo makes of them is pieces of one and two letters, as with a real vocabulary."""
    letters = string.ascii_letters + string.digits + string.punctuation
    pieces = [*letters, *(a + b for a in string.ascii_lowercase for b in string.ascii_lowercase)]
    tokens = dict.fromkeys([*SPECIAL, *pieces, *(f"##{piece}" for piece in pieces), *make_words()])
    vocabulary = {token: i for i, token in enumerate(tokens)}
    core = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=512,
    )


def make_victim(device: str, dtype: torch.dtype, **sizes: int) -> Victim:
    """RoBERTa-large's shape with drawn weights: the passes cost the same."""
    tokenizer = make_tokenizer()
    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    config = RobertaConfig(
        vocab_size=50_265, max_position_embeddings=514, type_vocab_size=1, pad_token_id=1, **(large | sizes)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = RobertaForSequenceClassification(config)
    return Victim(model.to(device=device, dtype=dtype).eval(), tokenizer, (0, 1))


def write_examples(victim: Victim, count: int) -> list[Example]:
    """Sentences as long as SST-2's, labelled as the victim answers: every one is attacked."""
    rng = np.random.default_rng(0)
    words = make_words()
    texts = [(" ".join(rng.choice(words, size=rng.integers(4, 40))),) for _ in range(count)]
    labels = victim.scores(texts).argmax(axis=1)
    return [Example(str(i), text, int(label)) for i, (text, label) in enumerate(zip(texts, labels, strict=True))]


def rate(work: Callable[[], int]) -> float:
    started = time.perf_counter()
    count = work()
    return count / (time.perf_counter() - started)


def measure(victim: Victim, examples: Sequence[Example], batch_tokens: Sequence[int]) -> dict[str, Any]:
    attack = find_attack("deepwordbug")
    recording = Recording(victim)

    def run() -> int:
        recording.texts.clear()
        return sum(o.forwards for o in Scheduler(attack, recording, seed=0, width=CUDA_WIDTH).run(examples))

    run()  # warm-up, which also finds the size of a batch
    own_tokens = victim._batch_tokens
    engine = float(np.median([rate(run) for _ in range(3)]))
    texts = list(recording.texts)
    peaks = {}
    for tokens in batch_tokens:
        victim._batch_tokens = tokens
        victim.scores(texts[:4_096])  # the sizes of this budget, once
        peaks[tokens] = float(np.median([rate(lambda: len(victim.scores(texts))) for _ in range(3)]))
        print(f"{tokens} tokens a batch: {peaks[tokens]:.0f} texts a second", flush=True)
    return {
        "examples": len(examples),
        "texts": len(texts),
        "tokens_a_text": float(np.mean([len(ids) for ids in victim._encode(texts[:4_096])["input_ids"]])),
        "batch_tokens": own_tokens,
        "engine_texts_a_second": engine,
        "victim_texts_a_second_by_batch_tokens": {str(tokens): value for tokens, value in peaks.items()},
        "engine_over_peak": engine / max(peaks.values()),
    }


@pytest.mark.skipif(not torch.cuda.is_available(), reason="measures a GPU; torch finds no CUDA device here")
def test_deepwordbug_reaches_80_percent_of_a_gpus_peak_scoring_rate(
    save_result: Callable[[str, dict[str, Any]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "TOKENIZERS_PARALLELISM", "true")  # as the command line has it
    victim = make_victim("cuda", torch.bfloat16)

    figures = measure(victim, write_examples(victim, EXAMPLES), BATCH_TOKENS)
    save_result("gpu", figures)

    assert figures["engine_over_peak"] >= LIMIT


def test_the_gpu_benchmark_itself_works_on_a_small_model() -> None:
    victim = make_victim(
        "cpu", torch.float32, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )

    figures = measure(victim, write_examples(victim, 5), (512, 2_048))

    assert figures["texts"] > 5 * 10
    assert 0.2 < figures["engine_over_peak"] < 2
