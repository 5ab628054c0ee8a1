"""Regular expressions that users write: none of them holds a run up."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.tasks import patterns
from robustness.tasks.patterns import SlowPatternError, compile_pattern, find_pattern
from robustness.tasks.text.parsers import RegexParser

CATASTROPHIC = [("(?i)(a|A|aa)+$", "a" * 60 + "!"), (r"^(\w|\w\w)+$", "a" * 60 + "!")]
"""Exponential in Python's own library too, and in the other one whatever it leaves out."""


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 0.05)


@pytest.mark.usefixtures("short_limit")
@pytest.mark.parametrize(("pattern", "text"), CATASTROPHIC)
def test_a_pattern_that_would_search_for_years_says_so_at_once(pattern: str, text: str) -> None:
    started = time.process_time()

    with pytest.raises(SlowPatternError, match=rf"takes more than 0.05 s on a text of {len(text)} characters"):
        RegexParser(pattern).parse(text)

    assert time.process_time() - started < 5


@pytest.mark.parametrize("pattern", ["(((a{999}){999}){999})", "(" * 40 + "a" + "){9}" * 40, "[0-9", "a{2,1}", "*"])
def test_patterns_that_cannot_be_held_are_refused_before_they_are_compiled(pattern: str) -> None:
    started = time.process_time()

    with pytest.raises(ValueError, match="is no regular expression|multiply to more than"):
        compile_pattern(pattern)

    assert time.process_time() - started < 5


@given(text=st.text("ab1 .\n-", max_size=30))
@pytest.mark.parametrize("pattern", ["[0-9]+", r"\w+", "(a|b)+?1", "^a.*$", r"(?:a1)?\b", "(?P<x>b)(?P=x)"])
def test_matches_are_those_of_pythons_own_library(pattern: str, text: str) -> None:
    assert [match.span() for match in find_pattern(pattern, text)] == [m.span() for m in re.finditer(pattern, text)]
