"""Recipes on MiniLM beside TextAttack 0.3.11's own and beside the forward passes nobody can do without."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from operator import eq
from typing import Any

import numpy as np
import pytest
import torch

from robustness.engine.attack import ScoreRows
from robustness.engine.named_attack import NamedAttack
from robustness.engine.outcome import Outcome
from robustness.engine.scheduler import Scheduler
from robustness.recipes.building import find_attack
from robustness.testsets.example import Example, Texts
from robustness.victims.heads.labels import Victim

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

EXAMPLES = 100
FLOOR_BATCH = 128
SEED = 0
TEXTATTACK_LIMIT = 14


@dataclass(frozen=True)
class Case:
    """A recipe of ours, TextAttack's, and the examples that TextAttack's is given: how many, of how many words."""

    name: str
    theirs: str
    floor_limit: float
    """Of the median over rounds of engine over floor, in processor time."""
    their_examples: int
    most_words: int = 1_000
    rounds: int = 3


CASES = (
    Case("deepwordbug", "DeepWordBugGao2018", 1.05, their_examples=30, rounds=5),
    Case("pwws", "PWWSRen2019", 1.12, their_examples=12),
    Case("pruthi", "Pruthi2019", 1.05, their_examples=12, most_words=6),  # theirs: 50 seconds for a usual sentence
)


@dataclass(frozen=True)
class Times:
    """Processor seconds are those of an idle machine, whatever runs beside: the ratios that are asserted use them."""

    processor_seconds: float
    wall_seconds: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


class Clock:
    def __init__(self) -> None:
        self._started = time.process_time(), time.perf_counter()

    def read(self) -> Times:
        return Times(time.process_time() - self._started[0], time.perf_counter() - self._started[1])


class Recording:
    """A victim that remembers its texts."""

    def __init__(self, victim: Victim) -> None:
        self._victim = victim
        self.texts: list[Texts] = []

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        self.texts += texts
        return self._victim.scores(texts)


def time_floor(victim: Victim, texts: Sequence[Texts]) -> Times:
    """The texts in length-sorted batches of 128, padded to the longest of each."""
    clock = Clock()
    encoded = victim.tokenizer([text[0] for text in texts], truncation=True, max_length=512)["input_ids"]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    with torch.inference_mode():
        for start in range(0, len(order), FLOOR_BATCH):
            batch = {"input_ids": [encoded[i] for i in order[start : start + FLOOR_BATCH]]}
            victim.model(**victim.tokenizer.pad(batch, return_tensors="pt")).logits.numpy()
    return clock.read()


def time_engine(attack: NamedAttack, victim: Any, examples: Sequence[Example]) -> tuple[Times, dict[str, Outcome]]:
    clock = Clock()
    outcomes = {o.example_id: o for o in Scheduler(attack, victim, seed=SEED).run(examples)}
    return clock.read(), outcomes


def time_textattack(recipe: str, victim: Victim, examples: Sequence[Example]) -> tuple[Times, list[str]]:
    """TextAttack's own recipe with its own wrapper, all as it comes; returns statuses too."""
    import textattack
    from textattack.models.wrappers import HuggingFaceModelWrapper

    attack = getattr(textattack.attack_recipes, recipe).build(HuggingFaceModelWrapper(victim.model, victim.tokenizer))
    words = {"SuccessfulAttackResult": "succeeded", "FailedAttackResult": "failed", "SkippedAttackResult": "skipped"}
    np.random.seed(SEED)
    statuses = []
    clock = Clock()
    for number, example in enumerate(examples, start=1):
        result = attack.attack(example.texts[0], example.label)
        statuses.append(words[type(result).__name__])
        print(f"  textattack {recipe}: {number} of {len(examples)}, {clock.read().wall_seconds:.0f} s", flush=True)
    return clock.read(), statuses


@pytest.mark.usefixtures("textattack")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_recipe_is_near_the_forward_floor_and_far_ahead_of_textattack(
    case: Case, minilm_victim: Victim, sst2: Sequence[Example], save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    attack = find_attack(case.name)
    examples = sst2[:EXAMPLES]
    few = list(islice((e for e in sst2 if len(e.words) <= case.most_words), case.their_examples))
    minilm_victim.scores([example.texts for example in examples])  # warm-up

    engine, floors, outcomes, recording = [], [], {}, Recording(minilm_victim)
    for number in range(case.rounds):
        recording = Recording(minilm_victim)
        times, outcomes = time_engine(attack, recording, examples)
        unique = list(dict.fromkeys(recording.texts))
        engine.append(times)
        print(f"{case.name} round {number + 1}: {len(unique)} texts in {times}", flush=True)
        floors.append(time_floor(minilm_victim, unique))
        print(f"{case.name} round {number + 1}: floor {floors[-1]}", flush=True)
    ours_on_few, own_outcomes = time_engine(attack, minilm_victim, few)
    theirs, their_statuses = time_textattack(case.theirs, minilm_victim, few)

    own_statuses = [str(own_outcomes[example.id].status) for example in few]
    ours, floor = median(engine), median(floors)
    figures = {
        "examples": len(examples),
        "queries": sum(outcome.queries for outcome in outcomes.values()),
        "unique_texts": len(set(recording.texts)),
        "rounds": case.rounds,
        "engine": ours,
        "floor": floor,
        "engine_over_floor_processor": median_ratio(engine, floors, "processor_seconds"),
        "engine_over_floor_wall": median_ratio(engine, floors, "wall_seconds"),
        "textattack_examples": len(few),
        "textattack_examples_most_words": max(len(example.words) for example in few),
        "engine_on_these": ours_on_few.as_dict(),
        "textattack": theirs.as_dict(),
        "textattack_over_engine_processor": theirs.processor_seconds / ours_on_few.processor_seconds,
        "textattack_over_engine_wall": theirs.wall_seconds / ours_on_few.wall_seconds,
        "same_status_share_own_draws": share(map(eq, own_statuses, their_statuses)),
    }
    save_result(case.name, figures)

    assert figures["engine_over_floor_processor"] <= case.floor_limit
    assert figures["textattack_over_engine_processor"] >= TEXTATTACK_LIMIT


def median(times: Sequence[Times]) -> dict[str, float]:
    return {
        "processor_seconds": float(np.median([each.processor_seconds for each in times])),
        "wall_seconds": float(np.median([each.wall_seconds for each in times])),
    }


def median_ratio(engine: Sequence[Times], floors: Sequence[Times], unit: str) -> float:
    """Of each round and the floor timed right after it: what slows the machine slows both."""
    return float(
        np.median([getattr(ours, unit) / getattr(floor, unit) for ours, floor in zip(engine, floors, strict=True)])
    )


def share(agreements: Iterable[bool]) -> float:
    return float(np.mean(list(agreements)))
