from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from robustness.reports.page.heatmaps import accuracy_maps
from robustness.reports.tables.columns import COLUMNS, Table


@pytest.mark.parametrize(
    ("metrics", "title"),
    [
        (["accuracy"], "Test sets as they stand, accuracy in percent"),
        (["em", "f1"], "Test sets as they stand, F1 in percent"),  # a test set's F1 stands before its exact match
        (["exact_match"], "Test sets as they stand, exact match in percent"),
        (["mcc"], None),
    ],
)
def test_a_map_of_test_sets_names_what_it_shows(run_writer: Any, metrics: list[str], title: str | None) -> None:
    record = run_writer.record()
    place = {"checkpoint": record.checkpoints[0].name, "testset": record.testsets[0].name, "aggregation": "mean"}
    rows = [place | {"metric": m, "value": 0.25 + n, "low": 0.2, "high": 0.3, "n": 20} for n, m in enumerate(metrics)]
    attacks = pd.DataFrame(columns=[column.name for column in COLUMNS[Table.ATTACKS]])

    maps = accuracy_maps(pd.DataFrame(rows), attacks, record)

    assert [each.title for each in maps] == ([] if title is None else [title])
