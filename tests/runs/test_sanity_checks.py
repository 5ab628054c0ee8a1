from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from robustness.definitions.catalog import ATTACKS
from robustness.engine.attack import Access
from robustness.engine.named_attack import NamedAttack
from robustness.engine.outcome import Outcome, Status
from robustness.recipes.building import find_recipe, name_recipe
from robustness.recipes.text.searches import ReturnClean
from robustness.runs.cells import Cell
from robustness.runs.sanity_checks import run_sanity_checks
from robustness.runs.storage.store import Store
from robustness.tasks.objective import Objective, ObjectiveKind

STATUS = {"b": Status.SUCCEEDED, "r": Status.FAILED, "s": Status.SKIPPED, "e": Status.ERRORED}
ATTACKS_RUN = (
    NamedAttack("attack", "d", ReturnClean()),
    NamedAttack("blind", "d", ReturnClean(), mirrors="attack"),
    NamedAttack("other", "d", ReturnClean(), mirrors="not run"),
)

LABELLED = ("contrast",)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.close()


def outcome(i: int, letter: str, *, gold: str = "positive", clean_correct: bool = True) -> Outcome:
    return Outcome(
        example_id=str(i),
        group_id=str(i),
        clean_correct=clean_correct,
        correct=True,
        clean_quality=0.9,
        quality=0.9,
        clean_response="positive",
        response="positive",
        gold=gold,
        status=STATUS[letter],
        queries=1,
        forwards=3,
        modified_words=1,
        modified_share=0.1,
        similarity=0.9,
        seconds=0.0,
        original_text=("a film",),
        adversarial_text=("a fulm",),
    )


def add(store: Store, attack: str, letters: str, checkpoint: str = "full", testset: str = "t") -> None:
    outcomes = [outcome(i, letter) for i, letter in enumerate(letters)]
    store.add(Cell(checkpoint, testset, attack), outcomes)


def test_a_baseline_that_beats_its_attack_by_more_than_noise_is_warned_of(store: Store) -> None:
    add(store, "attack", "r" * 8 + "b" + "bs")
    add(store, "blind", "b" * 8 + "r" + "bs")
    add(store, "other", "b" * 11)

    (warning,) = run_sanity_checks(store, ATTACKS_RUN, LABELLED)

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

    assert run_sanity_checks(store, ATTACKS_RUN, LABELLED) == []


def test_the_more_cells_are_looked_at_the_more_one_must_stand_out(store: Store) -> None:
    for checkpoint in ("full", "lora"):
        add(store, "attack", "r" * 6, checkpoint)
        add(store, "blind", "b" * 6 if checkpoint == "full" else "r" * 6, checkpoint)

    assert run_sanity_checks(store, ATTACKS_RUN, LABELLED) == []  # 2 x 2 / 2^6


def test_every_mirrored_attack_is_shipped() -> None:
    mirrored = {name: ATTACKS.find(name).definition.mirrors for name in ATTACKS.names()}

    assert {name for name, other in mirrored.items() if other} >= {"random-chars", "random-words"}
    assert {other for other in mirrored.values() if other} <= set(ATTACKS.names())


@pytest.mark.parametrize(
    ("attack", "letters", "warning"),
    [
        ("attack", "r" * 20, "full | t: attack broke none of 20 examples"),
        ("attack", "b" * 20 + "s", "full | t: attack broke all 20 examples"),
        ("attack", "b" * 19 + "r", None),
        ("attack", "r" * 19 + "ee", None),
        ("random", "r" * 20, None),  # a baseline that breaks nothing
        ("reduce", "b" * 20, None),  # no wrong answers
    ],
)
def test_all_or_nothing_is_warned_of(store: Store, attack: str, letters: str, warning: str | None) -> None:
    attacks = (
        NamedAttack("attack", "d", ReturnClean()),
        NamedAttack("random", "d", ReturnClean(), family="baseline"),
        NamedAttack("reduce", "d", ReturnClean(), objective=Objective(ObjectiveKind.KEEP_PREDICTION, 1)),
    )
    add(store, attack, letters)

    found = run_sanity_checks(store, attacks, LABELLED)

    assert [each.startswith(str(warning)) for each in found] == ([True] if warning else [])


