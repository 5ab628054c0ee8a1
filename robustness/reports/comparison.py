"""What changed between two runs, with paired statistics where their examples coincide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from robustness.errors import RunError
from robustness.reports.examples import add_judgements, build_examples
from robustness.reports.pairs import PairedOutcomes, compare_arms, give_verdicts
from robustness.runs.record import RunRecord, read_record
from robustness.runs.store import read_outcomes
from robustness.stats import Verdict

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


CHANGES = {
    Verdict.PEFT_MORE_FRAGILE: "lower",
    Verdict.FULL_MORE_FRAGILE: "higher",
    Verdict.EQUIVALENT: "same",
    Verdict.INCONCLUSIVE: "unclear",
}
"""A comparison reads first minus second as it reads full minus PEFT: above 0, the second run is lower."""


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
    rows: list[dict[str, object]] = []
    for cell in shared:
        matched = match_arms(ours[cell], theirs[cell])
        if len(matched.groups):
            names = dict(zip(CELL, cell, strict=True))
            rows.append(names | {"family": "runs"} | compare_arms(matched, records[0].seed))
    table = give_verdicts(rows, records[0].statistics)
    if len(table):
        table = table.rename(columns={"reference_value": "value_a", "candidate_value": "value_b"})
        table["change"] = table["verdict"].map(lambda verdict: CHANGES[Verdict(verdict)])
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
        full_robust=both["robust_right_a"].to_numpy(dtype=bool),
        peft_robust=both["robust_right_b"].to_numpy(dtype=bool),
        full_clean=both["clean_right_a"].fillna(False).to_numpy(dtype=bool),
        peft_clean=both["clean_right_b"].fillna(False).to_numpy(dtype=bool),
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
