"""The parts that recipe files name, made from their definitions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, assert_never

from robustness.definitions import attacks as data
from robustness.definitions.embeddings import EmbeddingBall, EmbeddingMinimal, TokenDistributions
from robustness.definitions.testsets import DistractorSearch
from robustness.engine.attack import AnswerAttack, Attack, GradientAttack
from robustness.errors import AttackError, DataError, DefinitionError
from robustness.recipes.assets import lexical as assets
from robustness.recipes.assets.pretrained import find_model
from robustness.recipes.assets.registry import ASSETS
from robustness.recipes.devices import recipe_device
from robustness.recipes.text import invariances, ranking, searches
from robustness.recipes.text.constraints import Constraints, SamePartOfSpeech
from robustness.recipes.text.distractors import Append
from robustness.recipes.text.edits import WordEdits
from robustness.recipes.text.evolution import DifferentialEvolution
from robustness.recipes.text.genetic import Genetic
from robustness.recipes.text.imperceptible import IMPERCEPTIBLE_EDITS
from robustness.recipes.text.inner_edits import INNER_EDITS
from robustness.recipes.text.reduction import GreedyReduction
from robustness.recipes.text.swarm import ParticleSwarm
from robustness.recipes.text.transformations import CHARACTER_EDITS, Transformation
from robustness.recipes.text.words import nearest_neighbours, wordnet_synonyms

if TYPE_CHECKING:
    from robustness.recipes.language_models.infilling import InContext
    from robustness.recipes.language_models.similarity import SentenceSimilarity

InContextPart = data.MaskedReplacements | data.MaskedInsertions | data.MaskedMerges | data.SubWordReplacements
STEPWISE_SEARCHES = (
    data.GreedyWordRanking,
    data.GreedyDeletionRanking,
    data.GreedyGradientRanking,
    data.Greedy,
    data.BestOfEachWord,
    data.RandomOrder,
)
"""Searches that make one edit after the other, each of which is asked about by itself."""

ASSETS_OF_PARTS: dict[str, tuple[str, ...]] = {
    "wordnet-synonyms": ("wordnet",),
    "nearest-neighbours": ("counter-fitted-neighbours",),
    "same-part-of-speech": ("averaged_perceptron_tagger_eng", "universal_tagset"),
    "masked-merges": ("averaged_perceptron_tagger_eng", "universal_tagset"),
}
"""What a part reads, by its kind, beside the model it names; see `robustness.recipes.assets.lexical`."""


def assets_of(definition: data.AttackDefinition) -> list[str]:
    """Returns the names of the assets that a recipe reads, pretrained models of the registry among them."""
    names: list[str] = []
    for part in (*definition.transformations, *definition.constraints):
        names += ASSETS_OF_PARTS.get(part.kind, ())
        if isinstance(part, InContextPart | data.SentenceSimilarity):
            name = part.model.rsplit("/", 1)[-1]
            names += [name] if name in ASSETS else []
    return list(dict.fromkeys(names))


def build_attack(definition: data.AttackDefinition) -> Attack | GradientAttack | AnswerAttack:
    """Puts a recipe's parts together.

    Raises:
        DataError: a lexical asset that the recipe reads is missing.
        AttackError, DefinitionError: parts that do not go together.
    """
    search = definition.search
    _refuse_unread(definition)
    _refuse_unfit(definition)
    _require_all(definition)
    edits = WordEdits(
        [_build_transformation(p) for p in definition.transformations if not isinstance(p, InContextPart)],
        _build_constraints(definition.constraints),
        [_build_in_context(part) for part in definition.transformations if isinstance(part, InContextPart)],
    )
    match search:
        case data.GreedyWordRanking():
            return searches.GreedyWordRanking(edits, _build_ranking(search))
        case data.SearchDistractor():
            from robustness.recipes.answering.distractor_attack import DistractorAttack  # brings torch

            settings = search.model_dump(exclude={"kind", "place"})
            return DistractorAttack(DistractorSearch.model_validate(settings), search.place)
        case data.GreedyDeletionRanking():
            return searches.GreedyWordRanking(edits, ranking.ByDeleting())
        case data.GreedyGradientRanking():
            return searches.GreedyWordRanking(edits, ranking.ByGradient())
        case data.GradientBeam():
            return _build_gradient_beam(search, edits)
        case data.Greedy():
            return searches.Greedy(edits)
        case data.BestOfEachWord():
            return searches.BestOfEachWord(edits)
        case data.DifferentialEvolution() | data.Genetic() | data.ParticleSwarm():
            return _build_population(search, edits)
        case data.Append():
            return Append(search.texts, handles=search.handles, links=search.links)
        case data.GreedyReduction():
            return GreedyReduction(edits.constraints, definition.words_left or 1)
        case data.Cascade():
            raise AssertionError("find_attack puts a cascade together, since its members are attacks by name")
        case data.RandomOrder():
            return searches.RandomOrder(edits, search.passes)
        case data.ReturnClean():
            return searches.ReturnClean()
        case EmbeddingBall() | EmbeddingMinimal():
            from robustness.recipes.embedding.recipe import build_embedding_attack  # brings torch

            return build_embedding_attack(search)
        case TokenDistributions():
            from robustness.recipes.text.gbda import Gbda  # brings torch

            return Gbda(search)
        case _:
            assert_never(search)


def _build_population(
    search: data.DifferentialEvolution | data.Genetic | data.ParticleSwarm, edits: WordEdits
) -> Attack:
    match search:
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
        case data.ParticleSwarm():
            return ParticleSwarm(edits, particles=search.particles, iterations=search.iterations)
        case _:
            assert_never(search)


def _refuse_unread(definition: data.AttackDefinition) -> None:
    """Refuses what a white-box search would silently take no notice of."""
    search = definition.search
    batchwise = isinstance(search, EmbeddingBall | EmbeddingMinimal | TokenDistributions)
    if batchwise and definition.budget.max_queries is not None:
        raise AttackError(f"[budget]: a search of kind {search.kind} asks no questions; its steps are its budget")
    over_vocabulary = isinstance(search, data.GradientBeam) and search.flips == "vocabulary"
    if (batchwise or over_vocabulary) and (definition.transformations or definition.constraints):
        raise AttackError(
            f"search of kind {search.kind}: makes its candidates itself; leave [[transformations]] and "
            "[[constraints]] out"
        )


def _build_gradient_beam(search: data.GradientBeam, edits: WordEdits) -> Attack:
    from robustness.recipes.text.flips import TokenFlips, WordFlips  # bring torch
    from robustness.recipes.text.gradient_beam import GradientBeam

    flips = WordFlips(edits) if search.flips == "words" else TokenFlips()
    return GradientBeam(flips, width=search.width, max_flips=search.max_flips)


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
            raise AssertionError(f"{part.kind} reads the words around")


def _require_all(definition: data.AttackDefinition) -> None:
    """Raises one DataError for all that is missing, each with the command that gets it."""
    problems: dict[str, None] = {}
    for part in (*definition.transformations, *definition.constraints):
        finders: list[Callable[[], object]] = [
            partial(assets.find_asset, n) for n in ASSETS_OF_PARTS.get(part.kind, ())
        ]
        if isinstance(part, InContextPart | data.SentenceSimilarity):
            folder = "sentence_encoder" if isinstance(part, data.SentenceSimilarity) else "masked_lm"
            finders.append(partial(find_model, part.model, folder))
        for find in finders:
            try:
                find()
            except DataError as error:
                problems[str(error)] = None
    if problems:
        raise DataError("; and ".join(problems))


def _refuse_unfit(definition: data.AttackDefinition) -> None:
    """Searches that mix edits of several words cannot say which of them a window or a hole lies around."""
    if isinstance(definition.search, STEPWISE_SEARCHES):
        return
    for part in (*definition.transformations, *definition.constraints):
        if isinstance(part, InContextPart | data.SentenceSimilarity):
            raise DefinitionError(
                f"part {part.kind}: cannot serve the search {definition.search.kind}; expected one that makes one "
                "edit after the other, such as greedy-deletion-ranking"
            )


def _build_in_context(part: InContextPart) -> InContext:
    from robustness.recipes.language_models import infilling  # brings torch
    from robustness.recipes.language_models.masked_lm import load_masked_lm

    tagger = assets.load_tagger() if isinstance(part, data.MaskedMerges) else None
    model = load_masked_lm(find_model(part.model, "masked_lm"), recipe_device())
    match part:
        case data.MaskedReplacements():
            from_clean = part.context == "clean"
            return infilling.Replacements(model, part.count, part.min_probability, from_clean=from_clean)
        case data.MaskedInsertions():
            from_clean = part.context == "clean"
            return infilling.Insertions(model, part.count, part.min_probability, from_clean=from_clean)
        case data.MaskedMerges():
            assert tagger is not None, "made above"
            return infilling.Merges(model, part.count, part.min_probability, tagger)
        case data.SubWordReplacements():
            return infilling.Rereadings(model, part.count)
        case _:
            assert_never(part)


def _build_similarity(part: data.SentenceSimilarity) -> SentenceSimilarity:
    from robustness.recipes.language_models import similarity  # brings torch

    folder = find_model(part.model, "sentence_encoder")
    encoder = similarity.load_sentence_encoder(folder, recipe_device())
    return similarity.SentenceSimilarity(
        encoder, part.threshold, part.metric, part.window, skip_shorter=part.skip_shorter
    )


def _build_constraints(parts: tuple[data.ConstraintPart, ...]) -> Constraints:
    """Of several limits of one kind the strictest holds."""
    tags = [part for part in parts if isinstance(part, data.PartOfSpeech)]
    similarities = [part for part in parts if isinstance(part, data.SentenceSimilarity)]
    if len(similarities) > 1:
        raise DefinitionError("constraint sentence-similarity: named twice; expected one")
    return Constraints(
        skip_function_words=any(isinstance(part, data.SkipFunctionWords) for part in parts),
        min_word_length=max((part.characters for part in parts if isinstance(part, data.MinWordLength)), default=0),
        max_edit_distance=min(
            (part.characters for part in parts if isinstance(part, data.MaxEditDistance)), default=None
        ),
        max_changed_words=min((part.words for part in parts if isinstance(part, data.MaxChangedWords)), default=None),
        max_changed_share=min((part.share for part in parts if isinstance(part, data.MaxChangedShare)), default=None),
        changed_words_allowed=min(
            (part.at_least or 0 for part in parts if isinstance(part, data.MaxChangedShare)), default=0
        ),
        same_part_of_speech=SamePartOfSpeech(
            assets.load_tagger(), noun_for_verb=all(part.noun_for_verb for part in tags)
        )
        if tags
        else None,
        sentence_similarity=_build_similarity(similarities[0]) if similarities else None,
    )