class ByGradient(ReturnClean):
    access = Access.GRADIENTS


@pytest.mark.parametrize(("edits", "is_warned_of"), [("same", True), ("other", False), (None, False)])
def test_a_white_box_form_that_is_weaker_than_its_black_box_form_is_warned_of(
    store: Store, edits: str | None, is_warned_of: bool
) -> None:
    black = NamedAttack("black", "d", ReturnClean(), edits_digest=edits and "same")
    white = NamedAttack("white", "d", ByGradient(), edits_digest=edits)
    add(store, "black", "b" * 8 + "r" * 8)
    add(store, "white", "r" * 16)

    found = run_sanity_checks(store, (white, black), LABELLED)

    assert bool(found) is is_warned_of
    if found:
        assert "full | t: black broke 8 examples that white did not" in found[0] and "masked" in found[0]


def test_recipes_of_the_same_edits_are_known_by_them() -> None:
    recipes = {name: name_recipe(find_recipe(name), ReturnClean()) for name in ATTACKS.names()}

    assert recipes["deepwordbug"].edits_digest and recipes["fgsm"].edits_digest is None
    assert recipes["a2t"].edits_digest not in (None, recipes["hotflip"].edits_digest)


def test_texts_that_are_too_long_are_counted_once_however_often_a_run_is_resumed(store: Store) -> None:
    store.note_truncated("full", ["first", "second"])
    store.note_truncated("full", ["first"])

    assert run_sanity_checks(store, (), LABELLED) == [
        "full: 2 texts are longer than the model's limit; they were truncated"
    ]


@pytest.mark.parametrize(("quality", "is_suspect"), [(0.4, True), (0.8995, False)])
def test_an_unchanged_text_that_is_answered_otherwise_is_warned_of(
    store: Store, quality: float, is_suspect: bool
) -> None:
    attacks = (NamedAttack("identity", "d", ReturnClean(), family="baseline"),)
    add(store, "identity", "r" * 30)
    store._connection.execute("UPDATE outcomes SET adversarial_text = original_text")
    assert run_sanity_checks(store, attacks, LABELLED) == []

    store._connection.execute(
        "UPDATE outcomes SET response = 'negative', quality = ? WHERE example_id IN ('3', '5')", (quality,)
    )

    warnings = ["full: 2 unchanged texts got another answer when asked again; it is not deterministic"]
    assert run_sanity_checks(store, attacks, LABELLED) == (warnings if is_suspect else [])


def test_gradients_that_vanish_where_an_attack_fails_are_warned_of(store: Store) -> None:
    add(store, "white", "b" * 10 + "r" * 10)
    store._connection.execute("UPDATE outcomes SET zero_gradients = 1 WHERE CAST(example_id AS INTEGER) >= 8")

    (warning,) = run_sanity_checks(store, (NamedAttack("white", "d", ByGradient()),), LABELLED)

    assert warning.startswith("full: the gradient vanished in 10 examples on which white failed")


@pytest.mark.parametrize(("rights", "is_suspect"), [((9, 12), True), ((9, 13), False)])
def test_originals_that_no_checkpoint_answers_as_labelled_are_warned_of(
    store: Store, rights: tuple[int, int], is_suspect: bool
) -> None:
    """26 originals, 13 of either label; static rows alone count, and only where no label of originals is given."""
    for checkpoint, right in zip(("full", "lora"), rights, strict=True):
        outcomes = []
        for i in range(26):
            made = outcome(i, "r", gold=("negative", "positive")[i % 2], clean_correct=i < right)
            outcomes += [made, replace(made, example_id=f"given {i}", original_gold="positive")]
        store.add(Cell(checkpoint, "contrast", "none"), outcomes)

    found = run_sanity_checks(store, (), LABELLED)

    assert len(found) == is_suspect
    assert all(text.startswith("test set contrast: every checkpoint gets fewer of the benign") for text in found)
