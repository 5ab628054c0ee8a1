"""Puts generated Markdown where a page says `<!-- generated: NAME -->`, and adds the notebooks that were executed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import catalogue
import jupytext
import notebooks
import results
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

GENERATED: Mapping[str, Callable[[], str]] = {
    "suites": catalogue.suites,
    "studies": catalogue.studies,
    "study-keys": catalogue.study_keys,
    "attacks": catalogue.attacks,
    "probes": catalogue.probes,
    "methods": catalogue.methods,
    "tasks": catalogue.tasks,
    "testsets": catalogue.testsets,
    "parts": catalogue.parts,
    "columns": results.columns,
    "study-columns": results.study_columns,
    "commands": results.commands,
    "simulations": results.simulations,
    "trends": results.trends,
    "trends-examples": results.trends_with_examples,
    "decisions": results.decisions,
}
"""What a page may ask for."""
EXECUTED = notebooks.EXECUTED
_MARK = re.compile(r"<!-- generated: (\S+) -->")


def fill(markdown: str) -> str:
    """Returns a page's Markdown with what it asks for in place; raises KeyError for an unknown name."""
    return _MARK.sub(lambda found: GENERATED[found[1]](), markdown)


def on_page_markdown(markdown: str, **_: object) -> str:
    """MkDocs calls this for every page, before it is rendered."""
    return fill(markdown)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """MkDocs calls this first: notebooks that were executed get a place of their own beside the written pages."""
    pages = [path.relative_to(EXECUTED.parent).as_posix() for path in sorted(EXECUTED.glob("*/*.md"))]
    if pages and config.nav is not None:
        config.nav.append({"Notebooks": pages})
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """MkDocs calls this once it knows the pages: notebooks and their pictures join them.

    A notebook that was not executed joins them without outputs, so that links to it hold.
    """
    for path in sorted(EXECUTED.glob("*/*")):
        if path.suffix in {".md", ".png"}:
            uri = path.relative_to(EXECUTED.parent).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    for source in sorted(notebooks.SOURCES.glob("*.py")):
        page = EXECUTED / source.stem / f"{source.stem}.md"
        if not page.is_file():
            content = notebooks.render(jupytext.read(source).cells, page.parent)
            files.append(File.generated(config, page.relative_to(EXECUTED.parent).as_posix(), content=content))
    return files
