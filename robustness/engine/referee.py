"""The referee: judges a proposal from a fresh evaluation, whatever the attack believed."""

from __future__ import annotations

from difflib import SequenceMatcher

import numpy as np
from numpy.typing import NDArray

from robustness.engine.goal import Goal
from robustness.engine.outcome import Outcome, Status
from robustness.errors import AttackError
from robustness.tasks.grading import log_probabilities
from robustness.testsets.example import Example, Texts


def check_proposal(example: Example, proposal: object) -> Example:
    """Returns the proposal if it may be judged.

    Raises:
        AttackError: not an Example, or one whose id, label, closed segments or protected places were changed.
    """
    if not isinstance(proposal, Example):
        raise AttackError(f"returned {type(proposal).__name__}; expected the Example it proposes")
    if proposal.id != example.id or proposal.label != example.label:
        raise AttackError("returned an example with another id or label")
    refuse_broken_text(example, proposal)
    for index, (clean, proposed) in enumerate(zip(example.texts, proposal.texts, strict=True)):
        if index not in example.attacked and clean != proposed:
            raise AttackError(f"changed segment {index}, which is not open to attack")
    broken = example.first_broken(proposal.texts)
    if broken is not None:
        raise AttackError(f"changed {broken!r}, which the task protects; edit the words of example.words alone")
    return proposal


def label_problem(label: int, labels: int) -> str | None:
    """Returns what is wrong with a label for a head of so many labels, or None.

    >>> label_problem(1, 2), label_problem(7, 2)
    (None, "label 7 is outside the head's range: it has labels 0 to 1; mend the test set")
    """
    if 0 <= label < labels:
        return None
    return f"label {label} is outside the head's range: it has labels 0 to {labels - 1}; mend the test set"


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
    goal: Goal,
) -> Outcome:
    """Returns the outcome: succeeded only if the text changed and the fresh prediction is what the goal asks for."""
    prediction = int(fresh_scores.argmax())
    succeeded = goal.is_reached(example, proposal, prediction)
    modified = count_modified_words(example, proposal)
    words = len(example.all_words)
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


def count_modified_words(example: Example, proposal: Example) -> int:
    """Words replaced, removed or added, from one text to the other.

    >>> clean = Example("1", ("a good film",), label=1)
    >>> count_modified_words(clean, clean.with_texts(["a really goood film"]))
    2
    """
    before, after = example.all_words, proposal.all_words
    if len(before) == len(after):
        return sum(a != b for a, b in zip(before, after, strict=True))
    edits = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    return sum(max(i2 - i1, j2 - j1) for kind, i1, i2, j1, j2 in edits if kind != "equal")


def character_similarity(clean: Texts, adversarial: Texts) -> float:
    """1 - Levenshtein distance / length of the longer, over the joined segments; 1 means unchanged."""
    from rapidfuzz.distance import Levenshtein  # what changes no letters does without it

    return float(Levenshtein.normalized_similarity("\n".join(clean), "\n".join(adversarial)))
