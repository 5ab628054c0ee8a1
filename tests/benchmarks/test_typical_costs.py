"""What each shipped recipe asks of a victim, MiniLM on SST-2: the figures that `--dry-run` counts with."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from robustness.definitions.catalog import ATTACKS
from robustness.engine.named_attack import GradientAttack, NamedAttack
from robustness.engine.outcome import Outcome, Status
from robustness.engine.scheduler import Scheduler
from robustness.errors import DataError
from robustness.recipes.building import find_attack
from robustness.testsets.example import Example
from robustness.victims.heads.labels import Victim

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
STORED = Path(__file__).parent / "results" / "typical_costs.json"
EXAMPLES = int(os.environ.get("ROBUSTNESS_TYPICAL_EXAMPLES", "32"))
FEW = dict.fromkeys(("genetic", "pso", "cascade", "gbda", "apgd", "apgd-linf", "ddn", "fmn"), 16)
"""Examples of recipes that ask most."""
ONLY = os.environ.get("ROBUSTNESS_TYPICAL_RECIPES", "").split()
"""Recipes to measure again; the figures of the others are kept. Empty: all."""
ON_ANSWERS = {"addany", "addanyextend"}


def attack_all(attack: NamedAttack, victim: Victim, examples: Sequence[Example]) -> list[Outcome]:
    if isinstance(attack.attack, GradientAttack):
        return list(attack.attack.run(victim, examples, seed=0, digest=attack.digest))
    return list(Scheduler(attack, victim, seed=0).run(examples))


def test_what_recipes_ask_for(
    minilm_victim: Victim, sst2: Sequence[Example], save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    figures: dict[str, Any] = json.loads(STORED.read_text())["figures"] if ONLY else {}
    for name in ONLY or sorted(set(ATTACKS.names()) - ON_ANSWERS, key=lambda name: (name in FEW, name)):
        try:
            attack = find_attack(name)
        except DataError as error:
            figures[name] = {"missing": str(error).partition(";")[0]}
            continue
        examples = sst2[-FEW.get(name, EXAMPLES) :]
        words = {example.id: len(example.words) for example in examples}
        outcomes = [o for o in attack_all(attack, minilm_victim, examples) if o.status is not Status.SKIPPED]
        attacked = len(outcomes)
        figures[name] = {
            "attacked": attacked,
            "succeeded": sum(o.status is Status.SUCCEEDED for o in outcomes),
            "errored": sum(o.status is Status.ERRORED for o in outcomes),
            "words": round(sum(words[o.example_id] for o in outcomes) / attacked, 2),
            "queries": round(sum(o.queries for o in outcomes) / attacked, 2),
            "forwards": round(sum(o.forwards for o in outcomes) / attacked, 2),
            "backwards": round(sum(o.backwards or 0 for o in outcomes) / attacked, 2),
            "seconds": round(sum(o.seconds for o in outcomes), 1),
        }
        save_result("typical_costs", dict(sorted(figures.items())))

    assert figures["pwws"]["queries"] > figures["deepwordbug"]["queries"] > 0
