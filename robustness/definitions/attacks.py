"""What an attack recipe file may say."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from robustness.definitions.embeddings import EmbeddingBall, EmbeddingMinimal
from robustness.definitions.model import Definition


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


class MaxChangedShare(Definition):
    """What share of the clean text's words, rounded up, may differ."""

    kind: Literal["max-changed-share"]
    share: float = Field(gt=0, le=1)


class PartOfSpeech(Definition):
    """A new word keeps the part of speech, by NLTK's tagger, in the clean text around it."""

    kind: Literal["same-part-of-speech"]
    noun_for_verb: bool
    """Whether nouns and verbs may stand for each other."""


class GreedyWordRanking(Definition):
    """Ranks words by how much hiding them hurts, then edits them one after the other."""

    kind: Literal["greedy-word-ranking"]
    ranking: Literal["unknown-token", "weighted-saliency"]
    unknown_token: str


class GreedyDeletionRanking(Definition):
    """Ranks words by how much deleting them hurts, then edits them one after the other."""

    kind: Literal["greedy-deletion-ranking"]


class Greedy(Definition):
    """Tries all edits of all words and keeps the best, again and again."""

    kind: Literal["greedy"]


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


class Append(Definition):
    """Appends distractors, one at a time; needs no transformations."""

    kind: Literal["append"]
    texts: tuple[str, ...]
    handles: NonNegativeInt
    """Random user names to try."""
    links: NonNegativeInt
    """Random short links to try."""


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
    | Greedy
    | DifferentialEvolution
    | Genetic
    | Append
    | RandomOrder
    | ReturnClean
    | SearchDistractor
    | EmbeddingBall
    | EmbeddingMinimal,
    Field(discriminator="kind"),
]
TransformationPart = Annotated[
    CharacterEdit
    | InnerEdit
    | ImperceptibleEdit
    | WordnetSynonyms
    | NearestNeighbours
    | Exchange
    | WriteOutContractions,
    Field(discriminator="kind"),
]
ConstraintPart = Annotated[
    SkipFunctionWords | MinWordLength | MaxEditDistance | MaxChangedWords | MaxChangedShare | PartOfSpeech,
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
    family: Literal["character", "word", "sentence", "embedding", "baseline"]
    access: Literal["scores", "gradients"]
    search: SearchPart
    transformations: tuple[TransformationPart, ...] = ()
    constraints: tuple[ConstraintPart, ...] = ()
    budget: Budget = Budget()
    deviations: tuple[Deviation, ...] = ()
