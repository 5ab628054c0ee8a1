from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example as case
from hypothesis import given
from hypothesis import strategies as st

from robustness import Example
from robustness.engine.changes import character_similarity, count_modified_words
from robustness.testsets.example import Texts


def example(text: str) -> Example:
    return Example("1", (text,), label=1)


@pytest.mark.parametrize(
    ("before", "after", "count"),
    [
        ("a b c", "a b c", 0),
        ("a b c", "a x y", 2),
        ("a b c", "a c", 1),
        ("a b", "x a b y z", 3),
        ("a b c d", "a x d", 2),
        ("a", "", 1),
    ],
)
def test_replaced_removed_and_added_words_are_counted(before: str, after: str, count: int) -> None:
    assert count_modified_words(example(before), example(after)) == count


def test_words_that_a_long_text_often_repeats_count_like_others() -> None:
    words = [f"w{number}" for number in np.random.default_rng(0).integers(30, size=300)]

    assert count_modified_words(example(" ".join(words)), example(" ".join(words[:77] + words[78:]))) == 1


@pytest.mark.parametrize(
    ("clean", "adversarial", "kept"),
    [(("abcd",), ("abcd",), 1.0), (("abcd",), ("abxd",), 0.75), (("ab", "cd"), ("ab", "cdefg"), 5 / 8)],
)
def test_similarity_is_the_share_of_characters_kept(clean: Texts, adversarial: Texts, kept: float) -> None:
    assert character_similarity(clean, adversarial) == pytest.approx(kept)


def edit_distance(before: Sequence[str], after: Sequence[str]) -> int:
    """Wagner and Fischer's table: the fewest words to replace, remove or add."""
    table = np.zeros((len(before) + 1, len(after) + 1), dtype=int)
    table[:, 0], table[0] = range(len(before) + 1), range(len(after) + 1)
    for i, one in enumerate(before, start=1):
        for j, other in enumerate(after, start=1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (one != other))
    return int(table[-1, -1])


WORDS = st.lists(st.sampled_from(["a", "b", "aa", "ab", "A"]), max_size=12)


@case(["a", "b", "a", "b"], ["b", "a", "b", "a"])  # place by place, all four differ
@case(["a", "b", "a", "a", "b"], ["b", "a", "b", "b"])  # the longest common block is no part of the shortest edit
@given(WORDS, WORDS)
def test_modified_words_are_the_fewest_that_lead_from_one_text_to_the_other(
    before: list[str], after: list[str]
) -> None:
    found = count_modified_words(example(" ".join(before)), example(" ".join(after)))

    assert found == edit_distance(before, after)


def test_a_word_that_was_emptied_in_place_counts_as_removed() -> None:
    clean = example("a good film")

    assert count_modified_words(clean, clean.replace_word(1, "")) == 1
