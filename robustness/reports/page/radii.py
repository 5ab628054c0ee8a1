"""The bracket figure: of each example the certified radius, that under noise and the distance of an attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, NullLocator

from robustness.reports.page.panels import PLAIN
from robustness.reports.page.svg import FULL, PEFT, explain, soften
from robustness.reports.summaries.arms import Arms
from robustness.reports.visible import visible

CERTIFIED, VOTE, FOUND = "certified-radius-local", "certified-radius", "relative-distance"
SHAPES = (("o", FULL, "full"), ("^", PEFT, "peft"))
MAX_EXAMPLES = 24
"""Drawn, the first; the sentence is about all."""


def radii_of_pair(probed: pd.DataFrame, arms: Mapping[str, str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yields, for each test set, the examples that both arms have a certified radius and a distance of, above 0.

    Args:
        probed: sensitivity_examples.csv.
        arms: `full` or `peft` by checkpoint.

    Returns:
        Frames with columns (quantity, arm), one row an example; of radii under noise the largest of all levels.
    """
    if "quantity" not in probed:
        return
    mine = probed[
        probed["checkpoint"].isin(arms)
        & probed["quantity"].isin([CERTIFIED, VOTE, FOUND])
        & (probed["norm"] == "l2")
        & probed["value"].notna()
    ]
    for testset, rows in mine.groupby("testset", sort=False):
        wide = rows.assign(arm=rows["checkpoint"].map(arms)).pivot_table(
            index="example_id", columns=["quantity", "arm"], values="value", aggfunc="max", sort=False
        )
        needed = [(quantity, arm) for quantity in (CERTIFIED, FOUND) for arm in ("full", "peft")]
        if set(needed) <= set(wide.columns):
            kept = wide[(wide[needed] > 0).all(axis=1)]
            if len(kept):
                yield str(testset), kept.sort_values((FOUND, "full"))


def draw_radii(rows: pd.DataFrame, arms: Arms) -> tuple[Callable[[Axes], None], float]:
    """One line an example and arm on a shared logarithmic axis, from certified radius to attack's distance.

    Returns:
        What draws it, and its height in inches.
    """
    shown = rows.head(MAX_EXAMPLES)

    def draw(axes: Axes) -> None:
        soften(axes)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(PLAIN)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        for place in range(len(shown)):
            row = shown.iloc[place]
            for offset, (marker, colour, role), name in zip((-0.16, 0.16), SHAPES, arms.shorts, strict=True):
                low, high, y = row[(CERTIFIED, role)], row[(FOUND, role)], place + offset
                (line,) = axes.plot([low, high], [y, y], color=colour, linewidth=1.0, alpha=0.55)
                explain(line, f"{name}, {row.name}: certified {low:.3g}, broken at {high:.3g}")
                axes.plot(low, y, "|", color=colour, markersize=7, markeredgewidth=1.8)
                axes.plot(high, y, marker, color=colour, markersize=4.5, markeredgewidth=0)
                vote = row.get((VOTE, role), np.nan)
                if vote > 0:
                    axes.plot(vote, y, "D", color=colour, markersize=3.5, markerfacecolor="none")
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_yticks([])
        axes.set_xlabel("l2 distance, median token norms", fontsize=9)

    return draw, 0.2 * len(shown) + 0.6


def say_radii(rows: pd.DataFrame, arms: Arms) -> str:
    """Says whether the gap between the arms survives from below to above.

    It is proven for an example where one arm is certified beyond the distance at which the other was broken.
    """
    reference, candidate = map(visible, arms.shorts)
    known = [(CERTIFIED, "certified radius"), (VOTE, "radius of the vote under noise"), (FOUND, "attack's distance")]
    ratios = {
        words: float(np.exp(np.nanmedian(np.log(part["peft"] / part["full"]))))
        for quantity, words in known
        if quantity in rows.columns.get_level_values(0)
        and len(part := rows[quantity].reindex(columns=["full", "peft"]).where(lambda x: x > 0).dropna())
    }
    said = ", ".join(f"{words} {ratio:.2f}" for words, ratio in ratios.items())
    gap = float(np.median(np.concatenate([rows[(FOUND, arm)] / rows[(CERTIFIED, arm)] for arm in ("full", "peft")])))
    agree = "all bounds point the same way"
    if len({ratio > 1 for ratio in ratios.values()}) > 1:
        agree = "the bounds point different ways"
    return (
        f"{candidate} over {reference}, medians: {said}; {agree}. An attack's distance is {gap:.0f} times the "
        f"certified radius at the median, and {_say_proven(rows, (reference, candidate))}"
    )


def _say_proven(rows: pd.DataFrame, names: tuple[str, str]) -> str:
    ahead = [int((rows[(CERTIFIED, one)] > rows[(FOUND, other)]).sum()) for one, other in _ORDERS]
    if not any(ahead):
        none = f"on none of {len(rows)} examples is the order of the arms proven"
        return f"{none}: no gap survives from below to above."
    return (
        f"the order of the arms is proven on {ahead[0]} of {len(rows)} examples for {names[0]} and on {ahead[1]} for "
        f"{names[1]}: the gap between the arms survives there alone."
    )


_ORDERS = (("full", "peft"), ("peft", "full"))
