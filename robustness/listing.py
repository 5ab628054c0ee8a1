"""What is shipped, by kind and by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from robustness.definitions.catalog import ATTACKS, PROBES, SUITES, TESTSETS
from robustness.definitions.naming import nearest
from robustness.definitions.part_docs import describe_kind, summarise_kind
from robustness.definitions.parts import Kinds
from robustness.definitions.tasks import TASKS, shipped_tasks
from robustness.definitions.testsets import TestsetDefinition
from robustness.errors import DefinitionError, UsageError
from robustness.tasks.task import Task
from robustness.training.methods import find_method, method_names

Listing = Iterator[tuple[str, str]]


def list_kind(kind: str) -> list[tuple[str, str]]:
    """Returns name and summary of everything of one kind; raises UsageError for an unknown kind."""
    kinds: dict[str, Callable[[], Listing]] = {
        "attacks": lambda: ((name, ATTACKS.find(name).definition.summary) for name in ATTACKS.names()),
        "suites": lambda: ((name, SUITES.find(name).definition.summary) for name in SUITES.names()),
        "testsets": lambda: ((name, _describe_testset(TESTSETS.find(name).definition)) for name in TESTSETS.names()),
        "probes": lambda: ((name, PROBES.find(name).definition.summary) for name in PROBES.names()),
        "methods": lambda: ((name, find_method(name).definition.summary) for name in method_names()),
        "parts": _list_parts,
        "tasks": lambda: ((task.name, _describe_task(task)) for task in shipped_tasks()),
    }
    if kind not in kinds:
        raise UsageError(f"list {kind}: unknown kind{nearest(kind, kinds)}")
    return list(kinds[kind]())


def _part_kinds() -> dict[str, Kinds]:
    """By what a definition file calls the table."""
    from robustness.recipes.kinds import CONSTRAINT_KINDS, SEARCH_KINDS, TRANSFORMATION_KINDS
    from robustness.sensitivity.parts import PROBE_KINDS

    return {
        "search": SEARCH_KINDS,
        "transformations": TRANSFORMATION_KINDS,
        "constraints": CONSTRAINT_KINDS,
        "measure": PROBE_KINDS,
    }


def _list_parts() -> Listing:
    for table, kinds in _part_kinds().items():
        yield from ((kind, f"[{table}] {summarise_kind(kinds, kind)}") for kind in kinds)


def _describe_task(task: Task) -> str:
    written = "text" if task.answer is not None else "a span of the last field"
    answer = ", ".join(task.labels) or written
    return f"[{' + '.join(task.fields)} -> {answer}] {TASKS.find(task.name).definition.summary}"


def _describe_testset(definition: TestsetDefinition) -> str:
    """Provenance, size and licence before the summary; every form in which the set may be at hand."""
    test = definition.test
    forms = [_form(source.provenance, source.rows) for source in test.local if test.generated is None]
    if test.hub is not None:
        forms.append(_form("official", test.hub.rows))
    if test.generated is not None:
        made = "generated against each checkpoint" if test.generated.needs_checkpoint else "generated"
        forms.append(_form(made, test.generated.rows))
    return f"[{' or '.join(dict.fromkeys(forms))}; {definition.licence}] {definition.summary}"


def _form(provenance: str, rows: int | None) -> str:
    return f"{provenance}, {rows:,} rows" if rows else f"{provenance}, any number of rows"


def show_definition(name: str) -> str:
    """Returns the TOML text of everything that has that name, each under its path, and the keys of such a part.

    Raises:
        DefinitionError: nothing has that name.
    """
    paths: list[Path] = [
        catalog.find(name).path for catalog in (ATTACKS, SUITES, TESTSETS, TASKS, PROBES) if name in catalog.names()
    ]
    if name in method_names():
        paths.append(find_method(name).path)
    parts = [
        f"# [{table}]\n" + "\n".join(describe_kind(kinds, name))
        for table, kinds in _part_kinds().items()
        if name in kinds
    ]
    if not paths and not parts:
        known = [
            *ATTACKS.names(),
            *SUITES.names(),
            *TESTSETS.names(),
            *TASKS.names(),
            *PROBES.names(),
            *method_names(),
            *(kind for kinds in _part_kinds().values() for kind in kinds),
        ]
        raise DefinitionError(f"nothing is named {name!r}{nearest(name, known)}")
    texts = [f"# {path.parent.name}/{path.name}\n{path.read_text(encoding='utf-8')}" for path in paths]
    return "\n".join([*texts, *parts])
