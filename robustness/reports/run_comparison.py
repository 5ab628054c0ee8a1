"""What changed between two runs, with paired statistics where their examples coincide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from robustness.errors import RunError
from robustness.reports.comparisons.comparison import Comparison, Family, PairedOutcomes, compare_rates
from robustness.reports.comparisons.families import give_verdicts
from robustness.reports.tables.examples import add_judgements, build_examples
from robustness.runs.storage.record import RunRecord, StatisticsRecord, read_record
from robustness.runs.storage.store import read_outcomes
from robustness.stats import Interval

CELL = ["checkpoint", "testset", "attack"]


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Two runs side by side."""

    settings: tuple[tuple[str, str, str], ...]
    """What was set otherwise: name, in the first run, in the second."""
    cells: pd.DataFrame
    """Cells that both runs have: checkpoint, testset, attack, n, value_a, value_b, difference (first minus second),
    low, high, p_adjusted, change (the second run is lower, higher, same or unclear)."""
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


def name_change(row: Any, statistics: StatisticsRecord) -> str:
    """Returns what the second run is beside the first: lower, higher, same (within the margin) or unclear."""
    if Interval(row.low, row.high).within(statistics.margin):
        return "same"
    if not row.p_adjusted <= statistics.alpha or row.low <= 0 <= row.high:
        return "unclear"
    return "lower" if row.difference > 0 else "higher"


def compare_runs(first: pd.DataFrame, second: pd.DataFrame, records: tuple[RunRecord, RunRecord]) -> RunComparison:
    """Compares robust accuracy (accuracy where nothing attacks) cell by cell on the examples both runs have.

    Args:
        first: examples.csv's rows of the first run.
        second: Those of the second.
        records: run.json of both.

    Raises:
        RunError: the runs have no cell in common.
    """
    one, two = add_judgements(first), add_judgements(second)
    ours, theirs = (dict(list(frame.groupby(CELL, sort=False))) for frame in (one, two))
    shared = [cell for cell in ours if cell in theirs]
    if not shared:
        raise RunError(
            "the two runs share no cell: expected at least one checkpoint, test set and attack of the same names; "
            f"the first has {_spell(next(iter(ours), None))}, the second {_spell(next(iter(theirs), None))}"
        )
    found: list[Comparison] = []
    for cell in shared:
        matched = match_arms(ours[cell], theirs[cell])
        if len(matched.groups):
            labels = dict(zip(CELL, cell, strict=True)) | {"pair": "runs"}
            family = Family.EXPLORED  # flat: no run is a gatekeeper of another
            found.append(
                compare_rates(matched, labels, metric="robust_accuracy", family=family, seed=records[0].seed)
            )
    statistics = records[0].statistics
    table = give_verdicts(found, statistics)
    if len(table):
        table = table.rename(columns={"reference_value": "value_a", "candidate_value": "value_b"})
        table["change"] = [name_change(row, statistics) for row in table.itertuples()]
    return RunComparison(
        settings=_settings(*records),
        cells=table,
        only_a=tuple(_spell(cell) for cell in ours if cell not in theirs),
        only_b=tuple(_spell(cell) for cell in theirs if cell not in ours),
    )


def match_arms(first: pd.DataFrame, second: pd.DataFrame) -> PairedOutcomes:
    """Returns the examples of one cell that both runs answered, side by side."""
    columns = ["example_id", "group_id", "robust_right", "clean_right"]
    both = first[columns].merge(second[columns], on="example_id", suffixes=("_a", "_b"))
    both = both[both["robust_right_a"].notna() & both["robust_right_b"].notna()]
    known = both["clean_right_a"].notna() & both["clean_right_b"].notna()
    return PairedOutcomes(
        reference=both["robust_right_a"].to_numpy(dtype=bool),
        candidate=both["robust_right_b"].to_numpy(dtype=bool),
        reference_clean=both["clean_right_a"].fillna(False).to_numpy(dtype=bool),
        candidate_clean=both["clean_right_b"].fillna(False).to_numpy(dtype=bool),
        clean_known=known.to_numpy(dtype=bool),
        groups=pd.factorize(both["group_id_a"])[0],
    )


def read_comparison(first: Path, second: Path) -> RunComparison:
    """Returns the comparison of two run folders; raises RunError where one is none or they share nothing."""
    records = read_record(first), read_record(second)
    tables = [build_examples(read_outcomes(folder), r) for folder, r in zip((first, second), records, strict=True)]
    return compare_runs(tables[0], tables[1], records)


def _spell(cell: object) -> str:
    return " | ".join(str(name) for name in cell) if isinstance(cell, tuple) else "nothing"


def _settings(one: RunRecord, two: RunRecord) -> tuple[tuple[str, str, str], ...]:
    both = [
        {"suite": r.suite, "seed": str(r.seed), "limit": str(r.limit), "device": r.device, "dtype": r.dtype}
        | {f"version of {name}": value for name, value in r.versions.items()}
        | {f"attack {a.name}": a.digest for a in r.attacks}
        | {f"weights of {c.name}": c.weights_digest[:12] for c in r.checkpoints}
        for r in (one, two)
    ]
    names = dict.fromkeys([*both[0], *both[1]])
    return tuple(
        (name, both[0].get(name, "absent"), both[1].get(name, "absent"))
        for name in names
        if both[0].get(name) != both[1].get(name)
    )
