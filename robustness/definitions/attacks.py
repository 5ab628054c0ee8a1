"""What an attack recipe file may say."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from robustness.definitions.embeddings import EmbeddingBall, EmbeddingMinimal, TokenDistributions
from robustness.definitions.model import Definition, SparseDefinition


class CharacterEdit(Definition):
    """One edit at one random place of a word."""

    kind: Literal["swap-neighbours", "substitute-character", "delete-character", "insert-character"]


class InnerEdit(Definition):
    """Edits of a word that spare its first and last character: at all places, or at one random place."""

    kind: Literal[
        "all-inner-swaps",
        "all-inner-deletions",
        "all-inner-insertions",
        "all-keyboard-slips",
        "one-inner-swap",
        "one-inner-deletion",
        "one-inner-space",
    ]


class ImperceptibleEdit(Definition):
    """Edits of a word that a reader does not see, at all places."""

    kind: Literal["homoglyphs", "invisible-insertions", "reorderings", "deleted-insertions"]


class WordnetSynonyms(Definition):
    """A word's single-word synonyms in WordNet, of all its senses."""

    kind: Literal["wordnet-synonyms"]


class NearestNeighbours(Definition):
    """A word's nearest neighbours in the counter-fitted vectors."""

    kind: Literal["nearest-neighbours"]
    count: PositiveInt


class Exchange(Definition):
    """A word gives way to others of its kind, drawn at random, which say nothing else about the label."""

    kind: Literal["names", "places", "numbers"]
    count: PositiveInt
    """Others to try."""


class MaskedReplacements(Definition):
    """What a masked language model puts in a word's place, the word hidden."""

    kind: Literal["masked-replacements"]
    model: str
    """A folder, or a hub id whose last part names a folder in the data folder's masked_lm/."""
    count: PositiveInt
    """Words a place, the likeliest first."""
    min_probability: float = Field(default=0.0, ge=0, lt=1)
    context: Literal["clean", "current"]
    """The other words: the clean text's, so that all holes are filled at once, or those of the text as it is now."""


class MaskedInsertions(Definition):
    """What a masked language model puts before a word."""

    kind: Literal["masked-insertions"]
    model: str
    """As for masked-replacements."""
    count: PositiveInt
    min_probability: float = Field(default=0.0, ge=0, lt=1)
    context: Literal["clean", "current"]
    """As for masked-replacements."""


class MaskedMerges(Definition):
    """What a masked language model puts in place of two neighbours of the clean text."""

    kind: Literal["masked-merges"]
    model: str
    """As for masked-replacements."""
    count: PositiveInt
    min_probability: float = Field(default=0.0, ge=0, lt=1)


class SubWordReplacements(Definition):
    """What a masked language model reads at a word of the clean text, nothing hidden."""

    kind: Literal["sub-word-replacements"]
    model: str
    """As for masked-replacements."""
    count: PositiveInt
    """Tokens a place, and combinations of tokens for a word of several."""


class WriteOutContractions(Definition):
    """Turns "isn't" into "is not" and the like."""

    kind: Literal["write-out-contractions"]


class SkipFunctionWords(Definition):
    """Function words (articles, pronouns, auxiliaries ...) are never changed."""

    kind: Literal["skip-function-words"]


class MaxEditDistance(Definition):
    """Levenshtein distance between clean and adversarial text, in characters."""

    kind: Literal["max-edit-distance"]
    characters: PositiveInt


class MinWordLength(Definition):
    """Words shorter than this stay."""

    kind: Literal["min-word-length"]
    characters: PositiveInt


class MaxChangedWords(Definition):
    """How many words may differ from the clean text."""

    kind: Literal["max-changed-words"]
    words: PositiveInt


class MaxChangedShare(SparseDefinition):
    """What share of the clean text's words, rounded up, may differ."""

    kind: Literal["max-changed-share"]
    share: float = Field(gt=0, le=1)
    at_least: PositiveInt | None = None
    """Words that may differ whatever the share."""


class PartOfSpeech(Definition):
    """A new word keeps the part of speech, by NLTK's tagger, in the clean text around it."""

    kind: Literal["same-part-of-speech"]
    noun_for_verb: bool
    """Whether nouns and verbs may stand for each other."""


class SentenceSimilarity(Definition):
    """A candidate stays near the clean text by a sentence encoder; the last constraint that is asked."""

    kind: Literal["sentence-similarity"]
    model: str
    """A folder, or a hub id whose last part names a folder in the data folder's sentence_encoder/."""
    threshold: float = Field(ge=-1, le=1)
    """The lowest similarity allowed."""
    metric: Literal["cosine", "angular"]
    """angular: 1 - arccos(cosine) / pi."""
    window: PositiveInt | None = None
    """Words around the changed one that are compared; absent: the whole text."""
    skip_shorter: bool = False
    """Whether texts with fewer words than the window are free of the constraint."""


class GreedyWordRanking(Definition):
    """Ranks words by how much hiding them hurts, then edits them one after the other."""

    kind: Literal["greedy-word-ranking"]
    ranking: Literal["unknown-token", "weighted-saliency"]
    unknown_token: str


class GreedyDeletionRanking(Definition):
    """Ranks words by how much deleting them hurts, then edits them one after the other."""

    kind: Literal["greedy-deletion-ranking"]


class GreedyGradientRanking(Definition):
    """Ranks words by the size of the gradient at them, then edits them one after the other."""

    kind: Literal["greedy-gradient-ranking"]


