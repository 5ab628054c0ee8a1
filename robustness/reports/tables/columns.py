"""The columns of every CSV table, declared once: names and order are a promise, new ones go to the end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import pandas as pd


class Table(StrEnum):
    """The tables of a run folder, by file stem."""

    EXAMPLES = "examples"
    TESTSETS = "testsets"
    ATTACKS = "attacks"
    PAIRS = "pairs"
    TRANSFER = "transfer"
    CURVES = "curves"
    SENSITIVITY = "sensitivity"
    SENSITIVITY_EXAMPLES = "sensitivity_examples"
    SENSITIVITY_PAIRS = "sensitivity_pairs"
    LAYERS = "layers"
    FRAGILITY = "fragility"
    SURVIVAL = "survival"
    PREDICTIONS = "predictions"
    BRACKETS = "brackets"


HEADINGS = {"p_value": "p", "p_adjusted": "p adj.", "testset": "test set"}
"""Of columns that readers know by another name."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: text, or a number where `unit` says of what."""

    name: str
    unit: str | None = None

    @property
    def heading(self) -> str:
        """Its name for readers.

        >>> Column("robust_accuracy_low").heading, Column("p_adjusted").heading
        ('robust accuracy low', 'p adj.')
        """
        return HEADINGS.get(self.name, self.name.replace("_", " "))

    @property
    def is_text(self) -> bool:
        """Whether cells are text, which may be hostile."""
        return self.unit is None


def declare_columns(declaration: str) -> tuple[Column, ...]:
    """Returns columns declared as "name" (text) or "name:unit" (number), separated by blanks."""
    pairs = (word.partition(":") for word in declaration.split())
    return tuple(Column(name, unit or None) for name, _, unit in pairs)


