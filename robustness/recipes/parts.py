"""Checks a recipe's parts and builds its attack from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from robustness.definitions.attacks import AttackDefinition
from robustness.definitions.parts import Kinds, Loaders, Offered, Part
from robustness.engine.attack import Access, Attack
from robustness.engine.named_attack import GradientAttack, NamedAttack
from robustness.errors import AttackError, DataError, DefinitionError
from robustness.recipes.assets.lexical import find_asset, load_neighbours, load_tagger, load_wordnet
from robustness.recipes.assets.pretrained import find_model
from robustness.recipes.assets.resources import Resources
from robustness.recipes.kinds import (
    CONSTRAINT_KINDS,
    IN_CONTEXT,
    SEARCH_KINDS,
    STEPWISE,
    TRANSFORMATION_KINDS,
    WITHOUT_STEPS,
)
from robustness.recipes.text.constraints import Constraints, SamePartOfSpeech, strictest
from robustness.recipes.text.edits import WordEdits

if TYPE_CHECKING:
    from robustness.recipes.language_models.masked_lm import MaskedLanguageModel
    from robustness.recipes.language_models.similarity import SentenceEncoder

ASSETS_ASKED_FOR = {
    "thesaurus": ("wordnet",),
    "neighbours": ("counter-fitted-neighbours",),
    "tagger": ("averaged_perceptron_tagger_eng", "universal_tagset"),
}
"""The assets that a part reads, by parameter name."""
MODELS_ASKED_FOR = {"MaskedLanguageModel": "masked_lm", "SentenceEncoder": "sentence_encoder"}
"""The subfolder of the data folder for models, by parameter type."""

FindMember = Callable[[str], NamedAttack]


def check_parts(definition: AttackDefinition, path: str) -> AttackDefinition:
    """Returns a recipe with the keys of its parts checked and their defaults filled in.

    Raises:
        DefinitionError: an unknown kind or key, a missing key or a wrong type.
    """

    def checked(kinds: Kinds, parts: Sequence[Part], table: str) -> tuple[Part, ...]:
        return tuple(kinds.check(part, path, [table, number]) for number, part in enumerate(parts))

    return definition.model_copy(
        update={
            "search": SEARCH_KINDS.check(definition.search, path, ["search"]),
            "transformations": checked(TRANSFORMATION_KINDS, definition.transformations, "transformations"),
            "constraints": checked(CONSTRAINT_KINDS, definition.constraints, "constraints"),
        }
    )


def build_attack(
    definition: AttackDefinition, resources: Resources, find_member: FindMember | None = None
) -> Attack | GradientAttack:
    """Builds the attack from a checked recipe.

    Args:
        definition: the result of `check_parts`.
        resources: the data folders, and the device of the recipe's own models.
        find_member: finds a cascade's members.

    Raises:
        DataError: an asset that the recipe reads is missing.
        AttackError, DefinitionError: parts that do not fit together.
    """
    search = definition.search
    _refuse_unread(definition)
    _refuse_unfit(definition)
    _require_all(definition, resources)
    edits = _build_edits(definition, resources)
    offered: Offered = {
        "edits": lambda: edits,
        "constraints": lambda: edits.constraints,
        "words_left": lambda: definition.words_left or 1,
        "access": lambda: Access(definition.access),
    }
    members: Loaders = {"Members": lambda names: [find_member(name) for name in names] if find_member else []}
    attack: Attack | GradientAttack = SEARCH_KINDS.build(search, offered, members)
    if isinstance(attack, GradientAttack) and definition.budget.max_queries is not None:
        raise AttackError(f"[budget]: a search of kind {search.kind} asks no questions; its steps are its budget")
    return attack


def build_edits(definition: AttackDefinition, resources: Resources) -> WordEdits:
    """Builds the transformations and constraints of a checked recipe, without its search.

    Raises:
        DataError: an asset that they read is missing.
        DefinitionError: parts that do not fit together.
    """
    _require_all(definition, resources)
    return _build_edits(definition, resources)


def _refuse_unread(definition: AttackDefinition) -> None:
    """Refuses keys that a search would silently ignore."""
    kind = definition.search.kind
    reads_edits, reads_constraints = (SEARCH_KINDS.asks_for(kind, name) for name in ("edits", "constraints"))
    unread = [
        f"[[{name}]]"
        for name, given, is_read in (
            ("transformations", definition.transformations, reads_edits),
            ("constraints", definition.constraints, reads_edits or reads_constraints),
        )
        if given and not is_read
    ]
    if definition.words_left is not None and kind in WITHOUT_STEPS:
        unread += ["goal", "words_left"]
    if unread:
        raise DefinitionError(f"[search]: kind {kind} ignores {' and '.join(unread)}; leave them out")


def _refuse_unfit(definition: AttackDefinition) -> None:
    """Refuses parts that need one changed word for a search that mixes edits of several words."""
    kind = definition.search.kind
    if kind in STEPWISE:
        return
    for part in (*definition.transformations, *definition.constraints):
        if part.kind in IN_CONTEXT or part.kind == "sentence-similarity":
            raise DefinitionError(
                f"[search]: part {part.kind} cannot serve the search {kind}; expected one that makes one edit "
                "after the other, such as greedy-deletion-ranking"
            )


def _needs(definition: AttackDefinition) -> Iterator[tuple[str, str]]:
    """The assets that the parts read: lexical assets (no folder) and named models with their folder."""
    for kinds, parts in (
        (TRANSFORMATION_KINDS, definition.transformations),
        (CONSTRAINT_KINDS, definition.constraints),
    ):
        for part in parts:
            for name, parameter in kinds.parameters(part.kind).items():
                yield from ((asset, "") for asset in ASSETS_ASKED_FOR.get(name, ()))
                if parameter.annotation in MODELS_ASKED_FOR:
                    yield getattr(part, name), MODELS_ASKED_FOR[parameter.annotation]


def _require_all(definition: AttackDefinition, resources: Resources) -> None:
    """Raises one DataError for all missing assets, each with the command that gets it."""
    problems: dict[str, None] = {}
    for name, folder in _needs(definition):
        try:
            if folder:
                find_model(name, folder, resources)
            else:
                find_asset(name, resources)
        except DataError as error:
            problems[str(error)] = None
    if problems:
        raise DataError("; and ".join(problems))


def _build_edits(definition: AttackDefinition, resources: Resources) -> WordEdits:
    lexical: Offered = {
        "thesaurus": partial(load_wordnet, resources),
        "neighbours": partial(load_neighbours, resources),
        "tagger": partial(load_tagger, resources),
    }
    models: Loaders = {
        "MaskedLanguageModel": partial(_load_masked_lm, resources),
        "SentenceEncoder": partial(_load_encoder, resources),
    }
    made = [
        (part.kind, TRANSFORMATION_KINDS.build(part, {**lexical, "kind": partial(str, part.kind)}, models))
        for part in definition.transformations
    ]
    limits = [(part.kind, CONSTRAINT_KINDS.build(part, lexical, models)) for part in definition.constraints]
    return WordEdits(
        [edit for kind, edit in made if kind not in IN_CONTEXT],
        _join_constraints(limits),
        [edit for kind, edit in made if kind in IN_CONTEXT],
    )


def _join_constraints(made: Sequence[tuple[str, object]]) -> Constraints:
    """Combines several limits of one kind: the strictest holds."""
    tags = [each for _, each in made if isinstance(each, SamePartOfSpeech)]
    similar: list[Any] = [each for kind, each in made if kind == "sentence-similarity"]
    if len(similar) > 1:
        raise DefinitionError("[constraints]: sentence-similarity is named twice; expected one")
    return replace(
        strictest([each for _, each in made if isinstance(each, Constraints)]),
        same_part_of_speech=min(tags, key=lambda each: each.noun_for_verb, default=None),
        sentence_similarity=similar[0] if similar else None,
    )


def _load_masked_lm(resources: Resources, reference: str) -> MaskedLanguageModel:
    from robustness.recipes.language_models.masked_lm import load_masked_lm  # imports torch
    from robustness.victims.loading import place

    return load_masked_lm(find_model(reference, "masked_lm", resources), place(resources.device).device)


def _load_encoder(resources: Resources, reference: str) -> SentenceEncoder:
    from robustness.recipes.language_models.similarity import load_sentence_encoder  # imports torch
    from robustness.victims.loading import place

    return load_sentence_encoder(find_model(reference, "sentence_encoder", resources), place(resources.device).device)
