from __future__ import annotations

from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from robustness.errors import DataError
from robustness.recipes.assets.resources import Resources
from robustness.sensitivity.input import substitution
from robustness.sensitivity.input.substitution import (
    OneSubstitution,
    Safer,
    certified_words,
    close_symmetrically,
    draw_texts,
    overlap,
)
from robustness.sensitivity.measurement import Kind, MeasurementStatus, Target
from robustness.tasks.grading import LabelGrader
from robustness.testsets.example import Example

WORDS = ("red", "blue", "green", "cold", "warm", "hot", "old", "new")
TABLE = close_symmetrically({"red": ["blue", "green"], "cold": ["warm"], "warm": ["hot"], "old": ["new"]})


def synonyms(word: str) -> tuple[str, ...]:
    return TABLE.get(word, ())


class BagOfWords:
    """Adds up a number a word: its worst substitution is known word by word."""

    def __init__(self, seed: int) -> None:
        self.weights = dict(zip(WORDS, np.random.default_rng(seed).normal(size=len(WORDS)), strict=True))

    def score(self, text: str) -> float:
        return float(sum(self.weights[word] for word in text.split()))

    def scores(self, texts: Any) -> Any:
        return np.array([[0.0, self.score(text[0])] for text in texts], dtype=np.float32)


def examples_for(model: BagOfWords, length: int = 4) -> list[Example]:
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(WORDS, size=length, replace=False)) for _ in range(30)]
    return [Example(str(n), (text,), int(model.score(text) > 0)) for n, text in enumerate(texts)]


def subject(model: Any, examples: list[Example], data: Path | None = None) -> Any:
    return SimpleNamespace(victim=model, examples=examples, seed=0, digest="d", resources=Resources.of(data))


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(substitution, "load_synonyms", lambda *_: synonyms)


def test_the_worst_single_substitution_of_a_bag_of_words_is_the_known_one(table: None, by_example: Any) -> None:
    model = BagOfWords(0)
    examples = examples_for(model)

    readings = list(OneSubstitution("counter-fitted").measure(subject(model, examples)))

    robust, worst = (
        by_example(readings, name) for name in ("robust-to-one-substitution", "worst-margin-of-one-substitution")
    )
    for example in examples:
        sign = 1 if example.label else -1
        clean = sign * model.score(example.texts[0])
        changes = [
            sign * (model.weights[other] - model.weights[word]) for word in example.words for other in synonyms(word)
        ]
        exact = clean + min(0.0, *changes)
        assert worst[example.id] == pytest.approx(exact, abs=1e-5)
        assert robust[example.id] == float(exact >= 0)
    assert 0 < sum(robust.values()) < len(robust)
    assert {reading.measurement.kind for reading in readings} == {Kind.EXACT}


class Tied:
    """Gives both labels one score for every text."""

    def scores(self, texts: Any) -> Any:
        return np.zeros((len(texts), 2), dtype=np.float32)


def test_a_tie_is_right_exactly_where_the_grader_says_so(table: None, by_example: Any) -> None:
    """The first of the largest scores is the answer."""
    examples = [Example(str(label), ("red cold",), label) for label in (0, 1)]

    readings = list(OneSubstitution("counter-fitted").measure(subject(Tied(), examples)))

    graded = LabelGrader(("negative", "positive")).correct(Tied().scores(["red cold"] * 2), examples)
    robust = by_example(readings, "robust-to-one-substitution")
    assert [robust["0"], robust["1"]] == graded.tolist() == [1.0, 0.0]
    assert by_example(readings, "worst-margin-of-one-substitution") == {"0": 0.0, "1": 0.0}


def test_a_certificate_over_all_words_holds_for_every_combination(table: None, by_example: Any) -> None:
    """The vote's exact answer at every substituted text, by enumerating all draws, is the certified one."""
    certified = 0
    for seed in range(6):
        model = BagOfWords(seed)
        examples = examples_for(model, length=2)[:8]
        readings = list(Safer("counter-fitted", 400, 0.001).measure(subject(model, examples)))
        holds = by_example(readings, "certified-all-words")
        for example in examples:
            if not holds[example.id]:
                continue
            certified += 1
            sign = 1 if example.label else -1
            for words in product(*((w, *synonyms(w)) for w in example.words)):
                draws = [
                    sign * sum(model.weights[w] for w in drawn)
                    for drawn in product(*((w, *synonyms(w)) for w in words))
                ]
                assert np.mean(np.array(draws) > 0) > 0.5
    assert certified > 0
    assert {r.measurement.target for r in readings} == {Target.SMOOTHED}