COLUMNS: dict[Table, tuple[Column, ...]] = {
    Table.EXAMPLES: declare_columns(
        "checkpoint adaptation task train_seed:seed testset provenance attack attack_digest seed:seed example_id "
        "group_id clean_correct:truth correct:truth clean_quality:fraction quality:fraction clean_response response "
        "gold status queries:count forwards:count decodes:count modified_words:count modified_share:fraction "
        "similarity:fraction seconds:seconds original_text adversarial_text error distance:token-norms norm "
        "backwards:count zero_gradients:count goal method construction original_gold label_entropy:bits "
        "generated_tokens:count cut:truth answer_marked correct_marked:truth answer_last correct_last:truth "
        "base_precision"
    ),
    Table.TESTSETS: declare_columns(
        "checkpoint adaptation task testset provenance metric aggregation n:count n_errored:count value:fraction "
        "low:fraction high:fraction base_precision"
    ),
    Table.ATTACKS: declare_columns(
        "checkpoint adaptation method train_seed:seed trainable_parameters:count task testset attack n:count "
        "n_skipped:count n_errored:count clean_accuracy:fraction robust_accuracy:fraction "
        "robust_accuracy_low:fraction robust_accuracy_high:fraction attack_success_rate:fraction "
        "attack_success_rate_low:fraction attack_success_rate_high:fraction mean_queries:count mean_forwards:count "
        "mean_modified_share:fraction mean_similarity:fraction seconds:seconds goal n_left_out:count "
        "clean_quality:fraction quality:fraction decodes:count generated_tokens:count n_cut:count base_precision "
        "train_seconds:seconds trainable_share:fraction"
    ),
    Table.PAIRS: declare_columns(
        "pair contrast base reference candidate method task testset attack metric population n:count "
        "reference_value:fraction candidate_value:fraction difference:fraction low:fraction high:fraction "
        "drop_difference:fraction drop_low:fraction drop_high:fraction test p_value:probability "
        "p_adjusted:probability verdict detectable:fraction n_seeds:count method_digest trainable_parameters:count "
        "aggregation p_equivalence:probability seed_sd:fraction seed_sd_low:fraction seed_sd_high:fraction "
        "example_sd:fraction interaction_sd:fraction seed_share:fraction family n_left_out:count reason "
        "noise_floor:fraction base_precision train_seconds:seconds trainable_share:fraction"
    ),
    Table.TRANSFER: declare_columns(
        "source target testset attack n:count transfer_rate:fraction low:fraction high:fraction"
    ),
    Table.CURVES: declare_columns(
        "checkpoint testset attack budget_kind budget:amount robust_accuracy:fraction low:fraction high:fraction"
    ),
    Table.FRAGILITY: declare_columns(
        "pair where what difference:fraction low:fraction high:fraction p_adjusted:probability verdict testset "
        "attack n:count reference_value:fraction candidate_value:fraction test p_value:probability "
        "detectable:fraction reason noise_floor:fraction base_precision"
    ),
    Table.SURVIVAL: declare_columns(
        "pair testset attack reference_n:count candidate_n:count reference_median:queries candidate_median:queries "
        "statistic:normal-score test p_value:probability n:count"
    ),
    Table.PREDICTIONS: declare_columns(
        "checkpoint testset probe quantity attack n:count auc:fraction low:fraction high:fraction "
        "rank_correlation:correlation kind norm radius:amount scope n_broken:count n_left_out:count effort "
        "sigma:amount"
    ),
    Table.SENSITIVITY: declare_columns(
        "checkpoint adaptation task testset probe space target kind norm radius:amount alpha:probability status "
        "n:count value:amount low:amount high:amount forwards:count backwards:count seconds:seconds quantity unit "
        "aggregate direction n_errored:count reason scope sigma:amount base_precision"
    ),
    Table.SENSITIVITY_EXAMPLES: declare_columns(
        "checkpoint testset probe example_id group_id target kind norm radius:amount status value:amount quantity "
        "unit reason scope alpha:probability sigma:amount"
    ),
    Table.SENSITIVITY_PAIRS: declare_columns(
        "pair probe quantity kind norm radius:amount scope n:count reference_value:amount candidate_value:amount "
        "ratio:ratio low:amount high:amount p_adjusted:probability direction testset layer:depth module comparison "
        "difference:amount test p_value:probability n_left_out:count larger_values unit target alpha:probability "
        "reason sigma:amount status base_precision"
    ),
    Table.BRACKETS: declare_columns(
        "checkpoint testset example_id group_id layer:depth module of lower upper lower_kind upper_kind "
        "lower_value:amount upper_value:amount ratio:ratio norm radius:amount scope unit target alpha:probability "
        "status reason"
    ),
    Table.LAYERS: declare_columns(
        "checkpoint layer:depth module probe kind value:amount testset quantity unit norm n:count status reason scope"
    ),
}
"""Columns of tasks with free-text answers.

In examples.csv: `decodes` and `generated_tokens` count responses and tokens decoded for the example. `cut` says
whether the judged response was cut at the token limit. `answer_marked` and `answer_last` are the number after the
marker and the last one, empty without one, each with its correctness. `clean_quality` and `quality` are the task's
metric. attacks.csv has the mean of both qualities over the judged examples (an example wrong before keeps its
quality). It also has sums of decodes, tokens and cut responses.

In testsets.csv the metric has the task's name. `accuracy_marked` and `accuracy_last` are accuracy by either reading,
and `cut_share` is the share of cut responses. The aggregations `construction: NAME` (rows with and without an answer)
and `method: NAME` are of parts.

pairs.csv has rows of the task's metric. `noise_floor`, also in fragility.csv, is the larger share of both arms'
answers that changed when the gate asked again. It asked in another batch or order, or with the unmerged adapter. It
is empty where not measured.
"""


def arrange(table: Table, rows: pd.DataFrame | list[dict[str, object]]) -> pd.DataFrame:
    """Returns the rows with exactly the table's columns, in order; what is absent becomes empty."""
    return pd.DataFrame(rows).reindex(columns=[column.name for column in COLUMNS[table]])
