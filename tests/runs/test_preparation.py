from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from robustness.definitions.tasks import find_task
from robustness.errors import DataError
from robustness.runs.preparation import GATE_EXAMPLES, _clean_examples
from robustness.testsets.example import Example
from robustness.testsets.loading import Testset


def test_the_gate_grades_benign_originals_by_their_own_labels(tmp_path: Path) -> None:
    """No clean set is at hand, so the originals of the contrast set are what clean accuracy is measured on."""
    rows = (
        Example("1", ("a dull film",), 0, original=("a fine film",), original_label=1),
        Example("2", ("a dull play",), 0, original=("a drab play",)),
        Example("3", ("a dull song",), 0),
    )
    contrast = Testset("contrast", find_task("sst2"), "adversarial", "own", "digest", rows)
    plan = cast("Any", SimpleNamespace(settings=SimpleNamespace(data=tmp_path)))

    clean = _clean_examples(plan, cast("Any", SimpleNamespace(testsets=(contrast,))), find_task("sst2"))

    assert [(example.texts, example.label) for example in clean] == [(("a fine film",), 1), (("a drab play",), 0)]


def clean_sets(*labels: list[int]) -> Any:
    """A prepared run of clean sets of such labels, row by row."""
    sets = [
        Testset(f"set-{name}", find_task("sst2"), "clean", "own", "digest", rows(each))
        for name, each in enumerate(labels)
    ]
    return cast("Any", SimpleNamespace(testsets=tuple(sets), selected={}))


def rows(labels: list[int]) -> tuple[Example, ...]:
    return tuple(Example(str(number), (f"text {number}",), label) for number, label in enumerate(labels))


@pytest.mark.parametrize(
    "labels", [[0] * 500 + [1] * 500, [0, 1] * 500, [0, 0, 0, 1] * 250], ids=["sorted", "by turns", "by fours"]
)
def test_the_gate_sees_the_labels_of_the_whole_however_its_rows_stand(tmp_path: Path, labels: list[int]) -> None:
    """Evenly spaced rows of a file whose labels take turns have one label alone."""
    clean = _clean_examples(cast("Any", None), clean_sets(labels), find_task("sst2"))

    assert len(clean) == GATE_EXAMPLES
    assert sum(example.label for example in clean) == round(GATE_EXAMPLES * sum(labels) / 1000)


def test_a_clean_set_of_one_label_is_refused_for_that_reason() -> None:
    with pytest.raises(DataError, match=r"all 30 clean examples .* have the label 'positive': one label does not"):
        _clean_examples(cast("Any", None), clean_sets([1] * 30), find_task("sst2"))


def test_a_clean_set_of_one_label_beside_one_that_has_more_is_no_obstacle() -> None:
    clean = _clean_examples(cast("Any", None), clean_sets([1] * 30, [0, 1] * 4), find_task("sst2"))

    assert len(clean) == 8
