"""DeepWordBug on MiniLM beside TextAttack 0.3.11 and beside the forward passes nobody can do without."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import eq
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


@dataclass(frozen=True)
class TheirRun:
    """What TextAttack's own recipe did with its own wrapper, all as it comes."""

    seconds: float
    statuses: list[str]
    texts: list[str]
    first_queries: list[set[str]]


def run_textattack(victim: Victim, examples: Sequence[Example], start_example: Callable[[str], None]) -> TheirRun:
    from textattack.attack_recipes import DeepWordBugGao2018
    from textattack.models.wrappers import HuggingFaceModelWrapper
    from textattack.shared import AttackedText

    seen: list[str] = []

    class RecordingWrapper(HuggingFaceModelWrapper):
        def __call__(self, texts: list[str]) -> Any:
            seen.extend(texts)
            return super().__call__(texts)

    attack = DeepWordBugGao2018.build(RecordingWrapper(victim.model, victim.tokenizer))
    words = {"SuccessfulAttackResult": "succeeded", "FailedAttackResult": "failed", "SkippedAttackResult": "skipped"}
    statuses, texts, first_queries = [], [], []
    started = time.perf_counter()
    for example in examples:
        seen.clear()
        start_example(example.id)
        result = attack.attack(AttackedText(example.texts[0]), example.label)
        statuses.append(words[type(result).__name__])
        texts.append(result.perturbed_result.attacked_text.text)
        first_queries.append({text for text in seen if "[UNK]" in text})
    return TheirRun(time.perf_counter() - started, statuses, texts, first_queries)


def test_deepwordbug_is_near_the_forward_floor_and_far_ahead_of_textattack(
    minilm_pair: Path,
    shared_data: Path,
    textattack: Any,
    shared_draws: Any,
    save_result: Callable[[str, dict[str, Any]], None],
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
    np.random.seed(0)
    own_draws = run_textattack(victim, examples, lambda _: None)
    theirs = run_textattack(victim, examples, shared_draws(0, attack.digest).start)

    our_statuses = [str(outcomes[example.id].status) for example in examples]
    our_texts = [(outcomes[example.id].adversarial_text or ("",))[0] for example in examples]
    our_first = [_hidden_words(recording.texts, example) for example in examples]
    attacked = [i for i, status in enumerate(our_statuses) if status != "skipped"]
    ours, floor = float(np.median(engine_seconds)), float(np.median(floor_seconds))
    figures = {
        "examples": EXAMPLES,
        "queries": sum(outcome.queries for outcome in outcomes.values()),
        "unique_texts": len(set(recording.texts)),
        "engine_seconds": ours,
        "floor_seconds": floor,
        "textattack_seconds": own_draws.seconds,
        "engine_over_floor": ours / floor,
        "textattack_over_engine": own_draws.seconds / ours,
        "same_first_query_set_share": share(our_first[i] == theirs.first_queries[i] for i in attacked),
        "same_status_share_same_draws": share(map(eq, our_statuses, theirs.statuses)),
        "same_text_share_same_draws": share(our_texts[i] == theirs.texts[i] for i in attacked),
        "same_status_share_own_draws": share(map(eq, our_statuses, own_draws.statuses)),
        "textattack_same_status_share_with_itself": share(map(eq, theirs.statuses, own_draws.statuses)),
        "succeeded": our_statuses.count("succeeded"),
        "textattack_succeeded": own_draws.statuses.count("succeeded"),
    }
    save_result("deepwordbug", figures)

    assert figures["engine_over_floor"] <= 1.5
    assert figures["textattack_over_engine"] >= 8
    assert figures["same_status_share_same_draws"] >= 0.95
    assert figures["same_first_query_set_share"] == 1


def share(agreements: Iterable[bool]) -> float:
    return float(np.mean(list(agreements)))


def _hidden_words(texts: Sequence[Texts], example: Example) -> set[str]:
    hidden = {example.replace_word(i, "[UNK]").texts[0] for i in range(len(example.words))}
    return hidden & {text[0] for text in texts}
