"""Markdown of what the repository says of itself: columns, commands, simulations and decisions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from catalogue import table

from robustness.cli import app
from robustness.reports.studies.columns import STUDY_COLUMNS, STUDY_MEANINGS, study_meaning_of
from robustness.reports.tables.columns import COLUMNS
from robustness.reports.tables.meanings import TABLE_MEANINGS, meaning_of
from robustness.studies.tables import CHECKPOINT_COLUMNS, CHECKPOINTS_MEANING

ROOT = Path(__file__).resolve().parents[2]
DECISIONS = ROOT / "docs" / "decisions"
SIMULATED = {
    "coverage": "coverage",
    "false_fragile": "falsely fragile, per pair",
    "false_equivalent": "falsely equivalent",
    "power": "power",
}
"""Headings of the simulated figures."""


def columns() -> str:
    """Every CSV table with its columns, units and meanings."""
    pieces = []
    for name, declared in COLUMNS.items():
        rows = [[f"`{column.name}`", column.unit or "text", meaning_of(name, column)] for column in declared]
        pieces += [f"## {name.value}.csv", TABLE_MEANINGS[name], table(["column", "unit", "meaning"], rows)]
    return "\n\n".join(pieces)


def study_columns() -> str:
    """checkpoints.csv, and every CSV table of a study's answer, with their columns, units and meanings."""
    pieces = []
    for name, declared in STUDY_COLUMNS.items():
        rows = [[f"`{column.name}`", column.unit or "text", study_meaning_of(column)] for column in declared]
        pieces += [f"### {name.value}.csv", STUDY_MEANINGS[name], table(["column", "unit", "meaning"], rows)]
    rows = [[f"`{column}`", meaning] for column, meaning in CHECKPOINT_COLUMNS.items()]
    pieces += ["### checkpoints.csv", CHECKPOINTS_MEANING, table(["column", "meaning"], rows)]
    return "\n\n".join(pieces)


def commands() -> str:
    """Every command with its arguments and options, as its help has them."""
    return "\n\n".join(_describe(name, command) for name, command in _walk("robustness", typer.main.get_command(app)))


def _walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its full name; typer brings a click of its own, so types are no help."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for each, below in inner.items():
        yield from _walk(f"{name} {each}", below)


def _describe(name: str, command: Any) -> str:
    rows = []
    for parameter in command.params:
        if parameter.param_type_name == "option":
            names = ", ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))
            rows.append([names, parameter.help or ""])
        else:
            rows.append([f"`{parameter.metavar or parameter.name}`", getattr(parameter, "help", None) or ""])
    listed = table(["argument or option", "meaning"], rows) if rows else ""
    return "\n\n".join(filter(None, [f"## {name}", (command.help or "").replace("\b", ""), listed]))


def simulations() -> str:
    """Coverage, false verdicts and power in every simulated setting."""
    path = ROOT / "tests" / "benchmarks" / "results" / "statistics.json"
    measured = json.loads(path.read_text(encoding="utf-8"))["figures"]["cells"]
    rows = [
        [cell["cell"].replace(" | ", "; "), *(f"{cell[name]:.3f}" if name in cell else "" for name in SIMULATED)]
        for cell in measured
    ]
    return table(["setting", *SIMULATED.values()], rows)


TRENDS = {
    "seeds": "seeds",
    "slope_sd": "own slopes",
    "coverage": "coverage",
    "order_errs": "order errs",
    "trend_errs": "trend errs",
    "detectable": "detectable",
    "power": "power",
}
WITH_EXAMPLES = {"seeds": "seeds", "examples": "examples", "coverage": "coverage", "seeds_alone": "without examples"}


def trends() -> str:
    """Coverage, errors and power of trends in every simulated setting."""
    return _simulated("settings", TRENDS)


def trends_with_examples() -> str:
    """Coverage of slopes where examples are drawn too."""
    return _simulated("with_examples", WITH_EXAMPLES)


def _simulated(name: str, headings: Mapping[str, str]) -> str:
    path = ROOT / "tests" / "benchmarks" / "results" / "trends.json"
    measured = json.loads(path.read_text(encoding="utf-8"))["figures"][name]
    return table(list(headings.values()), [[f"{each[key]:.3g}" for key in headings] for each in measured])


def decisions() -> str:
    """Every decision with a link to its page, and what was decided."""
    rows = []
    for path in sorted(DECISIONS.glob("[0-9]*.md")):
        text = path.read_text(encoding="utf-8")
        title = text.partition("\n")[0].removeprefix("# ")
        rows.append([f"[{path.stem}]({path.name})", title])
    return table(["number", "decision"], rows)
