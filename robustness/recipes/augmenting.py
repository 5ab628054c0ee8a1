"""Changes texts by a recipe's edits without a model, as further rows to train on."""

from __future__ import annotations

from dataclasses import dataclass

from robustness.definitions.attacks import AttackDefinition
from robustness.definitions.catalog import ATTACKS, Entry
from robustness.engine.seeding import example_generator
from robustness.errors import UsageError
from robustness.recipes.assets.resources import Resources
from robustness.recipes.building import digest_recipe, find_recipe
from robustness.recipes.parts import build_edits
from robustness.recipes.text.edits import WordEdits
from robustness.testsets.example import Example

CHANGED_SHARE = 0.1
"""Share of a text's words that are changed, one at least: as TextAttack's Augmenter does (arXiv 2005.05909)."""


@dataclass(frozen=True, slots=True)
class RandomEdits:
    """A recipe's transformations under its constraints, on words drawn at random."""

    name: str
    """The recipe's."""
    digest: str
    """The recipe's, which also seeds the draws."""
    edits: WordEdits

    def rewrite(self, example: Example, seed: int) -> Example | None:
        """Returns a text with a tenth of its words changed, or as many as can be; None where none can.

        Words are tried in random order; of a word's allowed forms one is drawn.
        """
        rng = example_generator(seed, self.digest, example.id)
        wanted = max(1, round(CHANGED_SHARE * len(example.words)))
        current = example
        for index in rng.permutation(self.edits.constraints.changeable(example)):
            if not wanted:
                break
            candidates = self.edits.candidates(example, current, int(index), rng)
            if forms := [each for each in candidates if _differs(each, current)]:
                current = forms[int(rng.integers(len(forms)))]
                wanted -= 1
        return current if _differs(current, example) else None


def find_random_edits(name: str, resources: Resources) -> RandomEdits:
    """Returns the edits of a recipe that changes words.

    Raises:
        DataError: a list that the recipe reads is missing.
        RobustnessError: what `find_rewriting_recipe` raises.
    """
    entry = find_rewriting_recipe(name)
    return RandomEdits(entry.name, digest_recipe(entry), build_edits(entry.definition, resources))


def find_rewriting_recipe(name: str) -> Entry[AttackDefinition]:
    """Returns a recipe that changes words; reads none of its lists.

    Raises:
        UsageError: the recipe does not change words, or only with the help of a model of language.
        DefinitionError: no such recipe, or a malformed file.
    """
    entry = find_recipe(name)
    if not _serves(entry):
        raise UsageError(
            f"{name}: expected a recipe that changes words by rule or list, for rows are changed without a model; "
            f"such are {', '.join(serving())}"
        )
    return entry


def serving() -> list[str]:
    """The shipped recipes that can change training rows, sorted.

    >>> "deepwordbug" in serving(), "pgd" in serving(), "bae" in serving()
    (True, False, False)
    """
    return [name for name in ATTACKS.names() if _serves(find_recipe(name))]


def _serves(entry: Entry[AttackDefinition]) -> bool:
    """Whether it has transformations, none of which reads the words around by a masked language model."""
    parts = entry.definition.transformations
    return bool(parts) and not any(getattr(part, "model", None) for part in parts)


def _differs(first: Example, second: Example) -> bool:
    return first.texts != second.texts
