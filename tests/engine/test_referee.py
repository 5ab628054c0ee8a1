from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from robustness import Example
from robustness.engine.outcome import Status
from robustness.engine.referee import (
    character_similarity,
    check_proposal,
    count_modified_words,
    judge,
    label_problem,
    log_probabilities,
    true_label_probability,
)
from robustness.errors import AttackError
from robustness.tasks.objective import Objective
from robustness.testsets.example import Texts


def example(text: str, label: int = 1) -> Example:
    return Example("1", (text,), label=label)


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


@pytest.mark.parametrize(("label", "labels", "fits"), [(0, 2, True), (1, 2, True), (2, 2, False), (-1, 2, False)])
def test_a_label_lies_in_the_heads_range(label: int, labels: int, fits: bool) -> None:
    found = label_problem(label, labels)

    assert (found is None) == fits
    assert fits or f"has labels 0 to {labels - 1}" in str(found)


def test_probabilities_are_the_log_softmax_and_stay_finite() -> None:
    scores = np.array([[1000.0, 998.0, -1000.0], [0.5, 0.25, -3.0]], dtype=np.float32)

    assert log_probabilities(scores) == pytest.approx(log_softmax(scores.astype(np.float64), axis=1))
    assert true_label_probability(scores[0], 1) == pytest.approx(1 / (1 + np.exp(2)))


@pytest.mark.parametrize(
    ("clean", "adversarial", "kept"),
    [(("abcd",), ("abcd",), 1.0), (("abcd",), ("abxd",), 0.75), (("ab", "cd"), ("ab", "cdefg"), 5 / 8)],
)
def test_similarity_is_the_share_of_characters_kept(clean: Texts, adversarial: Texts, kept: float) -> None:
    assert character_similarity(clean, adversarial) == pytest.approx(kept)


@pytest.mark.parametrize(
    ("text", "fresh", "status"),
    [
        ("a bad film", [1.0, 0.0], Status.SUCCEEDED),
        ("a bad film", [0.0, 1.0], Status.FAILED),
        ("a good film", [1.0, 0.0], Status.FAILED),
    ],
)
def test_a_success_is_a_changed_text_with_a_wrong_fresh_answer(text: str, fresh: list[float], status: Status) -> None:
    clean = example("a good film")

    found = judge(
        clean,
        example(text),
        np.array([0.0, 2.0], dtype=np.float32),
        np.array(fresh, dtype=np.float32),
        queries=3,
        forwards=5,
        seconds=0.5,
        objective=Objective(),
    )

    assert found.status == status
    assert (found.clean_prediction, found.adversarial_prediction) == (1, int(np.argmax(fresh)))
    assert (found.queries, found.forwards, found.seconds) == (3, 5, 0.5)
    changed = text != "a good film"
    assert (found.modified_words, found.modified_share) == (int(changed), pytest.approx(changed / 3))
    assert found.clean_score == pytest.approx(1 / (1 + np.exp(-2)))
    assert found.score == pytest.approx(1 / (1 + np.exp(fresh[0] - fresh[1])))


def test_a_text_without_words_has_no_share_of_modified_ones() -> None:
    scores = np.zeros(2, dtype=np.float32)

    found = judge(
        example("?!"), example("??"), scores, scores, queries=0, forwards=0, seconds=0.0, objective=Objective()
    )

    assert found.modified_share is None


@pytest.mark.parametrize("label", [0, 2])
def test_a_proposal_keeps_its_examples_label(label: int) -> None:
    with pytest.raises(AttackError, match="label"):
        check_proposal(example("a good film"), example("a bad film", label=label))


def test_a_proposal_keeps_its_examples_id_and_segments() -> None:
    clean = example("a good film")

    assert check_proposal(clean, example("a bad film")) == example("a bad film")
    for other in (
        *(Example(name, ("a bad film",), label=1) for name in ("0", "2")),
        Example("1", ("a bad", "film"), label=1),
        "a bad film",
    ):
        with pytest.raises(AttackError):
            check_proposal(clean, other)
