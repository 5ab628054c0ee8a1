"""The columns of a study's own tables, declared once: names and order are a promise, new ones go to the end."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import pandas as pd

from robustness.reports.tables.columns import Column, declare_columns
from robustness.reports.tables.csvfiles import write_columns
from robustness.reports.tables.meanings import MEANINGS


class StudyTable(StrEnum):
    """The tables that a study's answer adds to its folder, by file stem."""

    STUDY_TABLE = "study_table"
    DOSES = "doses"
    TRENDS = "trends"
    PROPERTIES = "properties"


STUDY_COLUMNS: dict[StudyTable, tuple[Column, ...]] = {
    StudyTable.STUDY_TABLE: declare_columns(
        "task rows:count matching method family parameters trainable_parameters:count trainable_share:fraction "
        "testset attack metric n:count n_left_out:count n_seeds:count clean_value:fraction clean_sd:fraction "
        "value:fraction sd:fraction difference:fraction low:fraction high:fraction p_value:probability "
        "p_adjusted:probability verdict reason noise_floor:fraction noise_largest:fraction "
        "role n_clean:count"
    ),
    StudyTable.DOSES: declare_columns(
        "checkpoint task rows:count matching method family train_seed:seed trainable_parameters:count "
        "trainable_share:fraction testset attack measure n:count value:amount unit"
    ),
    StudyTable.TRENDS: declare_columns(
        "task rows:count matching dose series testset attack measure n_checkpoints:count n_doses:count n_seeds:count "
        "n:count slope:amount low:amount high:amount unit fit kendall:correlation order_p_value:probability "
        "p_value:probability p_adjusted:probability verdict detectable:amount"
    ),
    StudyTable.PROPERTIES: declare_columns(
        "task rows:count matching property kind n:count n_methods:count rank_correlation:correlation low:correlation "
        "high:correlation within_methods:correlation"
    ),
}

STUDY_MEANINGS: dict[StudyTable, str] = {
    StudyTable.STUDY_TABLE: "One row per method, test set and attack: means over seeds, and the difference to full.",
    StudyTable.DOSES: "One row per checkpoint, test set, attack and measure: robustness against parameters and rows.",
    StudyTable.TRENDS: "One row per series of doses, test set, attack and measure: slope per doubling, and its test.",
    StudyTable.PROPERTIES: "How properties of the update go with robustness over the adapters; exploratory.",
}

COLUMN_MEANINGS: dict[str, str] = {
    "rows": "Training rows given to all checkpoints, without any that a recipe adds; empty of a series over rows",
    "matching": "`best`: the best epoch of each; `clean`: the adapter's epoch nearest to full in clean score",
    "method": "The method with its parameters, such as `lora-r8`",
    "family": "The method without its parameters, such as `lora`",
    "parameters": "The values that the study varied, as JSON",
    "trainable_parameters": "Parameters that were trained, mean over the checkpoints",
    "trainable_share": "Trained parameters / all parameters",
    "testset": "Name of the test set; `all`: all planned cells as one, each example by its mean over attacks",
    "attack": "Name of the attack; `none`: as it stands; `worst-case`: any attack succeeds; `all`: as above",
    "n": "Examples that every checkpoint of the task has; of properties, checkpoints",
    "n_left_out": "Examples that some checkpoint has no outcome of",
    "clean_value": "Score before the attack on the `n_clean` examples, mean over seeds",
    "clean_sd": "Standard deviation of `clean_value` between seeds",
    "value": "In study_table.csv the score, mean over seeds; in doses.csv the checkpoint's value of the measure",
    "sd": "Standard deviation of `value` between seeds",
    "difference": "Full minus method, over the seeds that both have; above 0 the method is worse off",
    "p_adjusted": "By Holm, over the single cells of a method, or of a measure in a series; of all cells as one, "
    "which are tested alone, `p_value` itself; empty of controls",
    "noise_floor": "Root mean square of the differences between full checkpoints of two seeds",
    "noise_largest": "Largest of these differences, without its sign",
    "role": "`primary`: all planned cells as one; `planned`: one of them; `worst-case`: the attacks of a test set as "
    "one, which is tested beside the planned cells and is no part of the primary; `control`: a baseline or the clean "
    "set",
    "n_clean": "Of `n`, the examples whose score before the attack is known of every checkpoint; fragility is told "
    "from a clean gap on these",
    "measure": "`robust_accuracy`, `clean_accuracy`, `effort` to break, or adversarial `distance`",
    "dose": "`trainable_parameters` or `training_rows`",
    "series": "The family, or the method, that the doses are of",
    "n_checkpoints": "Checkpoints in the trend",
    "n_doses": "Distinct doses",
    "slope": "Change per doubling of the dose: a fraction of accuracies, doublings of effort and distance",
    "fit": "How the slope was fitted: `mixed-model`, `within-seeds` or `slopes-per-seed`; `none`: it was not",
    "kendall": "Mean of Kendall's tau within seeds",
    "order_p_value": "Exact p-value of the order within seeds, two-sided",
    "detectable": "Slope that this study would find with power .80",
    "property": "What was measured on the update",
    "n_methods": "Distinct methods among the checkpoints",
    "rank_correlation": "Spearman's correlation with robust accuracy over checkpoints",
    "within_methods": "The same within methods: over deviations from the method's mean ranks",
}
"""Of columns that mean something of their own in a study's tables; others as in a run's."""


def study_meaning_of(column: Column) -> str:
    """Returns what a column of a study's tables means, without a full stop.

    >>> study_meaning_of(Column("fit"))
    'How the slope was fitted: `mixed-model`, `within-seeds` or `slopes-per-seed`; `none`: it was not'

    Raises:
        KeyError: a column that nothing is declared of.
    """
    return COLUMN_MEANINGS.get(column.name) or MEANINGS[column.name]


def arrange_study(table: StudyTable, rows: list[dict[str, object]]) -> pd.DataFrame:
    """Returns the rows with exactly the table's columns, in order; what is absent becomes empty."""
    return pd.DataFrame(rows).reindex(columns=[column.name for column in STUDY_COLUMNS[table]])


def write_study_table(frame: pd.DataFrame, table: StudyTable, folder: Path) -> None:
    """Writes one table in one step."""
    write_columns(frame, STUDY_COLUMNS[table], folder / f"{table}.csv")
