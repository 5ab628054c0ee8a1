"""All tables and the page of a run folder, from its stored rows."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from robustness.engine.outcome import Status
from robustness.reports.budget_figure import draw_budgets
from robustness.reports.comparisons.comparison import Family
from robustness.reports.notebook import to_html
from robustness.reports.page.writing import write_page
from robustness.reports.places import PLANNED
from robustness.reports.summaries.endpoints import find_disagreements
from robustness.reports.summaries.summary import summarise_run
from robustness.reports.tables.attacks import build_attacks
from robustness.reports.tables.columns import Table
from robustness.reports.tables.csvfiles import write_table
from robustness.reports.tables.curves import build_curves, build_path_curves
from robustness.reports.tables.examples import build_examples
from robustness.reports.tables.fragility import build_fragility
from robustness.reports.tables.missing import count_missing_probes, count_missing_replays
from robustness.reports.tables.pairs import build_pairs
from robustness.reports.tables.paper import paper_table
from robustness.reports.tables.probes.brackets import build_brackets, find_violations
from robustness.reports.tables.probes.predictions import build_predictions
from robustness.reports.tables.probes.sensitivity import (
    build_layers,
    build_sensitivity,
    build_sensitivity_examples,
    find_errored,
)
from robustness.reports.tables.probes.sensitivity_pairs import build_sensitivity_pairs, name_families
from robustness.reports.tables.survival import build_survival
from robustness.reports.tables.testsets import build_testsets
from robustness.reports.tables.transfer import build_transfer
from robustness.reports.visible import visible
from robustness.runs.storage.disk import STORE
from robustness.runs.storage.lock import find_holder
from robustness.runs.storage.measurements import read_measurements
from robustness.runs.storage.record import FILE_NAME as RECORD
from robustness.runs.storage.record import RunRecord, StatisticsRecord, hold_record, read_record, write_record
from robustness.runs.storage.store import read_outcomes, read_replays

FEW_PAIRS = 3
"""Pairs that a report's short form names."""


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """The answer of one run, with the tables it rests on, as they stand in its CSV files.

    Printed, it says what was compared and the verdict; a notebook shows the table for a paper too. Rates, scores and
    differences in `tables` are fractions, times are seconds.

    Example:
        ```python
        report = robustness.load("runs/quick")
        print(report.verdict)
        report.paper_table().to_csv("table.csv")
        report.plot_budget(attack="deepwordbug").savefig("budget.pdf")
        ```
    """

    folder: Path
    """The run folder."""
    record: RunRecord
    """What run.json says: versions, seeds, checkpoints, test sets, attacks, warnings, refused pairs."""
    tables: dict[Any, pd.DataFrame]  # by Table, which is text: a dict by text would not be a dict by Table
    """Every table by its file's name without ending, such as `tables["examples"]`."""
    disagreements: tuple[str, ...] = ()
    """Where gradients point another way than adversarial distances, a sentence each."""
    missing_replays: int = 0
    """Texts that broke one arm of a pair and are not scored on the other arm yet."""

    def __repr__(self) -> str:
        return "\n".join(visible(line) for line in (self._heading, *self._first_answers))

    def _repr_html_(self) -> str:
        return to_html(self._heading, self._first_answers, self.paper_table())

    @property
    def _heading(self) -> str:
        pairs = ", ".join(pair.name for pair in self.record.pairs[:FEW_PAIRS])
        more = f" and {len(self.record.pairs) - FEW_PAIRS} more" if len(self.record.pairs) > FEW_PAIRS else ""
        return f"Report of {self.folder}: suite {self.record.suite}, pairs {pairs}{more}, {self.n_errored} errored"

    @property
    def _first_answers(self) -> list[str]:
        more = len(self._answers) - FEW_PAIRS
        return self._answers[:FEW_PAIRS] + ([f"and {more} more: see verdict"] if more > 0 else [])

    @property
    def _answers(self) -> list[str]:
        found = summarise_run(self.pairs, self.record).shown
        return [f"{each.name}: {each.headline}" if len(found) > 1 else str(each.headline) for each in found]

    @property
    def pairs(self) -> pd.DataFrame:
        """Every comparison of two checkpoints, as in pairs.csv: above 0 the candidate is worse off."""
        return self.tables[Table.PAIRS]

    @property
    def attacks(self) -> pd.DataFrame:
        """Every attack on every checkpoint, as in attacks.csv: accuracies and success rates are in [0, 1]."""
        return self.tables[Table.ATTACKS]

    @property
    def verdict(self) -> str:
        """The answer in two sentences: do both collapse, and is one more fragile?

        The page and the command line begin with the same words. Of several pairs, or of methods with several training
        seeds, it has a line each, which begins with the name.
        """
        return "\n".join(self._answers)

    def paper_table(self) -> pd.DataFrame:
        """Returns the planned comparisons with clean accuracy and baselines, one row each.

        Returns:
            Columns `pair` (of several), `test set`, `attack`, `metric` (unless all are accuracy), `n`, one for each
            arm (percent), `difference`, `low`, `high` (percentage points, 95 % interval), `p` (adjusted) and
            `verdict`. `robustness report DIR --format paper` writes the same as Markdown, LaTeX and CSV.
        """
        return paper_table(self.pairs, self.record)

    def plot_budget(
        self,
        attack: str | None = None,
        *,
        testset: str | None = None,
        pair: str | None = None,
        budget_kind: str | None = None,
    ) -> Figure:
        """Returns a figure of robust accuracy against what an attack may spend, one line for each checkpoint.

        Each test set, attack and kind of budget has a panel. The shaded band is the 95 % Wilson interval. Nothing is
        attacked again: an example counts as broken where the attack succeeded within the budget.

        Args:
            attack: one of the run's; None for all.
            testset: one of the run's; None for all.
            pair: one of the run's; None for all.
            budget_kind: queries, modified_share or epsilon; None for all.

        Raises:
            UsageError: the run has no such name, or no curve.
        """
        wanted = {"pair": pair, "testset": testset, "attack": attack, "budget_kind": budget_kind}
        return draw_budgets(self.tables[Table.CURVES], self.record, wanted)

    @property
    def n_errored(self) -> int:
        """Outcomes that ended in an error."""
        return int((self.tables[Table.EXAMPLES]["status"] == Status.ERRORED).sum())

    @property
    def n_errored_measurements(self) -> int:
        """Examples whose measurement ended in an error, of each probe on each checkpoint and test set."""
        return len(find_errored(self.tables[Table.SENSITIVITY], self.tables[Table.SENSITIVITY_EXAMPLES]))

    @property
    def missing(self) -> int:
        """Outcomes that an interrupted run has not made yet."""
        attacks = len(self.record.attacks)
        cells = sum(
            testset.n_used
            + (attacks if testset.n_attacks is None else testset.n_attacks)
            * self.record.count_attacked(checkpoint.name, testset)
            for checkpoint in self.record.checkpoints
            for testset in self.record.testsets
            if testset.task == checkpoint.task
        )
        return max(0, cells - len(self.tables[Table.EXAMPLES]))

    @property
    def missing_measurements(self) -> int:
        """Probes on one checkpoint and test set that an interrupted run has not measured yet."""
        return count_missing_probes(self.tables[Table.SENSITIVITY], self.record)


