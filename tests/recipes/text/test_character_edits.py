from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from robustness.recipes.text.transformations.imperceptible import HOMOGLYPHS, IMPERCEPTIBLE_EDITS, INVISIBLE
from robustness.recipes.text.transformations.inner_edits import INNER_EDITS, KEYBOARD_NEIGHBOURS

WORDS = st.text(max_size=12)
SEEDS = st.integers(0, 2**32)
EDITS = {**INNER_EDITS, **IMPERCEPTIBLE_EDITS}
DISTANCE = {"all-inner-swaps": 2, "one-inner-swap": 2, "reorderings": 12, "deleted-insertions": 2}
"""Levenshtein distance of one edit, where it isn't 1."""


@pytest.mark.parametrize("kind", EDITS)
@given(word=WORDS, seed=SEEDS)
def test_an_edit_is_one_edit_and_never_the_word_itself(kind: str, word: str, seed: int) -> None:
    for form in EDITS[kind](word, np.random.default_rng(seed)):
        assert form != word
        assert Levenshtein.distance(word, form) <= DISTANCE.get(kind, 1)


@pytest.mark.parametrize("kind", EDITS)
@given(word=WORDS, seed=SEEDS)
def test_the_same_generator_state_gives_the_same_forms(kind: str, word: str, seed: int) -> None:
    first, second = (EDITS[kind](word, np.random.default_rng(seed)) for _ in range(2))

    assert first == second


@pytest.mark.parametrize("kind", INNER_EDITS)
@given(word=st.text(min_size=1, max_size=12), seed=SEEDS)
def test_inner_edits_keep_both_ends(kind: str, word: str, seed: int) -> None:
    for form in INNER_EDITS[kind](word, np.random.default_rng(seed)):
        assert (form[0], form[-1]) == (word[0], word[-1])


@pytest.mark.parametrize("kind", INNER_EDITS)
@pytest.mark.parametrize("word", ["", "a", "ab"])
def test_words_without_an_inside_stay(kind: str, word: str) -> None:
    assert INNER_EDITS[kind](word, np.random.default_rng(0)) == []


@pytest.mark.parametrize(
    ("one", "every"), [("one-inner-swap", "all-inner-swaps"), ("one-inner-deletion", "all-inner-deletions")]
)
def test_one_random_place_is_any_of_all_places(one: str, every: str) -> None:
    rng = np.random.default_rng(0)

    drawn = {form for _ in range(500) for form in INNER_EDITS[one]("journey", rng)}

    assert drawn == set(INNER_EDITS[every]("journey", rng))


def test_every_letter_has_keys_beside_it_and_none_is_its_own() -> None:
    assert set(KEYBOARD_NEIGHBOURS) == set("abcdefghijklmnopqrstuvwxyz")
    for key, others in KEYBOARD_NEIGHBOURS.items():
        assert others
        assert set(others) <= set(KEYBOARD_NEIGHBOURS) - {key}


def test_look_alikes_are_letters_outside_ascii_in_the_same_case() -> None:
    for letter, other in HOMOGLYPHS.items():
        assert len(other) == 1
        assert not other.isascii()
        assert unicodedata.category(other)[0] in "LN"
        assert unicodedata.normalize("NFC", other) == other
        assert other.islower() == letter.islower() or unicodedata.category(other) == "Lo"
    assert len(set(HOMOGLYPHS.values())) == len(HOMOGLYPHS)


@given(word=WORDS)
def test_invisible_insertions_vanish_when_format_characters_are_stripped(word: str) -> None:
    kept = "".join(c for c in word if c not in INVISIBLE)

    for form in IMPERCEPTIBLE_EDITS["invisible-insertions"](word, np.random.default_rng(0)):
        assert "".join(c for c in form if c not in INVISIBLE) == kept


@given(word=WORDS, seed=SEEDS)
def test_a_backspace_restores_the_word(word: str, seed: int) -> None:
    for form in IMPERCEPTIBLE_EDITS["deleted-insertions"](word, np.random.default_rng(seed)):
        backspaces = [i for i, character in enumerate(form) if character == "\b"]
        assert any(form[: i - 1] + form[i + 1 :] == word for i in backspaces)


@given(word=st.text(alphabet="abcdef", min_size=2, max_size=8))
def test_a_reordering_swaps_what_is_stored(word: str) -> None:
    forms = IMPERCEPTIBLE_EDITS["reorderings"](word, np.random.default_rng(0))
    stored = ["".join(c for c in form if c.isalpha()) for form in forms]

    assert stored == [word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1)]


@given(word=st.text(alphabet="abcdef", min_size=2, max_size=8))
def test_every_opened_direction_is_closed(word: str) -> None:
    for form in IMPERCEPTIBLE_EDITS["reorderings"](word, np.random.default_rng(0)):
        assert form.count("\u2066") == form.count("\u2069")
        assert form.count("\u202d") + form.count("\u202e") == form.count("\u202c")
