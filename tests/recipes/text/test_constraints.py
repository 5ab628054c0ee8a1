from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness import Example
from robustness.recipes.text.constraints import Constraints, SamePartOfSpeech

SENTENCES = st.lists(st.sampled_from(["film", "plot", "a", "it's", "good"]), max_size=12).map(" ".join)


def tag_by_ending(words: list[str]) -> list[str]:
    """A tagger for tests: -s verbs, -y adjectives, everything else nouns."""
    return ["VERB" if word.endswith("s") else "ADJ" if word.endswith("y") else "NOUN" for word in words]


@given(text=SENTENCES, length=st.integers(0, 6))
def test_short_words_stay(text: str, length: int) -> None:
    example = Example("1", (text,), label=0)

    indices = Constraints(min_word_length=length).changeable(example)

    assert [i for i, word in enumerate(example.words) if len(word) >= length] == indices


@given(text=SENTENCES, changed=st.sets(st.integers(0, 11)), limit=st.integers(1, 5))
def test_no_more_words_change_than_allowed(text: str, changed: set[int], limit: int) -> None:
    clean = Example("1", (text,), label=0)
    candidate = clean
    places = {place for place in changed if place < len(clean.words)}
    for place in places:
        candidate = candidate.replace_word(place, "other")

    assert Constraints(max_changed_words=limit).allows(clean, candidate) == (len(places) <= limit)


@given(text=SENTENCES, share=st.floats(0.01, 1))
def test_a_share_is_rounded_up(text: str, share: float) -> None:
    clean = Example("1", (text,), label=0)

    assert Constraints(max_changed_share=share).word_limit(clean) == math.ceil(share * len(clean.words))


def test_the_strictest_limit_holds() -> None:
    clean = Example("1", ("one two three four five",), label=0)

    assert Constraints(max_changed_words=3, max_changed_share=0.2).word_limit(clean) == 1
    assert Constraints(max_changed_words=1, max_changed_share=1.0).word_limit(clean) == 1
    assert Constraints().word_limit(clean) is None


def test_a_word_keeps_its_part_of_speech() -> None:
    clean = Example("1", ("he plays silly games here",), label=0)
    strict = Constraints(same_part_of_speech=SamePartOfSpeech(tag_by_ending, noun_for_verb=False))
    loose = Constraints(same_part_of_speech=SamePartOfSpeech(tag_by_ending, noun_for_verb=True))

    assert strict.allows_word(clean, 1, "jumps")
    assert not strict.allows_word(clean, 1, "jump")
    assert loose.allows_word(clean, 1, "jump")
    assert not loose.allows_word(clean, 1, "jumpy")


def test_the_tag_is_that_of_the_words_own_place() -> None:
    seen = []

    def tag(words: list[str]) -> list[str]:
        seen.append(words)
        return [str(place) for place in range(len(words))]

    clean = Example("1", ("a b c d e f g h i j",), label=0)

    assert SamePartOfSpeech(tag, noun_for_verb=False).allows(clean.words, 5, "x")
    assert sorted(seen) == [list("bcdefghi"), list("bcdexghi")]


@pytest.mark.parametrize("kind", ["max_changed_words", "max_edit_distance"])
def test_the_clean_text_is_always_allowed(kind: str) -> None:
    clean = Example("1", ("one two",), label=0)

    assert Constraints(**{kind: 1}).allows(clean, clean)
