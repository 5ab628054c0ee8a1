"""DeepWordBug on MiniLM beside TextAttack 0.3.11 and beside the forward passes nobody can do without."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustness.definitions.catalog import TESTSETS
from robustness.definitions.pairs import read_pairs
from robustness.definitions.tasks import find_task
from robustness.engine.attack import ScoreRows
from robustness.engine.scheduler import Scheduler
from robustness.recipes.building import find_attack
from robustness.testsets.example import Example, Texts
from robustness.testsets.loading import load_testset
from robustness.victims.checkpoint import read_checkpoint
from robustness.victims.loading import load_checkpoint, place, to_victim
from robustness.victims.victim import Victim

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

EXAMPLES = 30
FLOOR_BATCH = 128
ROUNDS = 3


class Recording:
    """A victim that remembers its texts."""

    def __init__(self, victim: Victim) -> None:
        self._victim = victim
        self.texts: list[Texts] = []

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        self.texts += texts
        return self._victim.scores(texts)


def score_floor(victim: Victim, texts: Sequence[Texts]) -> float:
    """Seconds for the texts in length-sorted batches of 128, padded to the longest of each."""
    started = time.perf_counter()
    encoded = victim.tokenizer([text[0] for text in texts], truncation=True, max_length=512)["input_ids"]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    with torch.inference_mode():
        for start in range(0, len(order), FLOOR_BATCH):
            batch = {"input_ids": [encoded[i] for i in order[start : start + FLOOR_BATCH]]}
            victim.model(**victim.tokenizer.pad(batch, return_tensors="pt")).logits.numpy()
    return time.perf_counter() - started


def run_textattack(
    victim: Victim, examples: Sequence[Example], nltk_data: Path
) -> tuple[float, list[str], list[set]]:
    """Seconds, statuses and first query sets of TextAttack's own recipe with its own wrapper, all as it comes."""
    patch = pytest.MonkeyPatch()
    patch.setenv("NLTK_DATA", str(nltk_data))
    import textattack
    from textattack.attack_recipes import DeepWordBugGao2018
    from textattack.models.wrappers import HuggingFaceModelWrapper

    seen: list[str] = []

    class RecordingWrapper(HuggingFaceModelWrapper):
        def __call__(self, texts: list[str]) -> Any:
            seen.extend(texts)
            return super().__call__(texts)

    wrapper = RecordingWrapper(victim.model, victim.tokenizer)
    attack = DeepWordBugGao2018.build(wrapper)
    attack.cuda_ = lambda: None
    words = {"SuccessfulAttackResult": "succeeded", "FailedAttackResult": "failed", "SkippedAttackResult": "skipped"}
    statuses, first_queries = [], []
    torch.manual_seed(0)
    np.random.seed(0)
    started = time.perf_counter()
    for example in examples:
        seen.clear()
        text = textattack.shared.AttackedText(example.texts[0])
        result = attack.attack(text, example.label)
        statuses.append(words[type(result).__name__])
        first_queries.append({text for text in seen if "[UNK]" in text})
    seconds = time.perf_counter() - started
    patch.undo()
    return seconds, statuses, first_queries


def test_deepwordbug_is_near_the_forward_floor_and_far_ahead_of_textattack(
    minilm_pair: Path, shared_data: Path, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    torch.set_num_threads(1)
    pair = read_pairs(minilm_pair)[0]
    task = find_task("sst2")
    checkpoint = read_checkpoint(pair.full_name, pair.full, pair.base)
    victim = to_victim(load_checkpoint(checkpoint, task), place("cpu"))
    examples = load_testset(TESTSETS.find("sst2"), shared_data).examples[:EXAMPLES]
    attack = find_attack("deepwordbug")
    victim.scores([example.texts for example in examples])  # warm-up

    engine_seconds, floor_seconds, outcomes, recording = [], [], {}, Recording(victim)
    for _ in range(ROUNDS):
        recording = Recording(victim)
        started = time.perf_counter()
        outcomes = {o.example_id: o for o in Scheduler(attack, recording, seed=0).run(examples)}
        engine_seconds.append(time.perf_counter() - started)
        floor_seconds.append(score_floor(victim, list(dict.fromkeys(recording.texts))))
    their_seconds, their_statuses, their_first = run_textattack(victim, examples, shared_data / "nltk_data")

    our_statuses = [str(outcomes[example.id].status) for example in examples]
    our_first = [_hidden_words(recording.texts, example) for example in examples]
    attacked = [i for i, status in enumerate(our_statuses) if status != "skipped"]
    ours, floor = float(np.median(engine_seconds)), float(np.median(floor_seconds))
    figures = {
        "examples": EXAMPLES,
        "queries": sum(outcome.queries for outcome in outcomes.values()),
        "unique_texts": len(set(recording.texts)),
        "engine_seconds": ours,
        "floor_seconds": floor,
        "textattack_seconds": their_seconds,
        "engine_over_floor": ours / floor,
        "textattack_over_engine": their_seconds / ours,
        "same_status_share": float(np.mean([a == b for a, b in zip(our_statuses, their_statuses, strict=True)])),
        "same_first_query_set_share": float(np.mean([our_first[i] == their_first[i] for i in attacked])),
        "statuses": {status: our_statuses.count(status) for status in sorted(set(our_statuses))},
        "textattack_statuses": {status: their_statuses.count(status) for status in sorted(set(their_statuses))},
    }
    save_result("deepwordbug", figures)

    assert figures["engine_over_floor"] <= 1.5
    assert figures["textattack_over_engine"] >= 8
    assert figures["same_status_share"] >= 0.95
    assert figures["same_first_query_set_share"] == 1


def _hidden_words(texts: Sequence[Texts], example: Example) -> set[str]:
    hidden = {example.replace_word(i, "[UNK]").texts[0] for i in range(len(example.words))}
    return hidden & {text[0] for text in texts}
