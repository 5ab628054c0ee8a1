"""What the figures say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from robustness.reports.page.plots import draw_forest, spell_place
from robustness.reports.page.svg import FULL, MUTED, PEFT, WIDE, page_style
from robustness.reports.summaries.arms import name_arms


@pytest.mark.parametrize(
    ("where", "what", "words"),
    [
        ("label", "advglue-sst2 | positive", "advglue-sst2  ·  label positive"),
        ("method", "advglue-sst2 | worst-case | TextFooler", "advglue-sst2  ·  worst-case  ·  made by TextFooler"),
        ("construction", "advglue-sst2 | human", "advglue-sst2  ·  construction human"),
        ("text length", "sst2 | pwws | short (up to 14 words)", "sst2  ·  pwws  ·  up to 14 words"),
        ("clean margin", "sst2 | wide (over 0.9 mean score)", "sst2  ·  clean score over 0.9"),
        ("budget", "sst2 | pwws | queries <= 3", "sst2  ·  pwws  ·  queries ≤ 3"),
    ],
)
def test_a_place_on_the_map_says_what_part_it_is(where: str, what: str, words: str) -> None:
    assert spell_place(SimpleNamespace(where=where, what=what)) == words


@pytest.fixture
def forest() -> list[str]:
    """The texts of a forest plot of three rows, a control without a verdict among them."""
    rows = pd.DataFrame(
        {
            "where": "attack",
            "what": ["set | a", "set | b", "set | c"],
            "difference": [0.1, -0.1, 0.0],
            "low": [0.05, -0.2, -0.01],
            "high": [0.2, -0.05, 0.01],
            "verdict": ["less-accurate", "less-accurate", None],
        }
    )
    with page_style():
        axes = draw_forest(rows, 0.02, name_arms("full", "lora"))(WIDE).axes[0]
    return [axes.get_xlabel(), *(text.get_text() for text in axes.texts), *(str(c) for c in _colours(axes))]


def _colours(axes: Any) -> list[str]:
    return [line.get_markeredgecolor() for line in axes.lines if line.get_marker() in "Do"]


def test_the_axis_of_a_forest_says_who_is_worse_off_and_calls_nobody_fragile(forest: list[str]) -> None:
    assert forest[0] == "difference, percentage points"
    assert "LoRA worse off \u2192" in forest and "\u2190 full worse off" in forest
    assert not any("fragile" in text for text in forest)


def test_a_less_accurate_arm_has_its_own_colour(forest: list[str]) -> None:
    assert forest[-3:] == [PEFT, FULL, MUTED]
