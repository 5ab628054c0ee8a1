"""Builds an attack from a recipe (by name or as data) or from a user's class."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from robustness.definitions.attacks import AttackDefinition
from robustness.definitions.catalog import ATTACKS, Entry
from robustness.definitions.parts import CheckedPart
from robustness.engine.attack import Access, Attack
from robustness.engine.named_attack import Effort, GradientAttack, NamedAttack
from robustness.errors import AttackError, DefinitionError
from robustness.recipes.assets.pretrained import WEIGHTS, digest_weights_file
from robustness.recipes.assets.resources import Resources
from robustness.recipes.custom import import_named, source_digest
from robustness.recipes.kinds import WHOLE_TEXTS, WITHOUT_STEPS
from robustness.recipes.parts import build_attack, check_parts
from robustness.recipes.textattack.catalogue import PREFIX, find_textattack_attack, wrap_textattack
from robustness.tasks.objective import Objective, ObjectiveKind

PLUGINS = "robustness.attacks"
"""The group of entry points in which installed packages offer attacks."""


def find_attack(reference: str, resources: Resources | None = None) -> NamedAttack:
    """Returns the attack of a recipe's name, recipe file, `file.py:Name`, `textattack:Class` or plug-in name.

    A plug-in is an installed package with an entry point in the group `robustness.attacks` that leads to a class.

    Args:
        reference: see above.
        resources: data folders and device; None: the folders of the environment variables, and any device.

    Raises:
        DefinitionError: no such recipe, or a malformed file.
        UsageError: no such Python file or class.
        AttackError: the class does not follow the protocol.
        DataError: a lexical asset that the recipe reads is missing.
    """
    resources = resources or Resources.of()
    if ".py:" in reference or reference.endswith(".py"):
        return load_custom_attack(reference, resources)
    if reference.startswith(PREFIX):
        return find_textattack_attack(reference, resources)
    if reference not in ATTACKS.names():
        for plugin in entry_points(group=PLUGINS, name=reference):
            return name_attack(_load_plugin(plugin), resources, name=reference)
    entry = find_recipe(reference)
    return name_recipe(entry, _build_recipe(entry, resources))


def _load_plugin(plugin: EntryPoint) -> object:
    try:
        loaded: object = plugin.load()
    except Exception as error:  # a third-party package may raise anything
        raise AttackError(
            f"attack {plugin.name}: the plug-in {plugin.value} cannot be imported: {type(error).__name__}: {error}; "
            "mend or uninstall the package that offers it"
        ) from error
    return loaded


def find_recipe(name: str) -> Entry[AttackDefinition]:
    """Returns a recipe with the keys of its parts checked; reads no assets.

    Raises:
        DefinitionError: no such recipe, or a malformed file.
    """
    entry = ATTACKS.find(name)
    return replace(entry, definition=check_parts(entry.definition, str(entry.path)))


def _build_recipe(entry: Entry[AttackDefinition], resources: Resources) -> Attack | GradientAttack:
    _refuse_unfit_members(entry)
    try:
        return build_attack(entry.definition, resources, partial(find_attack, resources=resources))
    except (AttackError, DefinitionError) as error:
        raise type(error)(str(error) if str(entry.path) in str(error) else f"{entry.path} {error}") from None


def _refuse_unfit_members(entry: Entry[AttackDefinition]) -> None:
    definition, members = entry.definition, members_of(entry.definition)
    for name in members:
        member = find_recipe(name).definition
        problem = (
            "it is a cascade itself"
            if members_of(member)
            else 'it asks for gradients: the cascade\'s access must be "gradients"'
            if member.access == "gradients" and definition.access != "gradients"
            else "it proposes no texts step by step"
            if member.search.kind in WITHOUT_STEPS
            else "its goal is to keep the prediction"
            if member.goal != "change-prediction"
            else ""
        )
        if problem or members.count(name) > 1:
            raise DefinitionError(f"{entry.path} [search]: member {name!r}: {problem or 'named twice'}; leave it out")


def members_of(definition: AttackDefinition) -> tuple[str, ...]:
    """Returns the names of a cascade's members; empty for other recipes."""
    return tuple(getattr(definition.search, "members", ()))


def digest_recipe(entry: Entry[AttackDefinition]) -> str:
    """Returns a checked recipe's digest, which covers a cascade's members and the weights of own models."""
    assert isinstance(entry.definition.search, CheckedPart), "find_recipe has filled in its parts' defaults"
    digests = [
        entry.digest,
        *_digest_own_models(entry.definition),
        *(digest_recipe(find_recipe(member)) for member in members_of(entry.definition)),
    ]
    if len(digests) == 1:
        return entry.digest
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def _digest_own_models(definition: AttackDefinition) -> Iterator[str]:
    """The digests of models given by a folder, which have no published name."""
    for part in (*definition.transformations, *definition.constraints):
        reference = getattr(part, "model", None)
        if reference is not None and Path(reference, WEIGHTS).is_file():
            yield digest_weights_file(Path(reference, WEIGHTS))


