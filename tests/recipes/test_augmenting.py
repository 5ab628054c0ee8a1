from __future__ import annotations

import pytest

from robustness.errors import DefinitionError, UsageError
from robustness.recipes.assets.resources import Resources
from robustness.recipes.augmenting import CHANGED_SHARE, find_random_edits
from robustness.testsets.example import Example

TEXT = " ".join(f"charming{chr(97 + i)} film" for i in range(20))


def test_a_tenth_of_the_words_is_changed_by_the_recipes_own_edits() -> None:
    edits = find_random_edits("deepwordbug", Resources.of())
    example = Example("x", (TEXT,), 1)

    changed = edits.rewrite(example, 0)

    assert changed is not None
    pairs = [(a, b) for a, b in zip(example.words, changed.words, strict=True) if a != b]
    assert len(pairs) == CHANGED_SHARE * len(example.words) == 4
    # One character is swapped with its neighbour, substituted, deleted or inserted.
    assert all(abs(len(a) - len(b)) <= 1 for a, b in pairs)
    assert changed.label == example.label


def test_rows_and_seeds_have_draws_of_their_own_and_no_others() -> None:
    first, second = (find_random_edits("random-chars", Resources.of()) for _ in range(2))
    example, other = Example("x", (TEXT,), 1), Example("y", (TEXT,), 1)

    assert first.rewrite(example, 0) == second.rewrite(example, 0)
    assert first.rewrite(example, 0) != first.rewrite(example, 1)
    assert first.rewrite(example, 0).texts != first.rewrite(other, 0).texts  # type: ignore[union-attr]


def test_protected_words_stay_and_a_text_without_other_words_cannot_be_changed() -> None:
    edits = find_random_edits("deepwordbug", Resources.of())

    assert edits.rewrite(Example("x", ("charming film",), 1, protected=((0, 0, 13),)), 0) is None
    half = edits.rewrite(Example("x", ("charming film",), 1, protected=((0, 0, 8),)), 0)
    assert half is not None
    assert half.texts[0].startswith("charming ")


def test_function_words_stay_where_the_recipe_says_so() -> None:
    edits = find_random_edits("deepwordbug", Resources.of())

    assert edits.rewrite(Example("x", ("it is not for them",), 1), 0) is None


@pytest.mark.parametrize("name", ["pgd", "hotflip-vocabulary", "bae", "identity", "cascade", "stress-append"])
def test_recipes_that_need_a_model_or_change_no_words_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"^{name}: expected a recipe that changes words.*deepwordbug"):
        find_random_edits(name, Resources.of())


def test_an_unknown_recipe_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(DefinitionError, match="deepwordbug"):
        find_random_edits("deepwordbugs", Resources.of())