CROWDED = {"red": tuple("abcdefg"), "a": ("red", *"hijklmno"), "cold": ("warm",), "warm": ("cold",)}
"""Of red and its neighbours few are common: 2 of 10 at the least."""


def test_a_table_that_could_certify_nothing_is_vacuous_and_says_how_many_words_are_usable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A vote without a wrong answer has p = .01 ^ (1 / 100) = .955: an overlap of .545 is needed for one word."""
    monkeypatch.setattr(substitution, "load_synonyms", lambda *_: lambda word: CROWDED.get(word, ()))
    always_right = SimpleNamespace(scores=lambda texts: np.array([[0.0, 1.0]] * len(texts), dtype=np.float32))
    examples = [Example("crowded", ("red film cold",), 1), Example("open", ("warm film",), 1)]
    examples.append(Example("closed", ("film",), 1))

    readings = list(Safer("counter-fitted", 100, 0.01).measure(subject(always_right, examples)))

    found = {(r.example.id, r.measurement.quantity.name): r.measurement for r in readings if r.example}
    for quantity in ("certified-words", "certified-all-words"):
        assert found["crowded", quantity].status is MeasurementStatus.VACUOUS
        assert found["crowded", quantity].value == 0
        assert "of its 2 words with synonyms 1 are usable, overlap above 0.55" in found["crowded", quantity].reason
        assert found["open", quantity].status is MeasurementStatus.OK
        assert found["closed", quantity].status is MeasurementStatus.VACUOUS  # nothing to substitute
    assert (found["open", "certified-words"].value, found["open", "certified-all-words"].value) == (2, 1)
    assert [found[name, "usable-words"].value for name in ("crowded", "open")] == [0.5, 1.0]
    assert ("closed", "usable-words") not in found


def test_no_more_words_are_certified_than_one_by_one_could_be(table: None) -> None:
    overlaps = sorted(overlap(word, synonyms) for word in WORDS)

    counts = [certified_words(p, overlaps) for p in (0.5, 0.7, 0.9, 0.999, 1.0)]

    assert counts == sorted(counts) and counts[0] == 0
    assert certified_words(0.6, []) == 0 and overlap("unknown", synonyms) == 1.0


def test_overlap_bounds_the_total_variation_of_the_draws() -> None:
    for word in TABLE:
        own = {word, *synonyms(word)}
        for other in synonyms(word):
            theirs = {other, *synonyms(other)}
            variation = sum(abs((w in own) / len(own) - (w in theirs) / len(theirs)) for w in own | theirs) / 2
            assert 1 - overlap(word, synonyms) >= variation - 1e-12


def test_words_are_drawn_uniformly_and_from_their_own_sets() -> None:
    example = Example("1", ("a red car",), 0)

    texts = draw_texts(example, synonyms, 3000, np.random.default_rng(0))

    share = sum(text == ("a red car",) for text in texts) / 3000
    assert set(texts) == {(f"a {word} car",) for word in ("red", "blue", "green")}
    assert share == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.parametrize("probe", [OneSubstitution("counter-fitted"), Safer("counter-fitted", 10, 0.01)])
def test_a_missing_table_says_where_it_was_looked_for(
    probe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROBUSTNESS_DATA", raising=False)
    asked = subject(BagOfWords(0), examples_for(BagOfWords(0)), tmp_path)

    with pytest.raises(DataError, match=r"counter-fitted-neighbours.*missing"):
        list(probe.measure(asked))


def test_the_published_neighbours_are_closed_symmetrically(shared_data: Path) -> None:
    near = substitution.load_synonyms("counter-fitted", Resources.of(shared_data))

    assert near("Good") and all(word[0].isupper() for word in near("Good"))
    for word in ("good", "film", "terrible"):
        assert all(word in near(other) for other in near(word))
