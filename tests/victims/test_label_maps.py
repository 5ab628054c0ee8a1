from __future__ import annotations

import pytest

from robustness.definitions.tasks import find_task, shipped_tasks
from robustness.errors import CheckpointError
from robustness.tasks.task import Task
from robustness.victims.label_maps import map_labels


@pytest.mark.parametrize("task", shipped_tasks(), ids=lambda task: task.name)
def test_a_tasks_own_names_map_to_themselves_in_any_order(task: Task) -> None:
    forwards = dict(enumerate(task.labels))
    backwards = dict(enumerate(reversed(task.labels)))

    columns = tuple(range(len(task.labels)))
    assert map_labels(task, forwards, "mine") == columns
    assert map_labels(task, backwards, "mine") == columns[::-1]


@pytest.mark.parametrize(
    ("task", "names", "columns"),
    [
        ("sst2", ["POSITIVE", "NEGATIVE"], (1, 0)),
        ("sst2", ["neg", "Pos"], (0, 1)),
        ("qqp", ["not duplicate", "Duplicate"], (0, 1)),
        ("qqp", ["equivalent", "not_equivalent"], (1, 0)),
        ("mnli", ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"], (2, 1, 0)),
        ("rte", ["not-entailment", "entailment"], (1, 0)),
        ("qnli", ["entailment", "non_entailment"], (0, 1)),
    ],
)
def test_names_of_public_checkpoints_are_understood(task: str, names: list[str], columns: tuple[int, ...]) -> None:
    assert map_labels(find_task(task), dict(enumerate(names)), "mine") == columns


@pytest.mark.parametrize(
    "names",
    [
        {0: "LABEL_0", 1: "LABEL_1"},
        {0: "negative"},
        {0: "negative", 1: "negative"},
        {0: "neg", 1: "negative"},
        {0: "negative", 1: "neutral", 2: "positive"},
        {0: "negative", 1: "positive", 2: "Positive"},
        {5: "negative", 7: "positive"},
        {0: "", 1: "positive"},
        {0: 0, 1: 1},
        {},
    ],
)
def test_labels_that_cannot_be_mapped_by_name_are_refused(names: dict[int, str]) -> None:
    with pytest.raises(CheckpointError) as caught:
        map_labels(find_task("sst2"), names, "mine")

    message = str(caught.value)
    assert message.startswith("checkpoint mine: label-map: ")
    assert "negative, positive" in message
    assert "set id2label" in message
