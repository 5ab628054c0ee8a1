from __future__ import annotations

import numpy as np
import pytest

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


def test_a_word_that_was_emptied_in_place_counts_as_removed() -> None:
    clean = example("a good film")

    assert count_modified_words(clean, clean.replace_word(1, "")) == 1
