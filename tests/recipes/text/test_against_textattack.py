"""DeepWordBug beside TextAttack 0.3.11's own recipe, part by part; needs NLTK's stop words."""

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
from robustness.engine.named_attack import NamedAttack
from robustness.engine.scheduler import Scheduler
from robustness.recipes.building import find_attack
from robustness.recipes.text.function_words import FUNCTION_WORDS
from robustness.recipes.text.transformations.transformation import CHARACTER_EDITS
from robustness.testsets.example import Texts


@pytest.fixture(scope="module")
def sentences(shared_data: Path) -> list[str]:
    with (shared_data / "glue/SST-2/dev.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row["sentence"].strip() for row in rows[:200]]


class Recorder:
    """Scores by text length and remembers the questions."""

    def __init__(self) -> None:
        self.questions: list[list[str]] = []

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        self.questions.append([text[0] for text in texts])
        return np.array([[0.0, 1.0 + len(text[0]) % 7] for text in texts], dtype=np.float32)


def test_function_words_are_nltks_stop_words(textattack: Any) -> None:
    from nltk.corpus import stopwords

    assert set(stopwords.words("english")) == FUNCTION_WORDS


def test_the_first_query_set_is_textattacks(textattack: Any, sentences: list[str]) -> None:
    """Both hide each changeable word behind [UNK] before anything else."""
    from textattack.constraints.pre_transformation import StopwordModification
    from textattack.shared import AttackedText

    stop_words = StopwordModification()
    attack = find_attack("deepwordbug")
    for number, sentence in enumerate(sentences):
        text = AttackedText(sentence)
        changeable = stop_words._get_modifiable_indices(text)
        theirs = {text.replace_word_at_index(i, "[UNK]").text for i in changeable}
        recorder = Recorder()

        list(Scheduler(attack, recorder, seed=0).run([Example(str(number), (sentence,), label=1)]))

        assert set(recorder.questions[1]) == theirs, sentence


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [
        ("swap-neighbours", "WordSwapNeighboringCharacterSwap"),
        ("delete-character", "WordSwapRandomCharacterDeletion"),
        ("substitute-character", "WordSwapRandomCharacterSubstitution"),
        ("insert-character", "WordSwapRandomCharacterInsertion"),
    ],
)
def test_each_transformation_reaches_the_same_words(textattack: Any, kind: str, theirs: str) -> None:
    """Over many draws; letters are random, so substituted and inserted ones are compared by place.

    A letter that the word has already does not tell its place (ee after e or before), so such draws are left out.
    """
    transformation = getattr(textattack.transformations, theirs)()
    rng = np.random.default_rng(0)
    patch = np.random.RandomState(0)
    state = np.random.get_state()
    np.random.set_state(patch.get_state())
    try:
        for word in ("film", "it's", "a", "at", "well-made", "2nd"):
            reached = {w for _ in range(2000) for w in transformation._get_replacement_words(word) if w != word}
            ours = {w for _ in range(2000) for w in CHARACTER_EDITS[kind](word, rng)}
            if kind in ("swap-neighbours", "delete-character"):
                assert ours == reached, word
            else:
                assert _shapes(word, ours) == _shapes(word, reached), word
    finally:
        np.random.set_state(state)


def test_the_edit_distance_constraint_has_textattacks_bound(textattack: Any) -> None:
    from textattack.attack_recipes import DeepWordBugGao2018

    class Constant(textattack.models.wrappers.ModelWrapper):  # type: ignore[misc, name-defined]
        model = None

        def __call__(self, texts: list[str]) -> Any:
            return np.zeros((len(texts), 2))

    definition = find_attack("deepwordbug")
    recipe = DeepWordBugGao2018.build(Constant())
    bound = next(c.max_edit_distance for c in recipe.constraints if hasattr(c, "max_edit_distance"))

    assert isinstance(definition, NamedAttack)
    assert bound == definition.attack._edits.constraints.max_edit_distance == 30  # type: ignore[attr-defined]


class LetterVictim:
    """A linear model of letter pairs: every edit moves its scores, and many flip its answer."""

    def __init__(self, labels: int) -> None:
        self._weights = np.random.default_rng(5).normal(size=(997, labels))

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        return np.stack([self._score(text[0]) for text in texts]).astype(np.float32)

    def _score(self, text: str) -> Any:
        pairs = [(ord(a) * 31 + ord(b)) % 997 for a, b in pairwise(text)]
        return self._weights[pairs].sum(axis=0) / 12  # no probability near 1, which would round


@pytest.mark.parametrize("labels", [2, 4])
def test_with_the_same_random_draws_every_outcome_is_textattacks(
    labels: int, textattack: Any, sentences: list[str], shared_draws: Any
) -> None:
    """Same ranking, same candidates, same choice: the same status and the same adversarial text."""
    from textattack.attack_recipes import DeepWordBugGao2018

    victim = LetterVictim(labels)

    class Wrapper(textattack.models.wrappers.ModelWrapper):  # type: ignore[misc, name-defined]
        model = None

        def __call__(self, texts: list[str]) -> Any:
            return victim.scores([(text,) for text in texts])

    attack = find_attack("deepwordbug")
    # Hidden, either of two equal words leaves the same pairs of letters: a tie that rounding would break.
    sentences = [each for each in sentences if len(set(each.split())) == len(each.split())]
    predictions = victim.scores([(sentence,) for sentence in sentences]).argmax(axis=1)
    examples = [Example(str(i), (s,), int(y)) for i, (s, y) in enumerate(zip(sentences, predictions, strict=True))]
    ours = {o.example_id: o for o in Scheduler(attack, victim, seed=3).run(examples)}
    recipe = DeepWordBugGao2018.build(Wrapper())
    words = {"SuccessfulAttackResult": "succeeded", "FailedAttackResult": "failed"}
    draws = shared_draws(3, attack.digest)
    for example in examples:
        draws.start(example.id)
        theirs = recipe.attack(textattack.shared.AttackedText(example.texts[0]), example.label)

        outcome = ours[example.id]
        assert outcome.status == words[type(theirs).__name__], example.texts
        assert outcome.adversarial_text == (theirs.perturbed_result.attacked_text.text,), example.texts
    assert len(examples) >= 50 and len({outcome.status for outcome in ours.values()}) == 2  # both endings occur


def _shapes(word: str, edited: set[str]) -> set[tuple[int, int]]:
    """The length, and the place of the new letter."""
    return {
        (len(e), next(i for i, letter in enumerate(e) if letter not in word)) for e in edited if set(e) - set(word)
    }