def name_recipe(entry: Entry[AttackDefinition], attack: Attack | GradientAttack) -> NamedAttack:
    """Returns a checked recipe's attack with the metadata of its definition."""
    definition = entry.definition
    return NamedAttack(
        name=entry.name,
        digest=digest_recipe(entry),
        attack=attack,
        family=definition.family,
        max_queries=definition.budget.max_queries,
        objective=Objective(ObjectiveKind(definition.goal), definition.words_left or 0),
        mirrors=definition.mirrors,
        edits_digest=_digest_edits(definition),
        effort=_effort(definition),
    )


def _effort(definition: AttackDefinition) -> Effort:
    """Words for attacks on words and letters, distance for searches that minimise it, otherwise queries."""
    if definition.search.kind == "embedding-minimal":
        return Effort.DISTANCE
    by_words = definition.family in ("character", "word") and definition.search.kind not in WHOLE_TEXTS
    return Effort.WORDS if by_words else Effort.QUERIES


def _digest_edits(definition: AttackDefinition) -> str | None:
    """What a recipe may change, for any search; None for attacks that do not edit words."""
    if not definition.transformations:
        return None
    limits = sorted(part.model_dump_json() for part in (*definition.transformations, *definition.constraints))
    return hashlib.sha256(json.dumps([limits, definition.budget.max_queries]).encode()).hexdigest()[:16]


def load_custom_attack(reference: str, resources: Resources) -> NamedAttack:
    """Imports `file.py:Name` and makes one instance without arguments.

    Runs the file: name only files you trust. The digest covers the file's content, so an edited attack counts as
    another attack.
    """
    made, name, digest = import_named(reference, "--attack")
    return name_attack(made, resources, name=name, digest=digest)


def name_attack(made: object, resources: Resources | None = None, *, name: str = "", digest: str = "") -> NamedAttack:
    """Returns a named attack for a class (called without arguments) or an instance that follows the protocol.

    TextAttack's recipe classes and instances of `textattack.Attack` are accepted too. A class with `access =
    Access.GRADIENTS` searches texts with the help of `Gradients`, or perturbs embeddings. The latter has a `norm`
    ("l2" or "linf") and a method perturb(self, victim, examples, generators), see EmbeddingAttack.

    Raises:
        AttackError: it has no `access`, or `search` is not a method that yields.
    """
    kind = made if isinstance(made, type) else type(made)
    if any(base.__module__.split(".")[0] == "textattack" for base in kind.__mro__):
        wrapped = wrap_textattack(made, resources or Resources.of(), name=name)
        own = digest or ("" if kind.__module__.startswith("textattack.") else source_digest(kind))
        together = hashlib.sha256(f"{own}{wrapped.digest}".encode()).hexdigest()[:16]  # not all in repr
        return replace(wrapped, digest=together) if own else wrapped
    name = name or kind.__qualname__
    if name in ATTACKS.names():
        raise AttackError(f"attack {name}: the name is taken by a shipped attack; rename the class")
    try:
        attack: Any = made() if isinstance(made, type) else made
    except Exception as error:  # the user's class may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise AttackError(f"attack {name}: could not be made without arguments: {reason}") from error
    if getattr(attack, "access", None) not in set(Access):
        raise AttackError(f"attack {name}: `access` is missing; set access = Access.SCORES in the class")
    if attack.access is Access.GRADIENTS and not hasattr(attack, "search"):
        from robustness.recipes.embedding.recipe import name_embedding_attack  # imports torch

        return NamedAttack(name, digest or _digest_of(made, kind), name_embedding_attack(attack, name))
    if not isinstance(attack, Attack) or not inspect.isgeneratorfunction(attack.search):
        raise AttackError(
            f"attack {name}: expected a method search(self, example, rng) that yields questions: "
            "answer = yield [candidate]"
        )
    return NamedAttack(name, digest or _digest_of(made, kind), attack)


def _digest_of(made: object, kind: type) -> str:
    """The digest of a class's source; for an instance also of the repr of its attributes."""
    source = source_digest(kind)
    if isinstance(made, type):
        return source
    held = {name: getattr(made, name) for name in (*getattr(made, "__dict__", {}), *getattr(kind, "__slots__", ()))}
    words = sorted(
        re.findall(r"[^\s{}()\[\],]+", re.sub(r" at 0x[0-9a-f]+", "", repr(held)))
    )  # the repr of a set has no fixed order
    return hashlib.sha256(" ".join([source, *words]).encode()).hexdigest()[:16]
