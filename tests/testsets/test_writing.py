from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from robustness.definitions.catalog import TESTSETS
from robustness.definitions.tasks import find_task
from robustness.errors import DataError
from robustness.testsets.loading import load_testset
from robustness.testsets.writing import NAME, name_rows, write_rows

NAMES = ["positive", "negative"]
"""Not in the task's order."""


def rows_with(labels: list[int | None]) -> datasets.Dataset:
    features = datasets.Features({"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=NAMES)})
    texts = [f"film {number}" for number in range(len(labels))]
    return datasets.Dataset.from_dict({"sentence": texts, "label": labels}, features=features)


def read(data: datasets.Dataset, folder: Path) -> list[int]:
    write_rows(data, find_task("sst2"), folder)
    testset = load_testset(TESTSETS.find(str(folder / f"{NAME}.toml")), None)
    return [example.label for example in testset.examples]


def test_class_labels_are_read_by_their_names(tmp_path: Path) -> None:
    assert read(rows_with([0, 1, 1]), tmp_path) == [1, 0, 0]


@pytest.mark.parametrize(
    ("labels", "row", "problem"),
    [
        ([0, None, 1], 2, "None; expected one of negative, positive"),
        ([None], 1, "None; expected one of negative, positive"),
        ([0, 1, -1], 3, "the label is hidden (-1)"),
        ([0, -1, None], 2, "the label is hidden (-1)"),
    ],
)
def test_a_row_without_a_class_label_is_refused_by_its_number(
    labels: list[int | None], row: int, problem: str, tmp_path: Path
) -> None:
    data = rows_with(labels)

    with pytest.raises(DataError) as refused:
        read(data, tmp_path)

    said = name_rows(str(refused.value), data, tmp_path)
    assert said.startswith(f"data: row {row} (index {row - 1})") and problem in said
