from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robustness.recipes.text.transformations.words import in_case_of, nearest_neighbours, wordnet_synonyms

RNG = np.random.default_rng(0)


@dataclass
class Sense:
    names: list[str]

    def lemma_names(self) -> list[str]:
        return self.names


@dataclass
class SmallThesaurus:
    asked: list[str] = field(default_factory=list)

    def synsets(self, lemma: str) -> list[Sense]:
        self.asked.append(lemma)
        return [Sense(["film", "movie", "motion_picture", "U.S."]), Sense(["cinema", "movie"])]


def test_synonyms_are_the_single_words_of_all_senses_once_and_sorted() -> None:
    assert wordnet_synonyms(SmallThesaurus())("film", RNG) == ["cinema", "movie"]


def test_a_word_is_looked_up_once() -> None:
    thesaurus = SmallThesaurus()
    substitute = wordnet_synonyms(thesaurus)

    substitute("film", RNG).clear()

    assert substitute("film", RNG) == ["cinema", "movie"]
    assert thesaurus.asked == ["film"]


def test_neighbours_are_the_nearest_in_the_words_case() -> None:
    substitute = nearest_neighbours({"good": ("nice", "fine", "decent")}, count=2)

    assert substitute("good", RNG) == ["nice", "fine"]
    assert substitute("Good", RNG) == ["Nice", "Fine"]
    assert substitute("GOOD", RNG) == ["NICE", "FINE"]
    assert substitute("unknown", RNG) == []


@given(pattern=st.text(max_size=8), word=st.text(max_size=8))
def test_taking_a_case_changes_nothing_but_case(pattern: str, word: str) -> None:
    taken = in_case_of(pattern, word)

    assert taken in {word, word.lower(), word.upper(), word.capitalize()}
