"""Greedy recipes beside TextAttack 0.3.11's own, on real sentences; needs NLTK's stop words and WordNet."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustness import Example
from robustness.engine.attack import ScoreRows
from robustness.engine.outcome import Outcome
from robustness.engine.scheduler import Scheduler
from robustness.recipes.assets.lexical import load_wordnet
from robustness.recipes.assets.resources import Resources
from robustness.recipes.building import find_attack
from robustness.recipes.text.ranking import delete_word
from robustness.recipes.text.transformations.inner_edits import INNER_EDITS, KEYBOARD_NEIGHBOURS
from robustness.recipes.text.transformations.words import wordnet_synonyms
from robustness.testsets.example import Texts

WORDS = ("film", "it's", "a", "at", "the", "well-made", "2nd", "Plot", "GREAT", "aaaa", "naïve", "x-ray", "book", "")
STATUS = {"SuccessfulAttackResult": "succeeded", "FailedAttackResult": "failed"}
LETTER = "k"


@pytest.fixture(scope="module")
def sentences(shared_data: Path) -> list[str]:
    with (shared_data / "glue/SST-2/dev.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row["sentence"].strip() for row in rows[:100]]


@pytest.fixture
def same_letters(textattack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides insert one and the same letter: what differs is no luck."""
    from textattack.transformations import WordSwap

    monkeypatch.setattr(WordSwap, "_get_random_letter", lambda _: LETTER)
    monkeypatch.setattr("robustness.recipes.text.transformations.inner_edits.random_letter", lambda _: LETTER)


@pytest.fixture
def no_download(textattack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """TextAttack's WordNet swap asks for a download it does not need for English."""
    import nltk

    monkeypatch.setattr(nltk, "download", lambda _: True)


class LetterVictim:
    """A linear model of letter pairs: every edit moves its scores, and many flip its answer.

    Args:
        spread: what the sum of weights is divided by; the smaller, the surer the model.
    """

    def __init__(self, spread: float) -> None:
        self._weights = np.random.default_rng(5).normal(size=(997, 2))
        self._spread = spread

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        return np.stack([self._score(text[0]) for text in texts]).astype(np.float32)

    def _score(self, text: str) -> Any:
        pairs = [(ord(a) * 31 + ord(b)) % 997 for a, b in pairwise(text)]
        return self._weights[pairs].sum(axis=0) / self._spread


def attack_side_by_side(
    textattack: Any, recipe: Any, name: str, sentences: list[str], victim: LetterVictim
) -> list[tuple[Outcome, Any]]:
    """Our outcome and TextAttack's result on each sentence, labelled as the victim answers."""

    class Wrapper(textattack.models.wrappers.ModelWrapper):  # type: ignore[misc, name-defined]
        model = None

        def __call__(self, texts: list[str]) -> Any:
            return victim.scores([(text,) for text in texts])

    predictions = victim.scores([(sentence,) for sentence in sentences]).argmax(axis=1)
    examples = [Example(str(i), (s,), int(y)) for i, (s, y) in enumerate(zip(sentences, predictions, strict=True))]
    ours = {o.example_id: o for o in Scheduler(find_attack(name), victim, seed=3).run(examples)}
    theirs = recipe.build(Wrapper())
    return [(ours[e.id], theirs.attack(textattack.shared.AttackedText(e.texts[0]), e.label)) for e in examples]


def assert_every_outcome_is_the_same(pairs: list[tuple[Outcome, Any]]) -> None:
    """Status, adversarial text and number of queries, on every sentence; both endings occur."""
    for outcome, result in pairs:
        assert outcome.status == STATUS[type(result).__name__], outcome.original_text
        assert outcome.adversarial_text == (result.perturbed_result.attacked_text.text,), outcome.original_text
    assert len({outcome.status for outcome, _ in pairs}) == 2


def test_the_keyboard_is_textattacks(textattack: Any) -> None:
    from textattack.transformations import WordSwapQWERTY

    theirs = WordSwapQWERTY()._keyboard_adjacency

    assert {key: set(keys) for key, keys in theirs.items()} == {k: set(v) for k, v in KEYBOARD_NEIGHBOURS.items()}


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [
        ("all-inner-swaps", "WordSwapNeighboringCharacterSwap"),
        ("all-inner-deletions", "WordSwapRandomCharacterDeletion"),
        ("all-inner-insertions", "WordSwapRandomCharacterInsertion"),
        ("all-keyboard-slips", "WordSwapQWERTY"),
    ],
)
def test_each_inner_edit_gives_textattacks_candidates(
    textattack: Any, same_letters: None, sentences: list[str], kind: str, theirs: str
) -> None:
    swap = getattr(textattack.transformations, theirs)(random_one=False, skip_first_char=True, skip_last_char=True)
    rng = np.random.default_rng(0)

    for word in {*WORDS, *(word for sentence in sentences for word in sentence.split())}:
        expected = {form for form in swap._get_replacement_words(word) if form != word}
        assert set(INNER_EDITS[kind](word, rng)) == expected, word


@pytest.mark.parametrize("spread", [12.0, 4.0])
def test_pruthi_ends_as_textattacks(textattack: Any, same_letters: None, sentences: list[str], spread: float) -> None:
    from textattack.attack_recipes import Pruthi2019

    pairs = attack_side_by_side(textattack, Pruthi2019, "pruthi", sentences, LetterVictim(spread))

    assert_every_outcome_is_the_same(pairs)
    assert [o.queries for o, _ in pairs] == [r.num_queries - 1 for _, r in pairs]  # theirs counts the clean text


def test_the_synonyms_are_textattacks(textattack: Any, no_download: None, sentences: list[str]) -> None:
    from textattack.transformations import WordSwapWordNet

    swap = WordSwapWordNet()
    ours = wordnet_synonyms(load_wordnet(Resources.of()))
    rng = np.random.default_rng(0)

    for word in {*WORDS, *(word for sentence in sentences for word in sentence.split())}:
        assert set(ours(word, rng)) == set(swap._get_replacement_words(word)), word


def test_pwws_ends_as_textattacks(textattack: Any, no_download: None, sentences: list[str]) -> None:
    from textattack.attack_recipes import PWWSRen2019

    pairs = attack_side_by_side(textattack, PWWSRen2019, "pwws", sentences, LetterVictim(12.0))

    assert_every_outcome_is_the_same(pairs)
    assert [o.queries for o, _ in pairs] == [r.num_queries - 1 for _, r in pairs]


def test_deleting_a_word_leaves_textattacks_text(textattack: Any, sentences: list[str]) -> None:
    for sentence in [*sentences, "one", " leading space", "two, words.", "end (here)"]:
        example = Example("1", (sentence,), label=0)
        text = textattack.shared.AttackedText(sentence)
        for index in range(len(example.words)):
            assert delete_word(example, index).texts == (text.delete_word_at_index(index).text,)
