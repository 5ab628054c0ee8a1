from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plain_language import Passage, all_hits, check, definition_passages, document_passages, python_passages

LONG = "One " + "word and another " * 9
"""Of 28 words, without a full stop."""


def _found(read: Callable[[str], Iterator[Passage]], source: str) -> list[tuple[int, str]]:
    return [(hit.line, hit.found) for hit in check(Path("file"), read(source))]


def test_package_documents_and_definitions_are_in_plain_language() -> None:
    assert "\n".join(map(str, all_hits())) == ""


@pytest.mark.parametrize(
    ("source", "line", "phrase"),
    [
        ('"""The examples that have no margin have none."""\n', 1, "that have no margin have none"),
        ('"""Text."""\n\nx = 1  # checkpoints are had for it\n', 3, "are had"),
        ('raise ValueError(\n    f"file {path}: nothing but blanks"\n)\n', 2, "nothing but"),
        ('"""One.\n\n    Takes no notice\n    of it, and leaves it\n    as given.\n    """\n', 3, "Takes no notice"),
        ('"""One.\n\n    It is told\n    apart.\n    """\n', 3, "told apart"),
    ],
)
def test_a_phrase_to_avoid_is_found_with_its_line_and_what_to_write(source: str, line: int, phrase: str) -> None:
    hits = list(check(Path("file.py"), python_passages(source)))

    assert (line, phrase) in [(hit.line, hit.found) for hit in hits]
    assert all(hit.instead for hit in hits) and str(hits[0]).startswith("file.py:")


def test_a_docstrings_sentence_has_at_most_twenty_five_words() -> None:
    docstring = f'"""Short.\n\n    {LONG}.\n    """\n'

    assert _found(python_passages, docstring) == [(3, "One word and another word and ...")]
    assert _found(python_passages, docstring.replace(" and", ". And")) == []


def test_a_sentence_is_counted_over_the_lines_of_a_docstring_and_of_an_item() -> None:
    lines = "One word and another\n  " * 7

    docstring = f'"""Short.\n\n  {lines}word.\n  """\n'
    for read, source in ((python_passages, docstring), (document_passages, f"\n\n{lines}word.\n")):
        assert _found(read, source) == [(3, "One word and another One word ...")]
    assert _found(document_passages, f"- {lines}word.\n") == [(1, "- One word and another One ...")]


def test_numbered_items_are_sentences_of_their_own() -> None:
    half = "one word and another " * 4

    assert _found(document_passages, f"1. {half}\n2. {half}\n") == []


def test_arguments_formulas_parentheses_code_and_sources_do_not_lengthen_a_sentence() -> None:
    half = "one word and another " * 4
    arguments = f"Args:\n        a: {half}\n        b: {half}\n"
    source = f'"""Short.\n\n    {half}({half}) `{half}` $${half}$$\n\n    {arguments}    """\n'

    assert _found(python_passages, source) == []
    assert _found(python_passages, f'"""Short.\n\n    Source: {LONG}.\n    """\n') == []
    assert _found(python_passages, f'"""Short.\n\n    >>> print("{LONG}")\n    """\n') == []
    assert _found(python_passages, f'"""Short.\n\n    ```python\n    {LONG}\n    ```\n    """\n') == []


def test_documents_are_read_without_code_and_tables() -> None:
    assert _found(document_passages, f"# Title\n\n- {LONG}.\n") == [(3, "- One word and another word ...")]
    assert _found(document_passages, f"```\nwhatever {LONG}\n```\n\n| whatever | {LONG} |\n") == []


def test_definitions_are_read_by_their_texts() -> None:
    assert _found(definition_passages, 'kind = "a"\nsummary = "Words that are had by nobody."\n') == [(2, "are had")]
