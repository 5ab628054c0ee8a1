"""transfer.csv: how often what broke one arm also breaks its partner, or the untuned base."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.reports.comparisons.grid import split_cells
from robustness.reports.tables.columns import Table, arrange
from robustness.runs.cells import NO_ATTACK, UNTUNED
from robustness.stats import wilson_interval

CELL = ["source", "target", "testset", "attack"]
KEYS = ["testset", "attack", "example_id"]


def build_transfer(replays: pd.DataFrame, examples: pd.DataFrame) -> pd.DataFrame:
    """Returns transfer.csv's rows.

    `n` counts the source's adversarial texts whose clean form the target gets right; `transfer_rate` is the share of
    them that the target gets wrong (arXiv 1605.07277's transferability, on texts found by attacking the source).
    The target `untuned base` is the base under the source's own head.
    """
    on_base = (replays["target"] == UNTUNED).to_numpy()
    is_clean = on_base & (replays["attack"] == NO_ATTACK).to_numpy()
    judge = replays["target"].where(
        ~on_base, replays["source"]
    )  # whose row of examples.csv tells whether the clean text is answered rightly
    rows = _look_up([examples["checkpoint"], *(examples[k] for k in KEYS)], [judge, *(replays[k] for k in KEYS)])
    clean_row = _look_up(
        [replays[k][is_clean] for k in ("source", "testset", "example_id")],
        [replays[k] for k in ("source", "testset", "example_id")],
    )
    known, correct = (
        column.to_numpy(dtype=float, na_value=np.nan) for column in (examples["clean_correct"], replays["correct"])
    )
    unknown = np.full(len(rows), np.nan)
    clean = known[rows] if len(known) else unknown
    if on_base.any():
        answers = correct[is_clean]
        found = answers[clean_row] if len(answers) else unknown
        clean = np.where(on_base, np.where(clean_row >= 0, found, np.nan), clean)
    kept = np.flatnonzero((rows >= 0) & (clean == 1) & ~is_clean)
    kept = kept[np.argsort(on_base[kept], kind="stable")]  # the base after all arms
    eligible, fooled = replays[CELL].iloc[kept], (correct != 1)[kept]
    table = []
    for cell, part in split_cells(eligible, CELL):
        broken = int(fooled[part].sum())
        interval = wilson_interval(broken, len(part))
        table.append(
            dict(zip(CELL, cell, strict=True))
            | {"n": len(part), "transfer_rate": broken / len(part), "low": interval.low, "high": interval.high}
        )
    return arrange(Table.TRANSFER, table)


def _look_up(known: list[pd.Series], wanted: list[pd.Series]) -> NDArray[np.int64]:
    """For each wanted combination of values the place of the known one that is equal, -1 where none is."""
    n = len(known[0])
    code = np.zeros(n + len(wanted[0]), dtype=np.int64)
    for one, other in zip(known, wanted, strict=True):
        values, names = pd.factorize(pd.concat([one, other], ignore_index=True))
        code = pd.factorize(code * (len(names) + 1) + values)[0]
    places = np.full(int(code.max(initial=-1)) + 1, -1)
    places[code[:n]] = np.arange(n)
    found: NDArray[np.int64] = places[code[n:]]
    return found
