"""The slope chart: no label lies on another label or on a point, whatever values and names there are."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustness.reports.page.first_screen.labels import Box, Obstacles, choose_place, text_width, wrap
from robustness.reports.page.first_screen.slopes import (
    LINE_HEIGHT,
    MARK,
    PLOT_HEIGHT,
    PLOT_TOP,
    SIZE,
    TILT,
    Layout,
    SlopeColumn,
    draw_slopes,
    lay_out,
)
from robustness.reports.summaries.arms import name_arms

ARMS = name_arms("full", "lora")
NAMES = ("no attack", "swap", "an-attack-of-a-very-long-name-indeed", "deepwordbug", "strongest")


def columns(*values: tuple[float, float], names: tuple[str, ...] = NAMES) -> list[SlopeColumn]:
    return [SlopeColumn(names[number % len(names)], both, "40 examples") for number, both in enumerate(values)]


def assert_readable(laid: Layout) -> None:
    """No number lies on another or on a point, all are inside, and names keep their distance."""
    boxes = [label.box for label in laid.values]
    marks = [Box(x - MARK, y - MARK, x + MARK, y + MARK) for both in laid.points for x, y in both]
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    assert not [box for box in boxes if any(map(box.overlaps, marks))]
    assert all(box.left >= 0 and box.right <= laid.width and box.top >= 0 for box in boxes)
    for name in laid.names:
        wide = max(text_width(line, SIZE) for line in name.lines)
        reach = wide * math.cos(TILT) if name.is_tilted else wide / 2
        assert name.x - reach >= 0 and (name.is_tilted or name.x + reach <= laid.width)
    for before, after in zip(laid.names, laid.names[1:], strict=False):
        if after.is_tilted:
            assert (after.x - before.x) * math.sin(TILT) >= LINE_HEIGHT * len(before.lines)
        else:
            halves = [max(text_width(line, SIZE) for line in name.lines) / 2 for name in (before, after)]
            assert before.x + halves[0] <= after.x - halves[1]


share = st.floats(0, 1)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(share, share), min_size=2, max_size=8))
def test_no_label_lies_on_another_or_on_a_point(values: list[tuple[float, float]]) -> None:
    assert_readable(lay_out(columns(*values)))


@pytest.mark.parametrize(
    "values",
    [
        [(0.92, 0.92), (0.17, 0.16), (0.06, 0.1), (0.03, 0.06)],
        [(1, 1), (1, 1), (1, 1)],
        [(0, 0)] * 8,
        [(1, 0), (0, 1)] * 4,
        [(0.5, 0.501)] * 8,
    ],
)
def test_near_equal_and_extreme_values_stay_readable(values: list[tuple[float, float]]) -> None:
    assert_readable(lay_out(columns(*values)))


def test_names_that_fit_stand_straight_and_long_ones_are_tilted_whole() -> None:
    short = lay_out(columns((0.9, 0.9), (0.1, 0.1), names=("no attack", "deepwordbug")))
    long = lay_out(columns(*[(0.9, 0.9)] * 5))

    assert not any(name.is_tilted for name in short.names)
    assert all(name.is_tilted for name in long.names)
    assert "".join(long.names[2].lines) == "an-attack-of-a-very-long-name-indeed"


def test_arms_that_are_close_share_a_label_and_arms_far_apart_have_one_each() -> None:
    near, far = (lay_out(columns((0.9, 0.9), values)).values[1:] for values in ((0.1, 0.12), (0.1, 0.6)))

    assert [label.lines for label in near] == [((("ref", "10"), ("cand", "12")),)]
    assert [label.lines for label in far] == [((("ref", "10"),),), ((("cand", "60"),),)]


def test_values_lie_on_the_scale_from_0_to_100_percent() -> None:
    laid = lay_out(columns((1.0, 0.0), (0.25, 0.5)))

    assert [[y for _, y in both] for both in laid.points] == [
        [PLOT_TOP, PLOT_TOP + PLOT_HEIGHT],
        [PLOT_TOP + 0.75 * PLOT_HEIGHT, PLOT_TOP + 0.5 * PLOT_HEIGHT],
    ]


def test_every_point_has_its_numbers_as_a_tooltip_and_names_are_escaped() -> None:
    svg = draw_slopes(columns((0.9, 0.8), (0.1, 0.2), names=("no attack", "<b>&")), ARMS, 'a "label"')

    assert svg.count("<title>") == 4
    assert "<title>no attack: full 90.0 %, 40 examples</title>" in svg
    assert "&lt;b&gt;&amp;" in svg and "<b>" not in svg and 'aria-label="a &#34;label&#34;"' in svg


def test_a_name_breaks_after_hyphens_and_blanks_alone() -> None:
    assert wrap("universal-trigger attack", 75, 11) == ["universal-", "trigger", "attack"]
    assert wrap("unbreakable", 10, 11) == ["unbreakable"]


def test_where_no_place_is_clear_the_chart_is_refused() -> None:
    box = Box(0, 0, 1, 1)

    with pytest.raises(ValueError, match="found none"):
        choose_place([box], Obstacles(box, [box], []))