class GradientBeam(Definition):
    """A beam of texts, each grown by the substitutions that its gradient promises most of."""

    kind: Literal["gradient-beam"]
    flips: Literal["words", "vocabulary"]
    """Words give way to what the transformations make of them, or tokens to any of the victim's vocabulary."""
    width: PositiveInt
    """Texts in the beam, and substitutions of each that are asked about."""
    max_flips: PositiveInt


class Greedy(Definition):
    """Tries all edits of all words and keeps the best, again and again."""

    kind: Literal["greedy"]


class BestOfEachWord(Definition):
    """Tries all edits of the clean text once, then makes each word's best, the most harmful first."""

    kind: Literal["best-of-each-word"]


class DifferentialEvolution(Definition):
    """Evolves sets of edits, at most one a word."""

    kind: Literal["differential-evolution"]
    changes: PositiveInt
    population: PositiveInt
    generations: PositiveInt


class Genetic(Definition):
    """Breeds texts whose words are substituted."""

    kind: Literal["genetic"]
    population: int = Field(ge=2)
    generations: PositiveInt
    temperature: float = Field(gt=0)
    """Parents are drawn by softmax(error probability / temperature)."""


class ParticleSwarm(Definition):
    """Moves texts whose words are substituted towards the best found so far."""

    kind: Literal["particle-swarm"]
    particles: PositiveInt
    iterations: PositiveInt


class Append(Definition):
    """Appends distractors, one at a time; needs no transformations."""

    kind: Literal["append"]
    texts: tuple[str, ...]
    handles: NonNegativeInt
    """Random user names to try."""
    links: NonNegativeInt
    """Random short links to try."""


class GreedyReduction(Definition):
    """Deletes words one after the other as long as the prediction stays; needs no transformations."""

    kind: Literal["greedy-reduction"]


class Cascade(Definition):
    """Runs other recipes one after the other, each on what the ones before it left standing."""

    kind: Literal["cascade"]
    members: tuple[str, ...] = Field(min_length=2)
    """Names of recipes, or paths of recipe files, in the order in which they run."""


class RandomOrder(Definition):
    """Edits words in random order without looking at scores, starting over `passes` times."""

    kind: Literal["random-order"]
    passes: PositiveInt


class ReturnClean(Definition):
    """Proposes the clean text."""

    kind: Literal["return-clean"]


class SearchDistractor(Definition):
    """Searches for words that, put beside a question's paragraph, make a victim answer wrongly."""

    kind: Literal["distractor-search"]
    words: PositiveInt
    candidates: PositiveInt
    """Common words drawn for each place, beside the question's own."""
    epochs: PositiveInt
    restarts: NonNegativeInt
    paragraph_words: NonNegativeInt = 0
    """The most frequent content words of the paragraph that are candidates too."""
    place: Literal["before", "after"]


SearchPart = Annotated[
    GreedyWordRanking
    | GreedyDeletionRanking
    | GreedyGradientRanking
    | GradientBeam
    | Greedy
    | BestOfEachWord
    | DifferentialEvolution
    | Genetic
    | ParticleSwarm
    | Append
    | GreedyReduction
    | Cascade
    | RandomOrder
    | ReturnClean
    | SearchDistractor
    | EmbeddingBall
    | EmbeddingMinimal
    | TokenDistributions,
    Field(discriminator="kind"),
]
TransformationPart = Annotated[
    CharacterEdit
    | InnerEdit
    | ImperceptibleEdit
    | WordnetSynonyms
    | NearestNeighbours
    | MaskedReplacements
    | MaskedInsertions
    | MaskedMerges
    | SubWordReplacements
    | Exchange
    | WriteOutContractions,
    Field(discriminator="kind"),
]
ConstraintPart = Annotated[
    SkipFunctionWords
    | MinWordLength
    | MaxEditDistance
    | MaxChangedWords
    | MaxChangedShare
    | PartOfSpeech
    | SentenceSimilarity,
    Field(discriminator="kind"),
]


class Budget(Definition):
    """What an attack may spend on one example; absent means unlimited."""

    max_queries: PositiveInt | None = None


class Deviation(Definition):
    """A difference from the paper or from another implementation."""

    against: str
    what: str
    why: str


class AttackDefinition(Definition):
    """One attack recipe as data."""

    summary: str
    paper: str | None = None
    family: Literal["character", "word", "sentence", "embedding", "baseline", "ensemble"]
    access: Literal["scores", "gradients"]
    goal: Literal["change-prediction", "keep-prediction"] = "change-prediction"
    words_left: PositiveInt | None = None
    """Words that a kept prediction may be left with; it has no other use."""
    mirrors: str | None = None
    """Of a baseline: the attack whose edits it makes at random, and which it should not beat."""
    search: SearchPart
    transformations: tuple[TransformationPart, ...] = ()
    constraints: tuple[ConstraintPart, ...] = ()
    budget: Budget = Budget()
    deviations: tuple[Deviation, ...] = ()

    COUNTED_WHERE_SET: ClassVar[frozenset[str]] = frozenset({"goal", "words_left"})

    @model_validator(mode="after")
    def _check_goal(self) -> Self:
        if (self.goal == "keep-prediction") != (self.words_left is not None):
            raise ValueError('goal = "keep-prediction" and words_left belong together: give both or neither')
        return self
