"""The kinds of parts that recipe files name; the keys of each are its constructor's parameters."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from robustness.definitions.parts import Kinds
from robustness.recipes.text.transformations.imperceptible import IMPERCEPTIBLE_EDITS
from robustness.recipes.text.transformations.inner_edits import INNER_EDITS
from robustness.recipes.text.transformations.invariances import write_out_contraction
from robustness.recipes.text.transformations.transformation import CHARACTER_EDITS

SEARCH_KINDS = Kinds(
    {
        "greedy-word-ranking": "recipes.text.searches:rank_by_hiding",
        "greedy-deletion-ranking": "recipes.text.searches:rank_by_deleting",
        "greedy-gradient-ranking": "recipes.text.searches:rank_by_gradient",
        "gradient-beam": "recipes.text.gradients.gradient_beam:beam_of_flips",
        "greedy": "recipes.text.searches:Greedy",
        "best-of-each-word": "recipes.text.searches:BestOfEachWord",
        "differential-evolution": "recipes.text.populations.evolution:DifferentialEvolution",
        "genetic": "recipes.text.populations.genetic:Genetic",
        "particle-swarm": "recipes.text.populations.swarm:ParticleSwarm",
        "random-order": "recipes.text.searches:RandomOrder",
        "return-clean": "recipes.text.searches:ReturnClean",
        "append": "recipes.distractors.appended_texts:Append",
        "best-of-n": "recipes.text.best_of_n:BestOfN",
        "greedy-reduction": "recipes.text.reduction:GreedyReduction",
        "cascade": "recipes.cascade:Cascade",
        "distractor-search": "recipes.distractors.added_words:AddWords",
        "embedding-ball": "recipes.embedding.recipe:attack_ball",
        "embedding-minimal": "recipes.embedding.recipe:attack_minimally",
        "token-distributions": "recipes.text.gradients.gbda:Gbda",
    },
    given=frozenset({"edits", "constraints", "words_left", "access", "max_seconds"}),
    named={"Members": Annotated[tuple[str, ...], Field(min_length=2)]},
)
TRANSFORMATION_KINDS = Kinds(
    {
        **dict.fromkeys(("names", "places", "numbers"), "recipes.text.transformations.invariances:exchange"),
        "wordnet-synonyms": "recipes.text.transformations.words:wordnet_synonyms",
        "nearest-neighbours": "recipes.text.transformations.words:nearest_neighbours",
        "masked-replacements": "recipes.language_models.infilling:Replacements",
        "masked-insertions": "recipes.language_models.infilling:Insertions",
        "masked-merges": "recipes.language_models.infilling:Merges",
        "sub-word-replacements": "recipes.language_models.infilling:Rereadings",
    },
    given=frozenset({"kind", "thesaurus", "neighbours", "tagger"}),
    ready={
        **CHARACTER_EDITS,
        **INNER_EDITS,
        **IMPERCEPTIBLE_EDITS,
        "write-out-contractions": write_out_contraction,
    },
    named={"MaskedLanguageModel": str},
)
CONSTRAINT_KINDS = Kinds(
    {
        "skip-function-words": "recipes.text.constraints:skip_function_words",
        "min-word-length": "recipes.text.constraints:min_word_length",
        "max-edit-distance": "recipes.text.constraints:max_edit_distance",
        "max-changed-words": "recipes.text.constraints:max_changed_words",
        "max-changed-share": "recipes.text.constraints:max_changed_share",
        "same-part-of-speech": "recipes.text.constraints:SamePartOfSpeech",
        "sentence-similarity": "recipes.language_models.similarity:SentenceSimilarity",
    },
    given=frozenset({"tagger"}),
    written_when_absent=frozenset({"window"}),
    named={"SentenceEncoder": str},
)

IN_CONTEXT = frozenset({"masked-replacements", "masked-insertions", "masked-merges", "sub-word-replacements"})
"""Transformations that read the surrounding words."""
STEPWISE = frozenset(
    {
        "greedy-word-ranking",
        "greedy-deletion-ranking",
        "greedy-gradient-ranking",
        "greedy",
        "best-of-each-word",
        "random-order",
    }
)
"""Searches that make one edit after the other and ask about each edit separately."""
WITHOUT_STEPS = frozenset({"embedding-ball", "embedding-minimal", "token-distributions"})
"""Searches that propose no texts step by step."""

WHOLE_TEXTS = frozenset({"best-of-n"})
"""Searches that change a whole text at once; their effort is the number of draws, not of changed words."""
