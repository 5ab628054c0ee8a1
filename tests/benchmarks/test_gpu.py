"""A RoBERTa-large on CUDA: DeepWordBug beside the rate at which the victim scores the same texts, and every probe."""

from __future__ import annotations

import os
import string
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForSequenceClassification

from robustness.engine.attack import ScoreRows
from robustness.engine.scheduler import CUDA_WIDTH, Scheduler
from robustness.recipes.assets import use_data
from robustness.recipes.building import find_attack
from robustness.sensitivity.building import find_probe
from robustness.sensitivity.probe import Subject
from robustness.testsets.example import Example, Texts
from robustness.victims.checkpoint import Checkpoint
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
    own_tokens = victim.batches.tokens
    engine = float(np.median([rate(run) for _ in range(3)]))
    texts = list(recording.texts)
    peaks = {}
    for tokens in batch_tokens:
        victim.batches.tokens = tokens
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


PROBES: dict[str, dict[str, int]] = {
    "margin": {},
    "margin-gradient": {},
    "jacobian-norm": {},
    "condition-profile": {},
    "first-order-radius": {},
    "adversarial-distance": {"examples": 32, "steps": 40},
    "smoothing": {"examples": 16},
    "reachability": {"examples": 16},
    "sharpness": {"examples": 32, "steps": 10},
    "parameter-margin": {"examples": 4},
    "weight-rounding": {},
    "lipschitz-lower": {"examples": 32},
    "block-jacobians": {"examples": 16},
}
OF_WORDS = {"one-substitution": {"examples": 32}, "safer": {"examples": 16}}
"""Need the synonyms' file."""


def write_lora(victim: Victim, folder: Path, rank: int = 8) -> Checkpoint:
    """An adapter with drawn factors on queries and values: the directions that reachability and sharpness look in."""
    weights = {name: value for name, value in victim.model.named_parameters() if ".self.query.w" in name}
    weights |= {name: value for name, value in victim.model.named_parameters() if ".self.value.w" in name}
    rng = torch.Generator().manual_seed(0)
    factors = {}
    for name, value in weights.items():
        key = f"base_model.model.{name.removesuffix('.weight')}"
        factors[f"{key}.lora_A.weight"] = torch.randn(rank, value.shape[1], generator=rng)
        factors[f"{key}.lora_B.weight"] = torch.randn(value.shape[0], rank, generator=rng)
    LoraConfig(task_type="SEQ_CLS", r=rank, target_modules=["query", "value"]).save_pretrained(folder)
    save_file(factors, folder / "adapter_model.safetensors")
    return Checkpoint("drawn", folder, folder, "lora")


def time_probes(
    victim: Victim, checkpoint: Checkpoint, probes: dict[str, dict[str, int]], examples: Sequence[Example]
) -> dict[str, Any]:
    """Seconds, readings and peak memory of each probe on its share of the examples."""
    figures: dict[str, Any] = {}
    for name, parameters in probes.items():
        named = find_probe(name, parameters)
        used = list(examples)[: named.examples]
        subject = Subject(checkpoint, used, list(examples)[len(used) :][:32], 0, named.digest, lambda: victim)
        if victim.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        statuses = Counter(str(reading.measurement.status) for reading in named.probe.measure(subject))
        figures[name] = {
            "examples": len(used),
            "seconds": time.perf_counter() - started,
            "readings": dict(statuses),
            "peak_bytes": torch.cuda.max_memory_allocated() if victim.device.type == "cuda" else None,
        }
        print(name, figures[name], flush=True)
    return figures


@pytest.mark.skipif(not torch.cuda.is_available(), reason="measures a GPU; torch finds no CUDA device here")
def test_every_probe_measures_a_large_model_on_a_gpu(
    tmp_path: Path, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    victim = make_victim("cuda", torch.float32)
    probes = PROBES | (OF_WORDS if "ROBUSTNESS_DATA" in os.environ else {})
    if "ROBUSTNESS_DATA" in os.environ:
        use_data(Path(os.environ["ROBUSTNESS_DATA"]))

    figures = time_probes(victim, write_lora(victim, tmp_path), probes, write_examples(victim, 96))
    save_result("gpu_probes", figures)

    assert not any("errored" in row["readings"] for row in figures.values())


def test_the_benchmark_of_probes_itself_works_on_a_small_model(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    victim = make_victim("cpu", torch.float32, **sizes)
    few = {"margin": {}, "jacobian-norm": {}, "reachability": {"examples": 2}, "block-jacobians": {"examples": 2}}

    figures = time_probes(victim, write_lora(victim, tmp_path), few, write_examples(victim, 3))

    assert all(set(row["readings"]) == {"ok"} for row in figures.values())