@dataclass(frozen=True, slots=True)
class BuiltReport:
    """A report with the replays that its page shows."""

    report: Report
    replays: pd.DataFrame


def write_report(folder: Path, statistics: StatisticsRecord | None = None) -> Report:
    """Builds every table from the stored rows and writes it beside them, then the page; says in run.json how.

    A run that ends meanwhile writes its own report. Then the tables are built again, so that no older ones replace
    its files.

    Args:
        folder: A run folder.
        statistics: Replaces how the arms are compared; None keeps what run.json says.

    Raises:
        RunError: the folder is not a run, or its store cannot be read.
    """
    for is_last in (False, False, True):  # of a run in another thread of this process the lock tells nothing
        state = _read_state(folder)
        built = build_report(folder, statistics)
        with hold_record(folder):
            if is_last or _read_state(folder) == state or find_holder(folder) is not None:
                _write(folder, built)
                break
    return built.report


def _read_state(folder: Path) -> list[tuple[str, int, int]]:
    """Sizes and times of the record and the store."""
    state = []
    for name in (RECORD, STORE, f"{STORE}-wal"):
        with suppress(FileNotFoundError):  # there is no run, or no process that writes
            found = (folder / name).stat()
            state.append((name, found.st_size, found.st_mtime_ns))
    return state


