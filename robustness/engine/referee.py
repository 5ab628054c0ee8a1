"""The referee: judges a proposal from a fresh evaluation, independent of the attack."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robustness.engine.outcome import Answered, Outcome, Spent, Status
from robustness.engine.query_cache import TOLERANCE
from robustness.errors import AttackError
from robustness.tasks.grading import Grade, Grader
from robustness.tasks.objective import Objective
from robustness.testsets.example import Example


def check_proposal(example: Example, proposal: object) -> Example:
    """Returns the proposal if it may be judged.

    Raises:
        AttackError: not an Example, or one whose id, gold, closed segments or protected places were changed.
    """
    if not isinstance(proposal, Example):
        raise AttackError(f"returned {type(proposal).__name__}; expected the Example it proposes")
    if any(getattr(proposal, name) != getattr(example, name) for name in ("id", "label", "answers", "attacked")):
        raise AttackError(
            "returned an example with another id or label, or with other answers or attacked segments; "
            "make it with example.replace_word(...) or example.with_texts(...)"
        )
    refuse_broken_text(example, proposal)
    for index, (clean, proposed) in enumerate(zip(example.texts, proposal.texts, strict=True)):
        if index not in example.attacked and clean != proposed:
            raise AttackError(f"changed segment {index}, which is not open to attack")
    broken = example.first_broken(proposal.texts)
    if broken is not None:
        raise AttackError(f"changed {broken!r}, which the task protects; edit the words of example.words alone")
    return proposal


def refuse_broken_text(example: Example, candidate: Example) -> None:
    """Raises AttackError for another number of segments or half a surrogate pair, which tokenizers cannot encode."""
    if len(candidate.texts) != len(example.texts):
        raise AttackError(f"made a text of {len(candidate.texts)} segments; the example has {len(example.texts)}")
    try:
        for text in candidate.texts:
            text.encode()
    except UnicodeEncodeError as error:
        raise AttackError(f"made a text that is not valid Unicode at character {error.start}") from None


def judge(
    example: Example, proposal: Example, grades: tuple[Grade, Grade], *, gold: str, objective: Objective, spent: Spent
) -> Outcome:
    """Returns the outcome: succeeded only if the text changed and the fresh answer is what the objective asks for.

    Args:
        example: what was attacked.
        proposal: what its search returned, checked.
        grades: of the clean answer and of a fresh answer to the proposal.
        gold: the gold in readable form.
        objective: of the attack.
        spent: the example's cost.
    """
    clean, fresh = grades
    is_reached = bool(objective.reached(np.array([fresh.correct]))[0])
    succeeded = is_reached and objective.allows(example, proposal)
    return Outcome.of(
        example,
        gold,
        Status.SUCCEEDED if succeeded else Status.FAILED,
        clean=Answered(example, clean),
        given=Answered(proposal, fresh),
        spent=spent,
    )


def contradicts(
    grader: Grader, proposal: Example, seen: NDArray[np.float32] | None, fresh: NDArray[np.float32]
) -> bool:
    """Whether a judgement differs from what the search saw by more than a tie that rounding can break."""
    if seen is None or not (np.isfinite(seen).all() and np.isfinite(fresh).all()):
        return False
    before, after = (grader.grade(row, proposal).response for row in (seen, fresh))
    return before != after and grader.differ(seen, fresh, TOLERANCE)
