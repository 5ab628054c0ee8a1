"""The referee: judges a proposal from a fresh evaluation, whatever the attack believed."""

from __future__ import annotations

from difflib import SequenceMatcher

import numpy as np
from numpy.typing import NDArray

from robustness.engine.outcome import Outcome, Status
from robustness.engine.query_cache import differ
from robustness.errors import AttackError
from robustness.tasks.grading import Grader, log_probabilities
from robustness.tasks.objective import Objective
from robustness.testsets.example import Example, Texts


def check_proposal(example: Example, proposal: object) -> Example:
    """Returns the proposal if it may be judged.

    Raises:
        AttackError: not an Example, or one whose id, label or protected segments were changed.
    """
    if not isinstance(proposal, Example):
        raise AttackError(f"returned {type(proposal).__name__}; expected the Example it proposes")
    if proposal.id != example.id or proposal.label != example.label:
        raise AttackError("returned an example with another id or label")
    refuse_broken_text(example, proposal)
    for index, (clean, proposed) in enumerate(zip(example.texts, proposal.texts, strict=True)):
        if index not in example.attacked and clean != proposed:
            raise AttackError(f"changed segment {index}, which is not open to attack")
    return proposal


def label_problem(label: int, labels: int) -> str | None:
    """Returns what is wrong with a label for a head of so many labels, or None.

    >>> label_problem(1, 2), label_problem(7, 2)
    (None, "label 7 is outside the head's range: it has labels 0 to 1; mend the test set")
    """
    if 0 <= label < labels:
        return None
    return f"label {label} is outside the head's range: it has labels 0 to {labels - 1}; mend the test set"


def row_problem(example: Example, row: NDArray[np.float32]) -> str | None:
    """Returns why an example cannot be attacked whose clean text a model gives such a row for, or None."""
    finite = None if np.isfinite(row).all() else "the victim's scores are not finite"
    return label_problem(example.label, len(row)) or finite


def skipped(example: Example, clean_scores: NDArray[np.float32]) -> Outcome:
    """Returns the outcome of an example that was answered wrongly before any attack."""
    return Outcome(
        example_id=example.id,
        group_id=example.group,
        label=example.label,
        status=Status.SKIPPED,
        clean_prediction=int(clean_scores.argmax()),
        adversarial_prediction=None,
        clean_score=true_label_probability(clean_scores, example.label),
        score=None,
        queries=0,
        forwards=0,
        modified_words=None,
        modified_share=None,
        similarity=None,
        seconds=0.0,
        original_text=example.texts,
        adversarial_text=None,
    )


def refuse_broken_text(example: Example, candidate: Example) -> None:
    """Raises AttackError for another number of segments, or half a surrogate pair, which no tokenizer can hold."""
    if len(candidate.texts) != len(example.texts):
        raise AttackError(f"made a text of {len(candidate.texts)} segments; the example has {len(example.texts)}")
    try:
        for text in candidate.texts:
            text.encode()
    except UnicodeEncodeError as error:
        raise AttackError(f"made a text that is not valid Unicode at character {error.start}") from None


def true_label_probability(scores: NDArray[np.float32], label: int) -> float:
    """Softmax probability of `label` from one row of logits.

    >>> round(true_label_probability(np.array([0.0, 0.0], dtype=np.float32), 0), 3)
    0.5
    """
    return float(np.exp(log_probabilities(scores[None])[0, label]))


def judge(
    example: Example,
    proposal: Example,
    clean_scores: NDArray[np.float32],
    fresh_scores: NDArray[np.float32],
    *,
    queries: int,
    forwards: int,
    seconds: float,
    objective: Objective,
) -> Outcome:
    """Returns the outcome: succeeded only if the text changed and the fresh answer is what the objective asks for."""
    prediction = int(fresh_scores.argmax())
    is_reached = bool(objective.reached(np.array([prediction == example.label]))[0])
    succeeded = is_reached and objective.allows(example, proposal)
    modified = count_modified_words(example, proposal)
    words = len(example.words)
    return Outcome(
        example_id=example.id,
        group_id=example.group,
        label=example.label,
        status=Status.SUCCEEDED if succeeded else Status.FAILED,
        clean_prediction=int(clean_scores.argmax()),
        adversarial_prediction=prediction,
        clean_score=true_label_probability(clean_scores, example.label),
        score=true_label_probability(fresh_scores, example.label),
        queries=queries,
        forwards=forwards,
        modified_words=modified,
        modified_share=modified / words if words else None,
        similarity=character_similarity(example.texts, proposal.texts),
        seconds=seconds,
        original_text=example.texts,
        adversarial_text=proposal.texts,
    )


def contradicts(
    grader: Grader, proposal: Example, seen: NDArray[np.float32] | None, fresh: NDArray[np.float32]
) -> bool:
    """Whether a judgement is not what the search saw, and not for a tie that rounding breaks either way."""
    if seen is None or not (np.isfinite(seen).all() and np.isfinite(fresh).all()):
        return False
    before, after = (grader.grade(row, proposal).response for row in (seen, fresh))
    return before != after and differ(seen, fresh)


def count_modified_words(example: Example, proposal: Example) -> int:
    """Words replaced, removed or added, from one text to the other.

    >>> clean = Example("1", ("a good film",), label=1)
    >>> count_modified_words(clean, clean.with_texts(["a really goood film"]))
    2
    """
    before, after = example.words, proposal.words
    if len(before) == len(after):
        return sum(a != b for a, b in zip(before, after, strict=True))
    edits = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    return sum(max(i2 - i1, j2 - j1) for kind, i1, i2, j1, j2 in edits if kind != "equal")


def character_similarity(clean: Texts, adversarial: Texts) -> float:
    """1 - Levenshtein distance / length of the longer, over the joined segments; 1 means unchanged."""
    from rapidfuzz.distance import Levenshtein  # what changes no letters does without it

    return float(Levenshtein.normalized_similarity("\n".join(clean), "\n".join(adversarial)))
