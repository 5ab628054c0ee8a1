from __future__ import annotations

import pytest

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
        assert "anything" not in shown and "  space: " not in shown and "  edits: " not in shown, shown


def test_a_probes_name_shows_its_file_and_its_keys() -> None:
    shown = show_definition("sharpness")

    assert shown.startswith("# probes/sharpness.toml")
    assert "  frobenius: number > 0 - Radius over all the blocks' weights jointly." in shown


def test_an_unknown_name_is_compared_with_the_kinds_of_parts_too() -> None:
    with pytest.raises(DefinitionError, match="did you mean 'greedy-word-ranking'"):
        show_definition("greedy-word-rankings")
