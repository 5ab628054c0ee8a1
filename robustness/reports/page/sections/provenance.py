"""How a run was made, what is missing, and the files it left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from robustness.reports.page.cells import PageTable
from robustness.reports.page.pagetables import checkpoint_table, missing_table, refused_table, testset_table
from robustness.reports.summaries.run_facts import AttackFacts, attack_facts, command_line, run_facts
from robustness.reports.tables.columns import Table
from robustness.reports.tables.meanings import TABLE_MEANINGS
from robustness.runs.storage.record import RunRecord


@dataclass(frozen=True, slots=True)
class Download:
    """One file beside the page."""

    name: str
    contents: str
    n_rows: int


@dataclass(frozen=True, slots=True)
class ProvenanceSection:
    """How it was run."""

    command: str
    facts: tuple[tuple[str, str], ...]
    missing: PageTable | None
    warnings: tuple[str, ...]
    refused: PageTable | None
    checkpoints: PageTable
    testsets: PageTable
    attacks: tuple[AttackFacts, ...]
    versions: tuple[tuple[str, str], ...]
    downloads: tuple[Download, ...]


def describe_provenance(
    folder: Path, record: RunRecord, tables: dict[Table, pd.DataFrame], missing: pd.DataFrame
) -> ProvenanceSection:
    """Returns the section; `missing` are the cells that have too few outcomes."""
    return ProvenanceSection(
        command=command_line(record, folder),
        facts=tuple(run_facts(record)),
        missing=missing_table(missing) if len(missing) else None,
        warnings=record.warnings,
        refused=refused_table(record) if record.refused else None,
        checkpoints=checkpoint_table(record),
        testsets=testset_table(record),
        attacks=tuple(attack_facts(attack) for attack in record.attacks),
        versions=tuple(record.versions.items()),
        downloads=tuple(_downloads(tables.items())),
    )


def _downloads(tables: Iterable[tuple[Table, pd.DataFrame]]) -> Iterable[Download]:
    for table, frame in tables:
        yield Download(f"{table}.csv", TABLE_MEANINGS[table].replace("`", ""), len(frame))
