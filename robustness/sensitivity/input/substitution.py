"""Word substitutions: tries every single one, and certifies by a vote over random ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Annotated, ClassVar, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from robustness.engine.seeding import example_generator
from robustness.recipes.assets.lexical import Thesaurus, load_neighbours, load_wordnet
from robustness.recipes.assets.resources import Resources
from robustness.recipes.text.transformations.words import in_case_of, wordnet_synonyms
from robustness.sensitivity.batching import errored_reading
from robustness.sensitivity.input.smoothing import clopper_pearson_lower
from robustness.sensitivity.measurement import (
    Aggregate,
    Direction,
    Kind,
    Measurement,
    MeasurementStatus,
    Quantity,
    Space,
    Target,
    measure,
)
from robustness.sensitivity.probe import Reading, Subject
from robustness.tasks.abilities import Ability
from robustness.testsets.example import Example, Texts
from robustness.victims.heads.embedded_batch import margins
from robustness.victims.heads.head import LabelHead
from robustness.victims.heads.labels import Scores

ROBUST = Quantity("robust-to-one-substitution", "share", Direction.ROBUST, Aggregate.MEAN, scale_free=True)
WORST_MARGIN = Quantity("worst-margin-of-one-substitution", "logits", Direction.ROBUST)
CERTIFIED = Quantity("certified-all-words", "share", Direction.ROBUST, Aggregate.MEAN, scale_free=True)
CERTIFIED_WORDS = Quantity("certified-words", "words", Direction.ROBUST, Aggregate.MEAN, scale_free=True)
USABLE = Quantity("usable-words", "share", aggregate=Aggregate.MEAN, scale_free=True)

SynonymTable = Literal["counter-fitted", "wordnet"]
Synonyms = Callable[[str], tuple[str, ...]]
"""From a word to its replacements, in its own case; symmetric, without the word itself."""


@final
@dataclass(frozen=True, slots=True)
class OneSubstitution:
    """Whether any substitution of one word by a synonym makes the answer wrong: all are tried.

    Exact for f on the given synonym sets. The value is 1 if the clean text and every substitution get a right answer.
    The worst margin is the smallest over all these texts.
    """

    table: SynonymTable
    space: Space = Space.INPUT
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.SCORES})

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe; raises DataError if the synonyms' file is missing."""
        victim = subject.victim
        synonyms = load_synonyms(self.table, subject.resources)
        for example in subject.examples:
            texts = list(dict.fromkeys([example.texts, *single_substitutions(example, synonyms)]))
            try:
                scores = victim.scores(texts)
                worst, right = float(_margins(scores, example.label).min()), _are_right(scores, example.label)
            except Exception as error:  # an error of one text: the other examples continue
                yield errored_reading(ROBUST, f"{type(error).__name__}: {error}", example)
                continue
            labels = {"scope": "one word", "forwards": len(texts), "diagnostics": {"texts": float(len(texts))}}
            margin = measure(WORST_MARGIN, worst, Kind.EXACT, **labels)
            if margin.value is None:
                yield Reading(margin, example)
                continue
            yield Reading(measure(ROBUST, float(right.all()), Kind.EXACT, **labels), example)
            yield Reading(margin, example)


@final
@dataclass(frozen=True, slots=True)
class Safer:
    """The vote g(x) = argmax_c P(f(X) = c) over texts X with every word drawn from its perturbation set.

    P(w) is w with its synonyms; draws are uniform. Substituting synonyms moves P(f(X) = y) by at most 1 - prod_i q_i,
    the total variation between the draws. q_i is the least overlap |P(w_i) & P(w')| / max(|P(w_i)|, |P(w')|) with a
    synonym w'. A text is certified if p - 1 + prod_i q_i > 1/2, with p the Clopper-Pearson bound at alpha. With at
    most R substituted words the product is over the R smallest q_i. The certificate is for the vote, not for f (arXiv
    2005.14424). Differences from the paper: q_i has the larger of the two sets, which is valid for unequal sizes, and
    Clopper-Pearson replaces Hoeffding. It is vacuous if even a vote without a wrong answer would certify no word.
    `usable-words` is the share of words with synonyms that such a vote would certify one at a time.
    """

    table: SynonymTable
    samples: PositiveInt
    alpha: Annotated[float, Field(gt=0, lt=1)]
    space: Space = Space.INPUT
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.SCORES})

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe; raises DataError if the synonyms' file is missing."""
        victim = subject.victim
        synonyms = load_synonyms(self.table, subject.resources)
        for example in subject.examples:
            rng = example_generator(subject.seed, subject.digest, example.id)
            texts = draw_texts(example, synonyms, self.samples, rng)
            try:
                right = _count_right(victim, texts, example.label)
            except Exception as error:  # as above
                yield errored_reading(CERTIFIED, f"{type(error).__name__}: {error}", example)
                continue
            yield from (Reading(each, example) for each in self._of_count(right, example, synonyms))

    def _of_count(self, right: int, example: Example, synonyms: Synonyms) -> Iterator[Measurement]:
        """The certificate of a number of right answers; vacuous if no number could certify anything."""
        p_lower, most = (clopper_pearson_lower(count, self.samples, self.alpha) for count in (right, self.samples))
        overlaps = sorted(overlap(word, synonyms) for word in example.words)
        open_words = [overlap(word, synonyms) for word in example.words if synonyms(word)]
        usable = [q for q in open_words if most - 1 + q > 0.5]
        nothing = (
            f"the table certifies nothing here for any answers: of its {len(open_words)} words with synonyms "
            f"{len(usable)} are usable, overlap above {1.5 - most:.2g}"
        )
        words, possible = certified_words(p_lower, overlaps), certified_words(most, overlaps)
        paid: dict[str, object] = {
            "target": Target.SMOOTHED,
            "alpha": self.alpha,
            "forwards": self.samples,
            "diagnostics": {"p_lower": p_lower, "overlap": float(np.prod(overlaps))},
        }
        for quantity, value, says_something, labels in (
            (CERTIFIED, words == len(overlaps) and p_lower > 0.5, possible == len(overlaps), {"scope": "all words"}),
            (CERTIFIED_WORDS, words, possible > 0, {}),
        ):
            measured = measure(quantity, float(value), Kind.CERT_PROB, **paid, **labels)
            is_vacuous = not (says_something and open_words)
            yield replace(measured, status=MeasurementStatus.VACUOUS, reason=nothing) if is_vacuous else measured
        if open_words:
            yield measure(USABLE, len(usable) / len(open_words), Kind.EXACT, target=Target.SMOOTHED)


