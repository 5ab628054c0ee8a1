"""Shipped attacks that take a fraction of a second."""

from __future__ import annotations

from robustness.definitions.catalog import ATTACKS
from robustness.engine.named_attack import NamedAttack
from robustness.recipes.assets.resources import Resources
from robustness.recipes.building import find_recipe, members_of, name_recipe
from robustness.recipes.cascade import Cascade
from robustness.recipes.parts import build_attack

TEXT_RECIPES = [name for name in ATTACKS.names() if ATTACKS.find(name).definition.family != "embedding"]
FEW = {
    "generations": 3,
    "iterations": 3,
    "particles": 8,
    "passes": 3,
    "population": 8,
    "steps": 8,
    "width": 4,
    "samples": 3,
    "draws": 10,
    "words": 3,
    "epochs": 1,
    "restarts": 1,
}


def small(name: str) -> NamedAttack:
    """A shipped attack with few steps, small populations and narrow beams; of a cascade, the first two members.

    The sentence encoder, which is slow, is checked with textfooler alone.
    """
    entry = find_recipe(name)
    definition = entry.definition
    if members := members_of(definition):
        return name_recipe(entry, Cascade([small(member) for member in members[:2]]))
    given = definition.search.model_dump()
    fewer = {key: min(value, given[key]) for key, value in FEW.items() if key in given}
    kept = [part for part in definition.constraints if part.kind != "sentence-similarity" or name == "textfooler"]
    smaller = {"search": definition.search.model_copy(update=fewer), "constraints": tuple(kept)}
    return name_recipe(entry, build_attack(definition.model_copy(update=smaller), Resources.of()))
