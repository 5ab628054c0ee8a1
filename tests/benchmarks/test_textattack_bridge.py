"""TextAttack's unmodified recipes through the scheduler, beside TextAttack's own run of them on MiniLM."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from itertools import islice
from operator import eq
from typing import Any

import numpy as np
import pytest
import torch

from robustness.engine.named_attack import NamedAttack
from robustness.engine.scheduler import Scheduler
from robustness.engine.seeding import example_generator
from robustness.recipes.building import find_attack
from robustness.testsets.example import Example
from robustness.victims.heads.labels import Victim

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

RECIPES = {"DeepWordBugGao2018": 1_000, "PWWSRen2019": 1_000, "Pruthi2019": 6}
"""With the most words of an example: TextAttack takes about 50 seconds for Pruthi2019 on a usual sentence."""
EXAMPLES = 12
SEED = 0
LIMIT = 8
WORDS = {"SuccessfulAttackResult": "succeeded", "FailedAttackResult": "failed", "SkippedAttackResult": "skipped"}


def run_textattack(
    recipe: str, victim: Victim, attack: NamedAttack, examples: Sequence[Example]
) -> tuple[list[str], list[str]]:
    """Statuses and texts of TextAttack's own run, from the random numbers our engine gives each example."""
    import textattack
    from textattack.models.wrappers import HuggingFaceModelWrapper

    own = getattr(textattack.attack_recipes, recipe).build(HuggingFaceModelWrapper(victim.model, victim.tokenizer))
    statuses, texts = [], []
    for number, example in enumerate(examples, start=1):
        seed = int(example_generator(SEED, attack.digest, example.id).integers(2**32))
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        result = own.attack(example.texts[0], example.label)
        statuses.append(WORDS[type(result).__name__])
        texts.append(result.perturbed_result.attacked_text.text)
        print(f"  textattack {recipe}: {number} of {len(examples)}", flush=True)
    return statuses, texts


@pytest.mark.usefixtures("textattack")
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_bridge_is_far_ahead_of_textattack_and_finds_the_same_texts(
    recipe: str, minilm_victim: Victim, sst2: Sequence[Example], save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    examples = list(islice((e for e in sst2 if len(e.words) <= RECIPES[recipe]), EXAMPLES))
    attack = find_attack(f"textattack:{recipe}")
    minilm_victim.scores([example.texts for example in examples])  # warm-up

    started = time.process_time(), time.perf_counter()
    outcomes = {o.example_id: o for o in Scheduler(attack, minilm_victim, seed=SEED).run(examples)}
    between = time.process_time(), time.perf_counter()
    statuses, texts = run_textattack(recipe, minilm_victim, attack, examples)
    ended = time.process_time(), time.perf_counter()

    ours = [outcomes[example.id] for example in examples]
    attacked = [i for i, outcome in enumerate(ours) if outcome.adversarial_text is not None]
    figures = {
        "examples": len(examples),
        "most_words": max(len(example.words) for example in examples),
        "queries": sum(outcome.queries for outcome in ours),
        "forwards": sum(outcome.forwards for outcome in ours),
        "bridge_processor_seconds": between[0] - started[0],
        "bridge_wall_seconds": between[1] - started[1],
        "textattack_processor_seconds": ended[0] - between[0],
        "textattack_wall_seconds": ended[1] - between[1],
        "textattack_over_bridge_processor": (ended[0] - between[0]) / (between[0] - started[0]),
        "textattack_over_bridge_wall": (ended[1] - between[1]) / (between[1] - started[1]),
        "same_status_share": float(np.mean([*map(eq, [str(outcome.status) for outcome in ours], statuses)])),
        "same_text_share": float(np.mean([ours[i].adversarial_text == (texts[i],) for i in attacked])),
        "succeeded": statuses.count("succeeded"),
    }
    save_result(f"textattack_bridge_{recipe}", figures)

    assert figures["textattack_over_bridge_processor"] >= LIMIT
    assert figures["same_status_share"] == 1
    assert figures["same_text_share"] == 1
