"""The first screen as a browser shows it: nothing overlaps or leaves the window, on a screen and on a telephone."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustness.reports.page.writing import write_page
from robustness.reports.tables.columns import COLUMNS, Table

REPLAYS = ["source", "target", "testset", "attack", "example_id", "response", "correct"]
ATTACKS = ("deepwordbug", "an-attack-of-a-rather-long-name", "pwws", "universal-trigger", "bert-attack", "pruthi")
BOXES = """selector => Array.from(document.querySelectorAll(selector)).map(each => {
    const box = each.getBoundingClientRect();
    return [box.left, box.top, box.right, box.bottom];
})"""


@pytest.fixture(scope="module")
def page(planted: Any, run_writer: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page of six attacks with near-equal values."""
    folder: Path = tmp_path_factory.mktemp("first")
    clean = {"attack": "none", "metric": "accuracy", "family": "", "verdict": "", "p_adjusted": None}
    rows = [planted.row(**clean, reference_value=0.92, candidate_value=0.92)]
    for number, attack in enumerate(ATTACKS):
        value = 0.17 - 0.02 * number
        both = {"reference_value": value, "candidate_value": value + 0.01 * number}
        rows.append(planted.row(attack=attack, detectable=0.05 + 0.02 * number, **both))
    tables = {table: pd.DataFrame(columns=[column.name for column in COLUMNS[table]]) for table in Table}
    made = write_page(
        folder, run_writer.record(), tables | {Table.PAIRS: planted.table(*rows)}, pd.DataFrame(columns=REPLAYS)
    )
    return made.as_uri()


def overlap(first: list[float], second: list[float]) -> bool:
    """Whether two boxes share more than what a line of text has around its digits."""
    hair = 2
    return (
        first[0] < second[2] - hair
        and second[0] < first[2] - hair
        and first[1] < second[3] - hair
        and second[1] < first[3] - hair
    )


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_of_the_first_screen_overlaps_or_leaves_the_window(browser: Any, page: str, width: int) -> None:
    opened = browser.new_page(viewport={"width": width, "height": 900})
    opened.goto(page)
    values, marks, names, strips, numbers = (
        opened.evaluate(BOXES, selector)
        for selector in (".slopes .value", ".slopes circle", ".fs-name", ".strip", ".fs-number")
    )
    sides = opened.evaluate(BOXES, ".fs-sides span")
    scrolled = opened.evaluate("document.documentElement.scrollWidth")
    opened.close()

    assert len(values) >= 7 and len(strips) == 7
    assert not [pair for pair in combinations(values, 2) if overlap(*pair)]
    assert not [pair for pair in ((value, mark) for value in values for mark in marks) if overlap(*pair)]
    for cells in (names, strips, numbers, sides):
        assert not [pair for pair in combinations(cells, 2) if overlap(*pair)]
    assert not [row for row in zip(names, strips, strict=False) if overlap(*row)]
    assert not [row for row in zip(numbers, strips, strict=False) if overlap(*row)]
    assert scrolled <= width
