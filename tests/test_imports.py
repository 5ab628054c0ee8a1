from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import robustness

PACKAGE = Path(robustness.__file__).parent

MAY_IMPORT = {
    "errors": set(),
    "paths": {"errors"},
    "progress": set(),
    "quiet": set(),
    "retrying": set(),
    "sharing": set(),
    "versions": set(),
    "pointers": set(),
    "databases": set(),
    "definitions": {"errors", "paths", "sharing", "tasks"},
    "tasks": {"errors"},
    "testsets": {"errors", "paths", "pointers", "retrying", "definitions", "tasks"},
    "tuners": set(),
    "victims": {"errors", "versions", "pointers", "tasks", "retrying", "definitions", "testsets", "tuners"},
    "engine": {"errors", "databases", "tasks", "testsets", "victims"},
    "recipes": {"errors", "paths", "versions", "tasks", "retrying", "definitions", "testsets", "victims", "engine"},
    "sensitivity": {"errors", "tasks", "definitions", "testsets", "tuners", "victims", "engine", "recipes"},
    "testing": {"errors", "tasks", "definitions", "testsets", "victims", "engine", "recipes"},
    "stats": set(),
    "workers": {"errors", "quiet", "versions"},
    "training": {
        "progress",
        "errors",
        "quiet",
        "sharing",
        "versions",
        "tasks",
        "paths",
        "options",
        "definitions",
        "testsets",
        "tuners",
        "victims",
        "workers",
    },
    "runs": {
        "progress",
        "errors",
        "quiet",
        "sharing",
        "versions",
        "databases",
        "tasks",
        "paths",
        "options",
        "definitions",
        "testsets",
        "victims",
        "engine",
        "recipes",
        "sensitivity",
        "stats",
        "workers",
    },
    "spreadsheets": set(),
    "studies": {
        "progress",
        "errors",
        "versions",
        "tasks",
        "paths",
        "recipes",
        "options",
        "spreadsheets",
        "definitions",
        "testsets",
        "training",
        "tuners",
        "victims",
        "stats",
        "workers",
        "runs",
    },
    "study_call": {"progress", "errors", "paths", "options", "definitions", "workers", "runs", "studies", "reports"},
    "options": {"errors", "definitions", "paths"},
    "reports": {"errors", "spreadsheets", "tasks", "definitions", "engine", "sensitivity", "stats", "runs"},
    "listing": {"errors", "tasks", "definitions", "recipes", "sensitivity", "training"},
    "doctor": {"errors", "definitions", "testsets", "recipes"},
    "api": {
        "progress",
        "errors",
        "options",
        "paths",
        "definitions",
        "recipes",
        "training",
        "runs",
        "reports",
        "doctor",
        "study_call",
        "testing",
        "workers",
    },
    "terminal": {
        "progress",
        "errors",
        "versions",
        "options",
        "workers",
        "runs",
        "studies",
        "study_call",
        "paths",
        "reports",
        "listing",
        "recipes",
    },
    "machine": {"errors", "paths", "doctor", "recipes"},
    "cli": {
        "progress",
        "errors",
        "quiet",
        "versions",
        "options",
        "api",
        "study_call",
        "machine",
        "listing",
        "terminal",
        "workers",
        "runs",
        "reports",
        "doctor",
    },
    "__main__": {"cli"},
}
"""Which part may import which; what `engine` and `definitions` need of data alone is no exception.

`sensitivity` stands on `recipes`: a distance is found by the embedding attacks, a substitution is a recipe's.
"""


def imported_parts(path: Path) -> set[str]:
    """Parts of the package that a file imports, inside functions too, but for type checking."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("robustness"):
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_go_one_way(part: str) -> None:
    files = [PACKAGE / f"{part}.py"] if (PACKAGE / f"{part}.py").exists() else sorted((PACKAGE / part).rglob("*.py"))

    assert files
    for file in files:
        assert imported_parts(file) - {part} <= MAY_IMPORT[part], file


def test_every_part_has_its_rule() -> None:
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}

    assert parts - {"__init__"} == set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("robustness", ["torch", "textattack", "pandas", "transformers"]),
        ("robustness.stats", ["torch", "transformers"]),
        ("robustness.cli", ["torch", "textattack", "pandas", "transformers", "tenacity"]),
        ("robustness.runs.planning.plan", ["torch", "transformers"]),
        ("robustness.reports.report", ["torch", "transformers"]),
        ("robustness.study_call", ["torch", "transformers", "pandas", "matplotlib"]),
    ],
)
def test_importing_is_light(module: str, absent: list[str]) -> None:
    assert brought(f"import {module}", absent) == "[]"


@pytest.mark.parametrize("kind", ["attacks", "suites", "testsets", "probes", "methods", "tasks"])
def test_listing_is_light(kind: str) -> None:
    code = f"from robustness.listing import list_kind; list_kind({kind!r})"

    assert brought(code, ["torch", "transformers"]) == "[]"


def brought(code: str, absent: list[str]) -> str:
    """Which of the modules a line of Python brings into a fresh interpreter."""
    tail = f"; import sys; print([name for name in {absent!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def test_public_names_load_on_first_use() -> None:
    assert set(dir(robustness)) == set(robustness.__all__)
    for name in robustness.__all__:
        assert getattr(robustness, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = robustness.nonsense  # type: ignore[attr-defined]


def test_no_choice_of_a_caller_is_kept_in_a_global() -> None:
    """Data folder and device are handed on: two runs of one process, and its workers, have each their own."""
    found = [
        f"{path.relative_to(PACKAGE)}: global {', '.join(node.names)}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Global)
    ]

    assert found == []