def _write(folder: Path, built: BuiltReport) -> None:
    """A run that continues may have changed its own entries of run.json meanwhile."""
    made = built.report
    for table, frame in made.tables.items():
        write_table(frame, table, folder / f"{table}.csv")
    found = {"statistics": made.record.statistics, "violations": made.record.violations}
    record = read_record(folder)
    changed = record.model_copy(update=found)
    if changed != record:  # its time tells other reports that the run has gone on
        write_record(folder, changed)
    write_page(folder, made.record, made.tables, built.replays, made.disagreements)


def build_report(folder: Path, statistics: StatisticsRecord | None = None) -> BuiltReport:
    """Builds every table from the stored rows; writes nothing, and raises what `write_report` does."""
    record = read_record(folder)
    if statistics is not None:
        record = record.model_copy(update={"statistics": statistics})
    examples = build_examples(read_outcomes(folder), record)
    replays = read_replays(folder)
    measurements = read_measurements(folder)
    tables = {
        Table.EXAMPLES: examples,
        Table.TESTSETS: build_testsets(examples, record),
        Table.ATTACKS: build_attacks(examples, record),
        Table.PAIRS: (pairs := build_pairs(examples, record)),
        Table.TRANSFER: build_transfer(replays, examples),
        Table.CURVES: pd.concat([build_curves(examples), build_path_curves(measurements)], ignore_index=True),
        Table.SENSITIVITY: build_sensitivity(measurements, record),
        Table.SENSITIVITY_EXAMPLES: (probed := build_sensitivity_examples(measurements)),
        Table.SENSITIVITY_PAIRS: (compared := build_sensitivity_pairs(measurements, record)),
        Table.LAYERS: build_layers(measurements),
        Table.FRAGILITY: (fragility := build_fragility(examples, pairs, record)),
        Table.SURVIVAL: build_survival(examples, record),
        Table.PREDICTIONS: build_predictions(probed, examples, record),
        Table.BRACKETS: (brackets := build_brackets(measurements)),
    }
    record = _with_families(record, pairs, fragility, compared)
    record = record.model_copy(update={"violations": find_violations(brackets, record)})
    disagreements = tuple(find_disagreements(compared, record))
    missing = count_missing_replays(replays, examples, record)
    return BuiltReport(Report(folder, record, tables, disagreements, missing), replays)


def _with_families(
    record: RunRecord, pairs: pd.DataFrame, fragility: pd.DataFrame, compared: pd.DataFrame
) -> RunRecord:
    """Names the members of every family of tests whose p-values were adjusted together."""
    families: dict[str, list[str]] = {}
    for row in pairs[pairs["p_adjusted"].notna()].itertuples():
        words = [row.testset, row.attack, row.metric]
        words += [word for word in (row.population, row.aggregation) if word not in ("all", "mean")]
        families.setdefault(f"{row.pair}, {row.family}", []).append(" | ".join(words))
    explored = fragility[~fragility["where"].isin(PLANNED) & fragility["p_adjusted"].notna()]
    for row in explored.itertuples():
        families.setdefault(f"{row.pair}, {Family.EXPLORED}", []).append(f"{row.where} | {row.what}")
    families |= name_families(compared)
    named = {name: tuple(members) for name, members in families.items()}
    return record.model_copy(update={"statistics": record.statistics.model_copy(update={"families": named})})
