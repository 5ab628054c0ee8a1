"""Markdown of what is shipped, from the definitions of suites, attacks, probes, tasks, test sets and methods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from robustness.definitions.attacks import AttackDefinition, Deviation
from robustness.definitions.catalog import ATTACKS, PROBES, SUITES, TESTSETS, Catalog, Entry
from robustness.definitions.model import Definition
from robustness.definitions.part_docs import field_meanings
from robustness.definitions.studies import STUDIES, StudyDefinition, StudyTraining
from robustness.definitions.tasks import TASKS, shipped_tasks
from robustness.listing import list_kind
from robustness.training.methods import find_method, method_names

FAMILIES: Mapping[str, str] = {
    "character": "Characters",
    "word": "Words",
    "sentence": "Sentences",
    "embedding": "Embedding space",
    "ensemble": "Ensembles",
    "baseline": "Baselines",
}
"""Headings of the families of attacks, in the order of the page."""


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    r"""Returns a Markdown table; bars within cells are escaped.

    >>> print(table(["a"], [["x | y"]]))
    | a |
    | --- |
    | x \| y |
    """
    cells = [headings, ["---"] * len(headings), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def link_paper(paper: str | None) -> str:
    """Returns a link to a paper on arXiv, other sources as they stand.

    >>> link_paper("arXiv:1801.04354")
    '[arXiv:1801.04354](https://arxiv.org/abs/1801.04354)'
    """
    if not paper:
        return ""
    return f"[{paper}](https://arxiv.org/abs/{paper.partition(':')[2]})" if paper.startswith("arXiv:") else paper


def suites() -> str:
    """What each suite attacks, evaluates and measures."""
    rows = []
    for name, suite in _all(SUITES):
        limit = f"{suite.limit:,}" if suite.limit else "all"
        attacked = f"{limit}, {suite.attacked} attacked" if suite.attacked else limit
        counts = [_listed(names) for names in ((*suite.testsets, *suite.evaluated), suite.attacks, suite.probes)]
        rows.append([f"`{name}`", suite.summary, attacked, *counts])
    return table(["suite", "what it does", "examples of each set", "test sets", "attacks", "probes"], rows)


def studies() -> str:
    """What each study trains, and what it runs."""
    rows = []
    for name, study in _all(STUDIES):
        variants = [len(list(each.combinations())) for each in study.methods]
        sizes = [len(study.tasks), sum(variants), len(study.seeds), max(1, len(study.rows))]
        rows.append([f"`{name}`", study.summary, f"`{study.base}`", *sizes, _listed(study.suites)])
    return table(["study", "what it asks", "base", "tasks", "methods", "seeds", "sizes", "suites"], rows)


def study_keys() -> str:
    """Every key of a study's file, and of its table `[training]`."""
    found = [(key, meaning) for key, meaning in field_meanings(StudyDefinition).items()]
    found += [(f"training.{key}", meaning) for key, meaning in field_meanings(StudyTraining).items()]
    return table(["key", "meaning"], [[f"`{key}`", meaning] for key, meaning in found])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) if len(names) <= 6 else f"{len(names)}: `{names[0]}`, ..."


def attacks() -> str:
    """Every recipe by family, each with paper, parts and deviations."""
    entries = sorted(_all(ATTACKS), key=lambda entry: list(FAMILIES).index(entry[1].family))
    pieces = []
    for family, group in groupby(entries, key=lambda entry: entry[1].family):
        pieces += [f"## {FAMILIES[family]}", *(_attack(name, definition) for name, definition in group)]
    return "\n\n".join(pieces)


def _attack(name: str, attack: AttackDefinition) -> str:
    sees = "asks for scores" if attack.access == "scores" else "needs gradients"
    facts = [link_paper(attack.paper), sees, f"mirrors `{attack.mirrors}`" if attack.mirrors else ""]
    return _section(name, attack.summary, facts, ATTACKS.find(name), attack.deviations)


def probes() -> str:
    """Every probe, with what it measures and its deviations."""
    return "\n\n".join(
        _section(name, probe.summary, [link_paper(probe.paper)], PROBES.find(name), probe.deviations)
        for name, probe in _all(PROBES)
    )


def methods() -> str:
    """Every training method."""
    pieces = []
    for name in method_names():
        entry = find_method(name)
        method = entry.definition
        rates = "learning rates " + ", ".join(f"{rate:g}" for rate in method.learning_rates)
        pieces.append(_section(name, method.summary, [link_paper(method.paper), rates], entry, method.deviations))
    return "\n\n".join(pieces)


def tasks() -> str:
    """Every task, with its fields and labels."""
    rows = []
    for task in shipped_tasks():
        answer = ", ".join(task.labels) or ("text" if task.answer is not None else "a span of the last field")
        known = TASKS.find(task.name).definition
        rows.append([f"`{task.name}`", known.summary, ", ".join(task.fields), answer, link_paper(known.paper)])
    return table(["task", "what it asks", "fields", "answer", "source"], rows)


def testsets() -> str:
    """Every test set, with size, provenance and licence."""
    rows = []
    for name, summary in list_kind("testsets"):
        origin, _, text = summary.removeprefix("[").partition("] ")
        form, _, licence = origin.rpartition("; ")
        rows.append([f"`{name}`", text, form, licence, link_paper(TESTSETS.find(name).definition.paper)])
    return table(["test set", "what it holds", "rows", "licence", "source"], rows)


def parts() -> str:
    """What recipes and probes are made of."""
    rows = []
    for name, summary in list_kind("parts"):
        place, _, text = summary.removeprefix("[").partition("] ")
        rows.append([f"`{name}`", f"`[{place}]`", text])
    return table(["kind", "table", "what it does"], rows)


def _all(catalog: Catalog[Definition]) -> Iterator[tuple[str, Definition]]:
    return ((name, catalog.find(name).definition) for name in catalog.names())


def _section(
    name: str, summary: str, facts: Iterable[str], entry: Entry[Definition], deviations: Sequence[Deviation]
) -> str:
    """A heading, the summary with what else is known, the definition folded, and how it differs from its source."""
    text = entry.path.read_text(encoding="utf-8").partition("\n[[deviations]]")[0].strip()
    folded = ['??? note "Definition"', "    ```toml", *(f"    {line}" for line in text.splitlines()), "    ```"]
    pieces = [f"### {name}", f"{summary} {'; '.join(filter(None, facts))}".strip(), "\n".join(folded)]
    if deviations:
        rows = [[each.against, each.what, each.why] for each in deviations]
        body = table(["against", "what differs", "why"], rows)
        lines = ['??? note "Deviations"', *(f"    {line}" for line in body.splitlines())]
        pieces.append("\n".join(lines))
    return "\n\n".join(pieces)
