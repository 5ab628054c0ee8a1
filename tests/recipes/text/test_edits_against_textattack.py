"""Parts of textbugger and checklist beside TextAttack 0.3.11's, with the cause of every difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from robustness.recipes.text.transformations.inner_edits import INNER_EDITS
from robustness.recipes.text.transformations.invariances import CONTRACTIONS, exchange_numbers, write_out_contraction

WORDS = ("film", "it's", "a", "at", "the", "well-made", "2nd", "Plot", "aaaa", "x-ray", "abcdefg")
DRAWS = 600
TWO_MEANINGS = ("'s", "'d")
"""it's: it is, or it has; she'd: she would, or she had. Ours leaves them; TextAttack takes the first."""
LEFT_OUT = {"ain't", "can't've", "how'll", "ma'am", "must've", "oughtn't", "what're", "where've"}
LEFT_OUT |= {"who'll", "who've"}
"""Rare, or not a contraction of two words."""


@pytest.fixture
def numpy_seed() -> Any:
    """TextAttack draws from NumPy's global generator, which is left as it was."""
    state = np.random.get_state()
    np.random.seed(0)
    yield
    np.random.set_state(state)


@pytest.mark.parametrize(
    ("kind", "theirs", "options"),
    [
        ("one-inner-space", "WordSwapRandomCharacterInsertion", {"letters_to_insert": " "}),
        ("one-inner-deletion", "WordSwapRandomCharacterDeletion", {}),
        ("one-inner-swap", "WordSwapNeighboringCharacterSwap", {}),
    ],
)
@pytest.mark.usefixtures("numpy_seed")
def test_each_single_edit_of_textbugger_reaches_what_textattacks_does(
    textattack: Any, kind: str, theirs: str, options: dict[str, str]
) -> None:
    swap = getattr(textattack.transformations, theirs)(
        random_one=True, skip_first_char=True, skip_last_char=True, **options
    )
    rng = np.random.default_rng(0)
    for word in WORDS:
        expected = {form for _ in range(DRAWS) for form in swap._get_replacement_words(word) if form != word}
        ours = {form for _ in range(DRAWS) for form in INNER_EDITS[kind](word, rng)}
        assert ours == expected, word


def test_contractions_are_written_out_as_textattacks(textattack: Any) -> None:
    from textattack.shared.data import EXTENSION_MAP

    rng = np.random.default_rng(0)
    shared = {short: full for short, full in EXTENSION_MAP.items() if short.lower() in CONTRACTIONS}
    differing = {short: full for short, full in shared.items() if write_out_contraction(short, rng) != [full]}

    missing = {short for short in EXTENSION_MAP if short.lower() not in CONTRACTIONS}
    assert len(shared) > 30
    assert differing == {}
    assert {short for short in missing if not any(mark in short for mark in TWO_MEANINGS)} == LEFT_OUT


@pytest.mark.usefixtures("numpy_seed")
def test_numbers_become_some_that_textattacks_could_be(textattack: Any) -> None:
    """Ours stay within a fifth of the number, TextAttack's between 1 and twice it: what is near changes less."""
    swap = textattack.transformations.WordSwapChangeNumber(max_change=1, n=3)
    rng = np.random.default_rng(0)
    edit = exchange_numbers(5)
    for word in ("10", "37", "1998"):
        expected = {int(form) for _ in range(20_000) for form in swap._get_new_number(word)} - {int(word)}
        ours = {int(form) for _ in range(2_000) for form in edit(word, rng)}
        assert ours <= expected, word
        assert max(abs(number - int(word)) for number in ours) == int(word) // 5
