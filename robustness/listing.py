"""What is shipped, by kind and by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from robustness.definitions.catalog import ATTACKS, PROBES, SUITES, TESTSETS
from robustness.definitions.naming import nearest_of, suggest
from robustness.definitions.part_docs import describe_kind, summarise_kind
from robustness.definitions.parts import Kinds
from robustness.definitions.studies import STUDIES
from robustness.definitions.tasks import TASKS, shipped_tasks
from robustness.definitions.testsets import TestsetDefinition
from robustness.errors import DefinitionError, UsageError
from robustness.tasks.task import Task
from robustness.training.methods import find_method, method_names

Listing = Iterator[tuple[str, str]]


def list_kinds() -> list[tuple[str, str]]:
    """Returns the kinds of what is shipped, each with what it is."""
    return [(kind, summary) for kind, (summary, _) in _kinds().items()]


def list_kind(kind: str) -> list[tuple[str, str]]:
    """Returns name and summary of everything of one kind; raises UsageError for an unknown kind."""
    kinds = _kinds()
    if kind not in kinds:
        raise UsageError(f"list {kind}: unknown kind{nearest_of(kind, kinds)}")
    return list(kinds[kind][1]())


def _kinds() -> dict[str, tuple[str, Callable[[], Listing]]]:
    return {
        "attacks": (
            "Recipes that look for a text, or embeddings, that the victim answers wrongly.",
            lambda: ((name, ATTACKS.find(name).definition.summary) for name in ATTACKS.names()),
        ),
        "suites": (
            "What one run does: test sets, attacks and probes.",
            lambda: ((name, SUITES.find(name).definition.summary) for name in SUITES.names()),
        ),
        "studies": (
            "Designs of methods, sizes, seeds and tasks for `robustness study`.",
            lambda: ((name, STUDIES.find(name).definition.summary) for name in STUDIES.names()),
        ),
        "testsets": (
            "Clean and adversarial rows, with provenance, size and licence.",
            lambda: ((name, _describe_testset(TESTSETS.find(name).definition)) for name in TESTSETS.names()),
        ),
        "tasks": (
            "What checkpoints are fine-tuned for: fields, labels, templates.",
            lambda: ((task.name, _describe_task(task)) for task in shipped_tasks()),
        ),
        "probes": (
            "Measurements of how sensitive a checkpoint is.",
            lambda: ((name, PROBES.find(name).definition.summary) for name in PROBES.names()),
        ),
        "methods": (
            "Full fine-tuning and PEFT methods that `robustness train` knows.",
            lambda: ((name, find_method(name).definition.summary) for name in method_names()),
        ),
        "parts": ("What recipes and probes are made of, with their keys.", _list_parts),
    }


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
        catalog.find(name).path
        for catalog in (ATTACKS, SUITES, STUDIES, TESTSETS, TASKS, PROBES)
        if name in catalog.names()
    ]
    if name in method_names():
        paths.append(find_method(name).path)
    parts = [
        f"# [{table}]\n" + "\n".join(describe_kind(kinds, name))
        for table, kinds in _part_kinds().items()
        if name in kinds
    ]
    if not paths and not parts:
        names = {name for kind in _kinds() for name, _ in list_kind(kind)}
        kinds = ", ".join(_kinds())
        raise DefinitionError(
            f"show {name}: nothing shipped has that name{suggest(name, names) or ';'} `robustness list KIND` has the "
            f"names, of the kinds {kinds}{_about_file(name)}"
        )
    texts = [f"# {path.parent.name}/{path.name}\n{path.read_text(encoding='utf-8')}" for path in paths]
    return "\n".join([*texts, *parts])


def _about_file(name: str) -> str:
    return f"; `robustness check {name}` checks your own file" if name.endswith((".toml", ".py")) else ""
