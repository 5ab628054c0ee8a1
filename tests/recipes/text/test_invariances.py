from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.recipes.text.function_words import FUNCTION_WORDS
from robustness.recipes.text.transformations.invariances import (
    CITIES,
    CONTRACTIONS,
    COUNTRIES,
    MEN,
    NUMBER_WORDS,
    WOMEN,
    exchange,
    write_out_contraction,
)
from robustness.recipes.text.transformations.words import is_one_word

GROUPS = (WOMEN, MEN, COUNTRIES, CITIES, NUMBER_WORDS)
SEEDS = st.integers(0, 2**32)


def test_every_listed_word_is_one_word_of_one_group_and_no_function_word() -> None:
    words = [word for group in GROUPS for word in group]

    assert len({word.lower() for word in words}) == len(words)
    assert all(is_one_word(word) for word in words)
    assert not {word.lower() for word in words} & FUNCTION_WORDS


@pytest.mark.parametrize(("kind", "groups"), [("names", (WOMEN, MEN)), ("places", (COUNTRIES, CITIES))])
@given(data=st.data(), seed=SEEDS, count=st.integers(1, 8))
def test_a_word_becomes_others_of_its_own_group_in_its_own_case(
    kind: str, groups: tuple[list[str], list[str]], data: st.DataObject, seed: int, count: int
) -> None:
    group = data.draw(st.sampled_from(groups))
    word = data.draw(st.sampled_from(group))
    substitute = exchange(kind, count)  # type: ignore[arg-type]

    forms = substitute(word, np.random.default_rng(seed))

    assert len(set(forms)) == count
    assert set(forms) <= set(group) - {word}
    assert substitute(word.lower(), np.random.default_rng(seed)) == [form.lower() for form in forms]


@given(number=st.integers(0, 10**9 - 1), seed=SEEDS, count=st.integers(1, 8))
def test_a_number_becomes_others_within_a_fifth_of_it(number: int, seed: int, count: int) -> None:
    forms = exchange("numbers", count)(str(number), np.random.default_rng(seed))

    assert len(set(forms)) == len(forms) <= count
    for form in forms:
        assert int(form) != number
        assert int(form) >= 0
        assert abs(int(form) - number) <= max(1, number // 5)


@pytest.mark.parametrize("word", ["film", "", "2nd", "\u0662", "1" * 40, "will", "turkey"])
def test_other_words_stay(word: str) -> None:
    for kind in ("names", "places", "numbers"):
        assert exchange(kind, 5)(word, np.random.default_rng(0)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("word", "full"),
    [("isn't", "is not"), ("Can't", "Cannot"), ("WON'T", "WILL NOT"), ("I'm", "I am"), ("they'll", "they will")],
)
def test_a_contraction_is_written_out_in_its_case(word: str, full: str) -> None:
    assert write_out_contraction(word, np.random.default_rng(0)) == [full]


def test_contractions_that_could_be_short_for_two_things_stay() -> None:
    assert not any(word.endswith(("'s", "'d")) for word in CONTRACTIONS)
    assert write_out_contraction("it's", np.random.default_rng(0)) == []