def load_synonyms(table: SynonymTable, resources: Resources) -> Synonyms:
    """Returns the synonyms of `counter-fitted` (8 neighbours a word, closed symmetrically) or of `wordnet`.

    Raises:
        DataError: its file is missing.
    """
    if table == "wordnet":
        return _synonyms_in(load_wordnet(resources))
    closed = close_symmetrically(load_neighbours(resources))

    def neighbours(word: str) -> tuple[str, ...]:
        forms = dict.fromkeys(in_case_of(word, other) for other in closed.get(word.lower(), ()))
        return tuple(form for form in forms if form != word)

    return lru_cache(maxsize=1 << 16)(neighbours)


@cache
def _synonyms_in(thesaurus: Thesaurus) -> Synonyms:
    substitute = wordnet_synonyms(thesaurus)
    rng = np.random.default_rng(0)  # without a use, because nothing is drawn from it
    return lru_cache(maxsize=1 << 16)(lambda word: tuple(substitute(word, rng)))


def close_symmetrically(neighbours: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Returns the symmetric table: w' replaces w wherever w replaces w'.

    >>> close_symmetrically({"good": ["fine"], "nice": ["fine"]})
    {'good': ('fine',), 'fine': ('good', 'nice'), 'nice': ('fine',)}
    """
    closed: dict[str, dict[str, None]] = {}
    for word, others in neighbours.items():
        for other in others:
            if other != word:
                closed.setdefault(word, {})[other] = None
                closed.setdefault(other, {})[word] = None
    return {word: tuple(others) for word, others in closed.items()}


def single_substitutions(example: Example, synonyms: Synonyms) -> Iterator[Texts]:
    """Yields every text that differs from the example by one word's synonym."""
    for index, word in enumerate(example.words):
        for other in synonyms(word):
            yield example.replace_word(index, other).texts


def draw_texts(example: Example, synonyms: Synonyms, count: int, rng: np.random.Generator) -> list[Texts]:
    """Returns texts with each word drawn uniformly from the word and its synonyms."""
    choices = [(word, *synonyms(word)) for word in example.words]
    if not choices:
        return [example.texts] * count
    texts = []
    for picks in rng.integers([len(each) for each in choices], size=(count, len(choices))):
        changed = example
        for index, pick in enumerate(picks):
            if pick:
                changed = changed.replace_word(index, choices[index][pick])
        texts.append(changed.texts)
    return texts


def overlap(word: str, synonyms: Synonyms) -> float:
    """Returns q: the least probability that draws for the word and for one of its synonyms share.

    >>> table = {"a": ("b",), "b": ("a", "c"), "c": ("b",)}
    >>> round(overlap("a", table.__getitem__), 3)  # P(a) = {a, b}, P(b) = {a, b, c}
    0.667
    """
    own = {word, *synonyms(word)}
    return min(
        (len(own & other) / max(len(own), len(other)) for other in ({w, *synonyms(w)} for w in synonyms(word))),
        default=1.0,
    )


def certified_words(p_lower: float, overlaps: Sequence[float]) -> int:
    """Returns how many words may be substituted at once; `overlaps` are sorted upwards.

    >>> certified_words(0.99, [0.7, 0.8, 1.0])  # 0.99 - 1 + 0.7 > 1/2, and with 0.7 * 0.8 too: 0.55
    3
    """
    count, product = 0, 1.0
    for q in overlaps:
        product *= q
        if not p_lower - 1 + product > 0.5:
            return count
        count += 1
    return count if p_lower > 0.5 else 0


def _count_right(victim: LabelHead, texts: Sequence[Texts], label: int) -> int:
    """The number of texts with a right answer; each distinct text runs once."""
    unique = list(dict.fromkeys(texts))
    right = dict(zip(unique, _are_right(victim.scores(unique), label).tolist(), strict=True))
    return sum(right[text] for text in texts)


def _are_right(scores: Scores, label: int) -> NDArray[np.bool_]:
    """Whether each answer is right, as the grader judges: of equal scores the first is the answer."""
    return np.asarray(scores.argmax(axis=1) == label)


def _margins(scores: Scores, label: int) -> torch.Tensor:
    return margins(torch.from_numpy(scores), torch.full((len(scores),), label))
