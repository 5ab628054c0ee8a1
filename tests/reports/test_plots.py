"""What the figures say."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from robustness.reports.plots import spell_place


@pytest.mark.parametrize(
    ("where", "what", "words"),
    [
        ("label", "advglue-sst2 | positive", "advglue-sst2  ·  label positive"),
        ("method", "advglue-sst2 | worst-case | TextFooler", "advglue-sst2  ·  worst-case  ·  made by TextFooler"),
        ("construction", "advglue-sst2 | human", "advglue-sst2  ·  construction human"),
        ("text length", "sst2 | pwws | short (up to 14 words)", "sst2  ·  pwws  ·  up to 14 words"),
        ("clean margin", "sst2 | wide (over 0.9 mean score)", "sst2  ·  clean score over 0.9"),
        ("budget", "sst2 | pwws | queries <= 3", "sst2  ·  pwws  ·  queries ≤ 3"),
    ],
)
def test_a_place_on_the_map_says_what_part_it_is(where: str, what: str, words: str) -> None:
    assert spell_place(SimpleNamespace(where=where, what=what)) == words
