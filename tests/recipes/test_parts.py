from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from robustness import Example
from robustness.recipes.text.constraints import Constraints
from robustness.recipes.text.edits import WordEdits
from robustness.recipes.text.transformations.transformation import CHARACTER_EDITS

DISTANCE = {"swap-neighbours": 2, "substitute-character": 1, "delete-character": 1, "insert-character": 1}
LENGTH = {"swap-neighbours": 0, "substitute-character": 0, "delete-character": -1, "insert-character": 1}


@pytest.mark.parametrize("kind", CHARACTER_EDITS)
@given(word=st.text(min_size=2, max_size=12), seed=st.integers(0, 2**32))
def test_a_character_edit_is_one_edit_and_never_the_word_itself(kind: str, word: str, seed: int) -> None:
    for edited in CHARACTER_EDITS[kind](word, np.random.default_rng(seed)):
        assert edited != word
        assert len(edited) == len(word) + LENGTH[kind]
        assert 1 <= Levenshtein.distance(word, edited) <= DISTANCE[kind]


@pytest.mark.parametrize("kind", CHARACTER_EDITS)
@pytest.mark.parametrize("word", ["", "a"])
def test_words_of_at_most_one_character_stay(kind: str, word: str) -> None:
    assert CHARACTER_EDITS[kind](word, np.random.default_rng(0)) == []


def test_swapping_equal_neighbours_gives_no_candidate() -> None:
    assert CHARACTER_EDITS["swap-neighbours"]("aa", np.random.default_rng(0)) == []


@pytest.mark.parametrize("kind", CHARACTER_EDITS)
def test_every_place_of_a_word_can_be_edited(kind: str) -> None:
    rng = np.random.default_rng(0)

    forms = {form for _ in range(3000) for form in CHARACTER_EDITS[kind]("abcd", rng)}

    expected = {
        "swap-neighbours": 3,
        "delete-character": 4,
        "substitute-character": 4 * 51,
        "insert-character": 4 * 52,
    }
    if kind == "insert-character":  # inserting x before x gives one form from two places
        assert len(forms) == expected[kind] - 3
    else:
        assert len(forms) == expected[kind]


def test_function_words_are_skipped_as_written() -> None:
    example = Example("1", ("The film is not the best",), label=1)

    indices = Constraints(skip_function_words=True).changeable(example)

    assert [example.words[i] for i in indices] == ["The", "film", "best"]


@given(clean=st.text(max_size=40), other=st.text(max_size=40), limit=st.integers(1, 20))
def test_the_edit_distance_constraint_is_levenshtein(clean: str, other: str, limit: int) -> None:
    example = Example("1", (clean,), label=0)

    allowed = Constraints(max_edit_distance=limit).allows(example, example.with_texts([other]))

    assert allowed == (Levenshtein.distance(clean, other) <= limit)


def test_candidates_beyond_the_distance_are_not_offered() -> None:
    clean = Example("1", ("one two three",), label=0)
    current = clean.with_texts(["oneabcdefg two three"])
    edits = WordEdits([CHARACTER_EDITS["insert-character"]], Constraints(max_edit_distance=7))

    assert edits.candidates(clean, current, 1, np.random.default_rng(0)) == []
