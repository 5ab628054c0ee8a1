from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from robustness.definitions.catalog import ATTACKS
from robustness.engine.attack import NamedAttack
from robustness.engine.outcome import Outcome, Status
from robustness.recipes.searches import ReturnClean
from robustness.runs.plan import Cell
from robustness.runs.store import Store
from robustness.runs.suspicions import find_suspicions

STATUS = {"b": Status.SUCCEEDED, "r": Status.FAILED, "s": Status.SKIPPED, "e": Status.ERRORED}
ATTACKS_RUN = (
    NamedAttack("attack", "d", ReturnClean()),
    NamedAttack("blind", "d", ReturnClean(), mirrors="attack"),
    NamedAttack("other", "d", ReturnClean(), mirrors="not run"),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.close()


def add(store: Store, attack: str, letters: str, checkpoint: str = "full", testset: str = "t") -> None:
    outcomes = [
        Outcome(
            example_id=str(i),
            group_id=str(i),
            label=1,
            status=STATUS[letter],
            clean_prediction=1,
            adversarial_prediction=1,
            clean_score=0.9,
            score=0.9,
            queries=1,
            forwards=3,
            modified_words=1,
            modified_share=0.1,
            similarity=0.9,
            seconds=0.0,
            original_text=("a film",),
            adversarial_text=("a fulm",),
        )
        for i, letter in enumerate(letters)
    ]
    store.add(Cell(checkpoint, testset, attack), outcomes)


def test_a_baseline_that_beats_its_attack_by_more_than_noise_is_warned_of(store: Store) -> None:
    add(store, "attack", "r" * 8 + "b" + "bs")
    add(store, "blind", "b" * 8 + "r" + "bs")
    add(store, "other", "b" * 11)

    (warning,) = find_suspicions(store, ATTACKS_RUN)

    assert warning.startswith("full | t: blind broke 8 examples that attack did not, and attack 1 the other way")
    assert "p = 0.039" in warning  # 2 (1 + 9) / 2^9


@pytest.mark.parametrize(
    ("attack", "blind"),
    [
        ("rrrrrrrb", "bbbbbbbr"),  # 7 to 1: p = 0.07
        ("bbbbbbbbbb", "rrrrrrrrrr"),  # the attack is the stronger
        ("rrrrrbbbbb", "bbbbbbbbbb"),  # 5 to 0: p = 0.0625
        ("sssssssssss", "bbbbbbbbbbb"),  # not judged under both
        ("eeeeeeeeeee", "bbbbbbbbbbb"),
    ],
)
def test_noise_is_no_reason_to_warn(store: Store, attack: str, blind: str) -> None:
    add(store, "attack", attack)
    add(store, "blind", blind)

    assert find_suspicions(store, ATTACKS_RUN) == []


def test_the_more_cells_are_looked_at_the_more_one_must_stand_out(store: Store) -> None:
    for checkpoint in ("full", "lora"):
        add(store, "attack", "r" * 6, checkpoint)
        add(store, "blind", "b" * 6 if checkpoint == "full" else "r" * 6, checkpoint)

    assert find_suspicions(store, ATTACKS_RUN) == []  # 2 x 2 / 2^6


def test_every_mirrored_attack_is_shipped() -> None:
    mirrored = {name: ATTACKS.find(name).definition.mirrors for name in ATTACKS.names()}

    assert {name for name, other in mirrored.items() if other} >= {"random-chars", "random-words"}
    assert {other for other in mirrored.values() if other} <= set(ATTACKS.names())
