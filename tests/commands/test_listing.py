from __future__ import annotations

import os
import subprocess
import sys

import pytest

from commands import Call
from robustness.errors import DefinitionError
from robustness.listing import list_kind, show_definition
from robustness.recipes.kinds import CONSTRAINT_KINDS, SEARCH_KINDS, TRANSFORMATION_KINDS
from robustness.sensitivity.parts import PROBE_KINDS


def test_every_kind_of_part_has_a_constructor_a_sentence_and_keys_that_can_be_shown() -> None:
    """Each place of the registries leads somewhere, and none takes the builder's own parameters for keys."""
    kinds = [kind for each in (SEARCH_KINDS, TRANSFORMATION_KINDS, CONSTRAINT_KINDS, PROBE_KINDS) for kind in each]

    listed = dict(list_kind("parts"))

    assert list(listed) == kinds
    assert all(summary.endswith((".", ")")) and len(summary) > 20 for summary in listed.values()), listed
    for kind in kinds:
        shown = show_definition(kind)
        assert f'kind = "{kind}": ' in shown
        assert ": anything" not in shown and "  space: " not in shown and "  edits: " not in shown, shown


def test_a_probes_name_shows_its_file_and_its_keys() -> None:
    shown = show_definition("sharpness")

    assert shown.startswith("# probes/sharpness.toml")
    assert "  frobenius: number > 0 - Radius over all the blocks' weights jointly." in shown


def test_an_unknown_name_is_compared_with_the_kinds_of_parts_too() -> None:
    with pytest.raises(DefinitionError, match="did you mean 'greedy-word-ranking'"):
        show_definition("greedy-word-rankings")


def test_what_is_not_shipped_is_answered_with_the_nearest_name_or_the_kinds_and_no_name_twice() -> None:
    with pytest.raises(DefinitionError) as near:
        show_definition("adversarial-distence")
    with pytest.raises(DefinitionError) as own:
        show_definition("news.toml")

    assert str(near.value).startswith(
        "show adversarial-distence: nothing shipped has that name; did you mean 'adversarial-distance'?"
    )
    assert str(own.value) == (
        "show news.toml: nothing shipped has that name; `robustness list KIND` has the names, of the kinds attacks, "
        "suites, studies, testsets, tasks, probes, methods, parts; `robustness check news.toml` checks your own file"
    )


def test_list_alone_names_the_kinds_and_each_of_them_lists(call: Call) -> None:
    done = call("list")

    kinds = [line.split()[0] for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert kinds == ["attacks", "suites", "studies", "testsets", "tasks", "probes", "methods", "parts"]
    assert all(call("list", kind).stdout for kind in kinds)
    assert "of the kinds attacks, suites" in call("show").stderr


@pytest.mark.parametrize("words", [("list", "parts"), ("list", "attacks"), ("show", "no-such-thing")])
def test_at_80_columns_lines_end_between_words(
    call: Call, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """In a process of its own, whose streams are no terminal and COLUMNS says how wide they are."""
    monkeypatch.delenv("COLUMNS", raising=False)
    whole = call(*words)

    command = [sys.executable, "-m", "robustness", *words]
    wide = os.environ | {"COLUMNS": "80"}
    folded = subprocess.run(command, capture_output=True, text=True, env=wide, check=False)

    said, lines = whole.stdout + whole.stderr, (folded.stdout + folded.stderr).splitlines()
    assert max(map(len, lines)) <= 80 < max(map(len, said.splitlines()))
    assert " ".join(lines).split() == said.split()
