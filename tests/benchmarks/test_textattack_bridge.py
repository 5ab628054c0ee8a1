"""TextAttack's unmodified recipes through the scheduler, beside TextAttack's own run of them on MiniLM."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from operator import eq
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustness.definitions.catalog import TESTSETS
from robustness.definitions.pairs import read_pairs
from robustness.definitions.tasks import find_task
from robustness.engine.attack import NamedAttack
from robustness.engine.scheduler import Scheduler
from robustness.engine.seeding import example_generator
from robustness.recipes.building import find_attack
from robustness.testsets.example import Example
from robustness.testsets.loading import load_testset
from robustness.victims.checkpoint import read_checkpoint
from robustness.victims.loading import load_checkpoint, place, to_victim
from robustness.victims.victim import Victim

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

RECIPES = ("DeepWordBugGao2018", "PWWSRen2019")
EXAMPLES = 12
ROUNDS = 3
SEED = 0
WORDS = {"SuccessfulAttackResult": "succeeded", "FailedAttackResult": "failed", "SkippedAttackResult": "skipped"}


def run_textattack(
    recipe: str, victim: Victim, attack: NamedAttack, examples: Sequence[Example]
) -> tuple[float, list[str], list[str]]:
    """Seconds, statuses and texts of TextAttack's own run, from the random numbers our engine gives each example."""
    import textattack
    from textattack.models.wrappers import HuggingFaceModelWrapper

    own = getattr(textattack.attack_recipes, recipe).build(HuggingFaceModelWrapper(victim.model, victim.tokenizer))
    statuses, texts = [], []
    started = time.perf_counter()
    for example in examples:
        seed = int(example_generator(SEED, attack.digest, example.id).integers(2**32))
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        result = own.attack(example.texts[0], example.label)
        statuses.append(WORDS[type(result).__name__])
        texts.append(result.perturbed_result.attacked_text.text)
    return time.perf_counter() - started, statuses, texts


@pytest.mark.usefixtures("textattack")
def test_the_bridge_is_far_ahead_of_textattack_and_finds_the_same_texts(
    minilm_pair: Path, shared_data: Path, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    torch.set_num_threads(1)
    pair = read_pairs(minilm_pair)[0]
    checkpoint = read_checkpoint(pair.full_name, pair.full, pair.base)
    victim = to_victim(load_checkpoint(checkpoint, find_task("sst2")), place("cpu"))
    examples = load_testset(TESTSETS.find("sst2"), shared_data).examples[:EXAMPLES]
    victim.scores([example.texts for example in examples])  # warm-up

    figures: dict[str, Any] = {"examples": EXAMPLES}
    for recipe in RECIPES:
        attack = find_attack(f"textattack:{recipe}")
        seconds, outcomes = [], {}
        for _ in range(ROUNDS):
            started = time.perf_counter()
            outcomes = {o.example_id: o for o in Scheduler(attack, victim, seed=SEED).run(examples)}
            seconds.append(time.perf_counter() - started)
        their_seconds, their_statuses, their_texts = run_textattack(recipe, victim, attack, examples)
        ours = [outcomes[example.id] for example in examples]
        attacked = [i for i, outcome in enumerate(ours) if outcome.adversarial_text is not None]
        bridge_seconds = float(np.median(seconds))
        figures[recipe] = {
            "queries": sum(outcome.queries for outcome in ours),
            "forwards": sum(outcome.forwards for outcome in ours),
            "bridge_seconds": bridge_seconds,
            "textattack_seconds": their_seconds,
            "textattack_over_bridge": their_seconds / bridge_seconds,
            "same_status_share": float(np.mean([*map(eq, [str(o.status) for o in ours], their_statuses)])),
            "same_text_share": float(np.mean([ours[i].adversarial_text == (their_texts[i],) for i in attacked])),
            "succeeded": their_statuses.count("succeeded"),
        }
    save_result("textattack_bridge", figures)

    for recipe in RECIPES:
        assert figures[recipe]["textattack_over_bridge"] >= 8, recipe
        assert figures[recipe]["same_status_share"] == 1, recipe
        assert figures[recipe]["same_text_share"] == 1, recipe
