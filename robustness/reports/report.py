"""All tables of a run folder, from its stored rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from robustness.engine.outcome import Status
from robustness.reports.attacks import build_attacks
from robustness.reports.columns import Table
from robustness.reports.csvfiles import write_table
from robustness.reports.curves import build_curves, build_path_curves
from robustness.reports.examples import build_examples
from robustness.reports.pairs import build_pairs
from robustness.reports.sensitivity import build_layers, build_sensitivity, build_sensitivity_examples
from robustness.reports.testsets import build_testsets
from robustness.reports.transfer import build_transfer
from robustness.runs.measurements import read_measurements
from robustness.runs.record import RunRecord, read_record
from robustness.runs.store import read_outcomes, read_replays


@dataclass(frozen=True, slots=True)
class Report:
    """The tables of one run, as they stand in its CSV files."""

    folder: Path
    record: RunRecord
    tables: dict[Table, pd.DataFrame]

    @property
    def n_errored(self) -> int:
        """Outcomes that ended in an error."""
        return int((self.tables[Table.EXAMPLES]["status"] == Status.ERRORED).sum())

    @property
    def n_errored_measurements(self) -> int:
        """Measurements that ended in an error."""
        return int(self.tables[Table.SENSITIVITY]["n_errored"].sum())

    @property
    def missing(self) -> int:
        """Outcomes that an interrupted run has not made yet."""
        cells = sum(
            testset.n_used * (1 + len(self.record.attacks))
            for checkpoint in self.record.checkpoints
            for testset in self.record.testsets
            if testset.task == checkpoint.task
        )
        return cells - len(self.tables[Table.EXAMPLES])

    @property
    def missing_measurements(self) -> int:
        """Probes on one checkpoint and test set that an interrupted run has not measured yet."""
        tasks = [testset.task for testset in self.record.testsets]
        cells = sum(
            min(1, tasks.count(checkpoint.task)) if probe.space == "structure" else tasks.count(checkpoint.task)
            for checkpoint in self.record.checkpoints
            for probe in self.record.probes
        )
        return cells - len(self.tables[Table.SENSITIVITY][["checkpoint", "testset", "probe"]].drop_duplicates())


def write_report(folder: Path) -> Report:
    """Builds every table from the stored rows and writes it beside them.

    Raises:
        RunError: the folder is not a run, or its store cannot be read.
    """
    record = read_record(folder)
    examples = build_examples(read_outcomes(folder), record)
    measurements = read_measurements(folder)
    tables = {
        Table.EXAMPLES: examples,
        Table.TESTSETS: build_testsets(examples, record),
        Table.ATTACKS: build_attacks(examples),
        Table.PAIRS: build_pairs(examples, record),
        Table.TRANSFER: build_transfer(read_replays(folder), examples),
        Table.CURVES: pd.concat([build_curves(examples), build_path_curves(measurements)], ignore_index=True),
        Table.SENSITIVITY: build_sensitivity(measurements, record),
        Table.SENSITIVITY_EXAMPLES: build_sensitivity_examples(measurements),
        Table.LAYERS: build_layers(measurements),
    }
    for table, frame in tables.items():
        write_table(frame, table, folder / f"{table}.csv")
    return Report(folder, record, tables)
