from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from robustness.definitions.tasks import find_task
from robustness.runs.preparation import _clean_examples
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

    clean = _clean_examples(plan, cast("Any", SimpleNamespace(testsets=(contrast,))), "sst2")

    assert [(example.texts, example.label) for example in clean] == [(("a fine film",), 1), (("a drab play",), 0)]
