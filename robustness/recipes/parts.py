"""The parts that recipe files name, made from their definitions."""

from __future__ import annotations

from typing import assert_never

from robustness.definitions import attacks as data
from robustness.definitions.embeddings import EmbeddingBall, EmbeddingMinimal
from robustness.definitions.testsets import DistractorSearch
from robustness.engine.attack import AnswerAttack, Attack, GradientAttack
from robustness.recipes import assets, invariances, ranking, searches
from robustness.recipes.constraints import Constraints, SamePartOfSpeech
from robustness.recipes.distractors import Append
from robustness.recipes.edits import WordEdits
from robustness.recipes.evolution import DifferentialEvolution
from robustness.recipes.genetic import Genetic
from robustness.recipes.imperceptible import IMPERCEPTIBLE_EDITS
from robustness.recipes.inner_edits import INNER_EDITS
from robustness.recipes.transformations import CHARACTER_EDITS, Transformation
from robustness.recipes.words import nearest_neighbours, wordnet_synonyms

ASSETS_OF_PARTS: dict[str, tuple[str, ...]] = {
    "wordnet-synonyms": ("wordnet",),
    "nearest-neighbours": ("counter-fitted-neighbours",),
    "same-part-of-speech": ("averaged_perceptron_tagger_eng", "universal_tagset"),
}
"""What a part reads, by its kind; see `robustness.recipes.assets`."""


def assets_of(definition: data.AttackDefinition) -> list[str]:
    """Returns the names of the lexical assets that a recipe reads."""
    kinds = [part.kind for part in (*definition.transformations, *definition.constraints)]
    return list(dict.fromkeys(name for kind in kinds for name in ASSETS_OF_PARTS.get(kind, ())))


def build_attack(definition: data.AttackDefinition) -> Attack | GradientAttack | AnswerAttack:
    """Puts a recipe's parts together.

    Raises:
        DataError: a lexical asset that the recipe reads is missing.
    """
    edits = WordEdits(
        [_build_transformation(part) for part in definition.transformations],
        _build_constraints(definition.constraints),
    )
    search = definition.search
    match search:
        case data.GreedyWordRanking():
            return searches.GreedyWordRanking(edits, _build_ranking(search))
        case data.SearchDistractor():
            from robustness.recipes.distractor_attack import DistractorAttack  # brings torch

            settings = search.model_dump(exclude={"kind", "place"})
            return DistractorAttack(DistractorSearch.model_validate(settings), search.place)
        case data.GreedyDeletionRanking():
            return searches.GreedyWordRanking(edits, ranking.ByDeleting())
        case data.Greedy():
            return searches.Greedy(edits)
        case data.DifferentialEvolution():
            return DifferentialEvolution(
                edits, changes=search.changes, population=search.population, generations=search.generations
            )
        case data.Genetic():
            return Genetic(
                edits,
                population=search.population,
                generations=search.generations,
                temperature=search.temperature,
            )
        case data.Append():
            return Append(search.texts, handles=search.handles, links=search.links)
        case data.RandomOrder():
            return searches.RandomOrder(edits, search.passes)
        case data.ReturnClean():
            return searches.ReturnClean()
        case EmbeddingBall() | EmbeddingMinimal():
            from robustness.recipes.embedding_recipe import build_embedding_attack  # brings torch

            return build_embedding_attack(search)
        case _:
            assert_never(search)


def _build_ranking(search: data.GreedyWordRanking) -> ranking.Ranking:
    if search.ranking == "weighted-saliency":
        return ranking.ByWeightedSaliency(search.unknown_token)
    return ranking.ByHiding(search.unknown_token)


def _build_transformation(part: data.TransformationPart) -> Transformation:
    match part:
        case data.CharacterEdit():
            return CHARACTER_EDITS[part.kind]
        case data.InnerEdit():
            return INNER_EDITS[part.kind]
        case data.ImperceptibleEdit():
            return IMPERCEPTIBLE_EDITS[part.kind]
        case data.WordnetSynonyms():
            return wordnet_synonyms(assets.load_wordnet())
        case data.NearestNeighbours():
            return nearest_neighbours(assets.load_neighbours(), part.count)
        case data.Exchange():
            return invariances.exchange(part.kind, part.count)
        case data.WriteOutContractions():
            return invariances.write_out_contraction
        case _:
            assert_never(part)


def _build_constraints(parts: tuple[data.ConstraintPart, ...]) -> Constraints:
    """Of several limits of one kind the strictest holds."""
    tags = [part for part in parts if isinstance(part, data.PartOfSpeech)]
    return Constraints(
        skip_function_words=any(isinstance(part, data.SkipFunctionWords) for part in parts),
        min_word_length=max((part.characters for part in parts if isinstance(part, data.MinWordLength)), default=0),
        max_edit_distance=min(
            (part.characters for part in parts if isinstance(part, data.MaxEditDistance)), default=None
        ),
        max_changed_words=min((part.words for part in parts if isinstance(part, data.MaxChangedWords)), default=None),
        max_changed_share=min((part.share for part in parts if isinstance(part, data.MaxChangedShare)), default=None),
        same_part_of_speech=SamePartOfSpeech(
            assets.load_tagger(), noun_for_verb=all(part.noun_for_verb for part in tags)
        )
        if tags
        else None,
    )
