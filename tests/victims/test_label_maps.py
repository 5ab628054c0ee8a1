from __future__ import annotations

import json
import re
import shlex
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from robustness.definitions.tasks import find_task, shipped_tasks
from robustness.errors import CheckpointError
from robustness.tasks.task import Task
from robustness.terminal.given_settings import read_labels as read_options
from robustness.victims.files.checkpoint import Checkpoint
from robustness.victims.label_maps import LabelNames, find_columns, map_labels


@pytest.mark.parametrize("task", shipped_tasks(), ids=lambda task: task.name)
def test_a_tasks_own_names_map_to_themselves_in_any_order(task: Task) -> None:
    forwards = dict(enumerate(task.labels))
    backwards = dict(enumerate(reversed(task.labels)))

    columns = tuple(range(len(task.labels)))
    assert map_labels(task, LabelNames(forwards, forwards), "mine") == columns
    assert map_labels(task, LabelNames(backwards, backwards), "mine") == columns[::-1]


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
    found = dict(enumerate(names))
    assert map_labels(find_task(task), LabelNames(found, found), "mine") == columns


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
        {},
    ],
)
def test_labels_that_cannot_be_mapped_by_name_are_refused(names: dict[int, str]) -> None:
    with pytest.raises(CheckpointError) as caught:
        map_labels(find_task("sst2"), LabelNames(names, names), "mine")

    message = str(caught.value)
    assert message.startswith("checkpoint mine: label-map: ")
    assert "negative, positive" in message
    assert "give the " in message or "set id2label" in message


def checkpoint(
    folder: Path, id2label: dict[int, str] | None, *, adaptation: str = "full", **given: str
) -> Checkpoint:
    """A folder whose config names labels, with what the pair says of them."""
    folder.mkdir(exist_ok=True)
    if id2label is not None:
        (folder / "config.json").write_text(json.dumps({"id2label": id2label}), encoding="utf-8")
    return Checkpoint("mine", folder, folder.parent, adaptation, labels=tuple(given.items()))


def advice(message: str) -> tuple[dict[str, str], dict[str, str]]:
    """What a refusal says to write into the pairs file, and on the command line."""
    table = re.search(r"labels = \{.*? \}", message)
    options = re.search(r", or (--label .*?)(?:$|, each|, or )", message)
    assert table and options, message
    words = shlex.split(options[1])
    return tomllib.loads(table[0])["labels"], read_options(words[1::2])


CASES = {
    "a Trainer's": ({0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}, {}),
    "names with blanks and quotes": ({0: 'it is "so"', 1: "it's not", 2: "don't know"}, {}),
    "one name of three that is the task's": ({0: "NEUTRAL", 1: "yes", 2: "no"}, {}),
    "two names that the pair calls alike": (
        {0: "a", 1: "b", 2: "c"},
        {"a": "neutral", "b": "neutral", "c": "entailment"},
    ),
    "a partner's names, said already": ({0: "a", 1: "b", 2: "c"}, {"LABEL_0": "neutral"}),
}


@pytest.mark.parametrize("case", CASES)
def test_advice_that_is_pasted_back_maps_the_labels(tmp_path: Path, case: str) -> None:
    id2label, given = CASES[case]
    mine, task = checkpoint(tmp_path / "mine", id2label, **given), find_task("mnli")

    with pytest.raises(CheckpointError) as caught:
        find_columns(mine, task)

    for labels in advice(str(caught.value)):
        assert sorted(find_columns(replace(mine, labels=tuple(labels.items())), task)) == [0, 1, 2]
        assert given.keys() <= labels.keys()
        assert labels.get("NEUTRAL", "neutral") == "neutral"


def test_two_adapters_without_a_config_are_told_their_own_tasks_labels(tmp_path: Path) -> None:
    task = find_task("mnli")
    mine = replace(checkpoint(tmp_path / "mine", None, adaptation="lora"), partner=tmp_path / "other")

    with pytest.raises(CheckpointError, match="no config.json names its labels") as caught:
        find_columns(mine, task)

    table, options = advice(str(caught.value))
    assert table == options == {f"LABEL_{i}": label for i, label in enumerate(task.labels)}
    assert find_columns(replace(mine, labels=tuple(table.items())), task) == (0, 1, 2)
    written = str(caught.value).partition("write a config.json there, as in ")[2]
    assert find_columns(checkpoint(tmp_path / "mine", json.loads(written)["id2label"]), task) == (0, 1, 2)


def test_some_of_the_labels_alone_are_not_taken_for_the_size_of_a_head(tmp_path: Path) -> None:
    mine = checkpoint(tmp_path / "mine", None, adaptation="lora", LABEL_0="neutral")

    with pytest.raises(CheckpointError, match="no config.json names its labels"):
        find_columns(mine, find_task("mnli"))


def test_a_head_of_another_size_than_the_task_is_said_plainly(tmp_path: Path) -> None:
    mine = checkpoint(tmp_path / "mine", {0: "World", 1: "Sports", 2: "Business", 3: "Sci/Tech"})

    with pytest.raises(CheckpointError) as caught:
        find_columns(mine, find_task("mnli"))

    assert str(caught.value) == (
        "checkpoint mine: label-map: its head has 4 labels (0: World, 1: Sports, 2: Business, 3: Sci/Tech), the task "
        "mnli has 3 (entailment, neutral, contradiction); give the task that it was trained on, or a checkpoint of "
        "this one"
    )


def test_names_that_repeat_are_told_apart_in_the_config_alone(tmp_path: Path) -> None:
    mine = checkpoint(tmp_path / "mine", {0: "no", 1: "no", 2: "yes"})

    with pytest.raises(CheckpointError, match="set id2label in its config.json") as caught:
        find_columns(mine, find_task("mnli"))

    assert "labels =" not in str(caught.value)
