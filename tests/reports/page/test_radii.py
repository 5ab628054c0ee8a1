"""The bracket figure and its sentence."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from robustness.reports.page.radii import CERTIFIED, FOUND, VOTE, draw_radii, radii_of_pair, say_radii
from robustness.reports.summaries.arms import name_arms

ARMS = {"a": "full", "b": "peft"}


def frame(**numbers: list[tuple[float, float]]) -> pd.DataFrame:
    """Values of both arms by quantity, one pair an example."""
    names = {"certified": CERTIFIED, "vote": VOTE, "found": FOUND}
    return pd.DataFrame(
        [
            {
                "checkpoint": checkpoint, "testset": "t", "example_id": str(number), "quantity": names[name],
                "norm": "l2", "value": value,
            }
            for name, pairs in numbers.items()
            for number, values in enumerate(pairs)
            for checkpoint, value in zip(ARMS, values, strict=True)
        ]
    )  # fmt: skip


def only(rows: pd.DataFrame) -> pd.DataFrame:
    ((testset, found),) = radii_of_pair(rows, ARMS)
    assert testset == "t"
    return found


def test_examples_that_an_arm_answers_wrongly_are_left_out() -> None:
    rows = only(frame(certified=[(1e-4, 2e-4), (0.0, 1e-4)], found=[(0.1, 0.2), (0.1, 0.2)]))

    assert rows.index.tolist() == ["0"]


def test_a_run_without_certificates_has_no_figure() -> None:
    assert not list(radii_of_pair(frame(found=[(0.1, 0.2)]), ARMS))


def test_of_several_noise_levels_the_largest_radius_counts() -> None:
    twice = pd.concat([frame(vote=[(0.05, 0.02)]), frame(vote=[(0.01, 0.07)])])

    rows = only(pd.concat([frame(certified=[(1e-4, 1e-4)], found=[(0.1, 0.2)]), twice]))

    assert rows[VOTE].iloc[0].tolist() == [0.05, 0.07]


@pytest.mark.parametrize(
    ("certified", "words"),
    [
        ((1e-4, 2e-4), "on none of 1 examples is the order of the arms proven: no gap survives from below to above."),
        ((1e-4, 0.15), "proven on 0 of 1 examples for full and on 1 for LoRA: the gap between the arms"),
    ],
)
def test_the_sentence_says_whether_the_gap_survives(certified: tuple[float, float], words: str) -> None:
    said = say_radii(only(frame(certified=[certified], found=[(0.1, 0.2)])), name_arms("full", "lora"))

    assert words in said
    assert f"certified radius {certified[1] / certified[0]:.2f}, attack's distance 2.00" in said
    assert "all bounds point the same way" in said


def test_bounds_that_point_different_ways_are_called_so() -> None:
    said = say_radii(only(frame(certified=[(2e-4, 1e-4)], found=[(0.1, 0.2)])), name_arms("full", "lora"))

    assert "the bounds point different ways" in said


def test_each_arm_of_an_example_is_a_line_from_certificate_to_attack() -> None:
    rows = only(frame(certified=[(1e-4, 2e-4)], vote=[(0.05, 0.0)], found=[(0.1, 0.2)]))

    axes: Any = Figure().add_subplot()
    draw, height = draw_radii(rows, name_arms("full", "lora"))
    draw(axes)

    spans = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2]
    assert [list(map(float, span)) for span in spans] == [[1e-4, 0.1], [2e-4, 0.2]]
    assert [line.get_marker() for line in axes.lines].count("D") == 1
    assert axes.get_xscale() == "log" and height == pytest.approx(0.8)
