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
from robustness.runs.cells import NO_ATTACK
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
    other_examples: tuple[tuple[str, int], ...] = ()
    """Cells with examples left out because their texts or gold differ between the runs, and their numbers."""


def name_change(row: Any, statistics: StatisticsRecord) -> str:
    """Returns what the second run is beside the first: lower, higher, same (within the margin) or unclear."""
    if Interval(row.low, row.high).within(statistics.margin):
        return "same"
    if not row.p_adjusted <= statistics.alpha or row.low <= 0 <= row.high:
        return "unclear"
    return "lower" if row.difference > 0 else "higher"


def compare_runs(first: pd.DataFrame, second: pd.DataFrame, records: tuple[RunRecord, RunRecord]) -> RunComparison:
    """Compares robust accuracy (accuracy where nothing attacks) cell by cell on the examples both runs have.

    An example is the same where id, text and gold are: ids that number a table's rows say nothing of another table.

    Args:
        first: examples.csv's rows of the first run.
        second: Those of the second.
        records: run.json of both.

    Raises:
        RunError: the runs have no cell in common, or no example that both judged.
    """
    one, two = (add_judgements(frame).assign(text=_own_texts(frame)) for frame in (first, second))
    ours, theirs = (dict(list(frame.groupby(CELL, sort=False))) for frame in (one, two))
    shared = [cell for cell in ours if cell in theirs]
    if not shared:
        raise RunError(
            "the two runs share no cell: expected at least one checkpoint, test set and attack of the same names; "
            f"the first has {_spell(next(iter(ours), None))}, the second {_spell(next(iter(theirs), None))}"
        )
    found: list[Comparison] = []
    others: list[tuple[str, int]] = []
    for cell in shared:
        matched, n_others = match_arms(ours[cell], theirs[cell])
        if n_others:
            others.append((_spell(cell), n_others))
        if len(matched.groups):
            labels = dict(zip(CELL, cell, strict=True)) | {"pair": "runs"}
            family = Family.EXPLORED  # flat: no run is a gatekeeper of another
            found.append(
                compare_rates(matched, labels, metric="robust_accuracy", family=family, seed=records[0].seed)
            )
    if not found:
        raise RunError(
            "the two runs share no example: expected examples of the same id, text and gold, judged in both; of "
            f"{max((n for _, n in others), default=0)} ids that a cell of both has, text or gold differ; are these "
            "the same rows in another order?"
        )
    statistics = records[0].statistics
    table = give_verdicts(found, statistics)
    table = table.rename(columns={"reference_value": "value_a", "candidate_value": "value_b"})
    table["change"] = [name_change(row, statistics) for row in table.itertuples()]
    return RunComparison(
        settings=_settings(*records),
        cells=table,
        only_a=tuple(_spell(cell) for cell in ours if cell not in theirs),
        only_b=tuple(_spell(cell) for cell in theirs if cell not in ours),
        other_examples=tuple(others),
    )


def _own_texts(examples: pd.DataFrame) -> pd.Series:
    """What tells an example from others: its own text; of a text made against each checkpoint its original."""
    made = examples["provenance"] == "generated"
    is_own = (examples["attack"] == NO_ATTACK) & ~made
    return examples["adversarial_text"].where(is_own, examples["original_text"].fillna(examples["adversarial_text"]))


def match_arms(first: pd.DataFrame, second: pd.DataFrame) -> tuple[PairedOutcomes, int]:
    """Returns the examples of one cell that both runs answered, side by side.

    The number is of those left out because another text or gold has their id.
    """
    columns = ["example_id", "group_id", "text", "gold", "robust_right", "clean_right"]
    both = first[columns].merge(second[columns], on="example_id", suffixes=("_a", "_b"))
    judged = both[both["robust_right_a"].notna() & both["robust_right_b"].notna()]
    told = judged.fillna({f"{name}_{run}": "" for name in ("text", "gold") for run in "ab"})
    both = judged[(told["text_a"] == told["text_b"]) & (told["gold_a"] == told["gold_b"])]
    known = both["clean_right_a"].notna() & both["clean_right_b"].notna()
    paired = PairedOutcomes(
        reference=both["robust_right_a"].to_numpy(dtype=bool),
        candidate=both["robust_right_b"].to_numpy(dtype=bool),
        reference_clean=both["clean_right_a"].fillna(False).to_numpy(dtype=bool),
        candidate_clean=both["clean_right_b"].fillna(False).to_numpy(dtype=bool),
        clean_known=known.to_numpy(dtype=bool),
        groups=pd.factorize(both["group_id_a"])[0],
    )
    return paired, len(judged) - len(both)


def read_comparison(first: Path, second: Path) -> RunComparison:
    """Returns the comparison of two run folders; raises RunError where one is none or they share no example."""
    records = read_record(first), read_record(second)
    tables = [build_examples(read_outcomes(folder), r) for folder, r in zip((first, second), records, strict=True)]
    return compare_runs(tables[0], tables[1], records)


def _spell(cell: object) -> str:
    return " | ".join(str(name) for name in cell) if isinstance(cell, tuple) else "nothing"


def _settings(one: RunRecord, two: RunRecord) -> tuple[tuple[str, str, str], ...]:
    both = [
        {"suite": r.suite, "seed": str(r.seed), "limit": str(r.limit), "device": r.device, "dtype": r.dtype}
        | {f"version of {name}": value for name, value in r.versions.items()}
        | {f"rows of {t.name}": t.digest[:12] for t in r.testsets}
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
