"""What each rule of reading a number makes of a stored response."""

from __future__ import annotations

import pandas as pd

from robustness.runs.storage.record import RunRecord
from robustness.tasks.text.answering import TextAnswer
from robustness.tasks.text.numbers import NumberRule

RULES = (NumberRule.MARKED, NumberRule.LAST)
"""Of both the reading is a column, whichever of them the task declares."""


def parse_columns(frame: pd.DataFrame, record: RunRecord) -> dict[str, pd.Series]:
    """Returns `answer_marked`, `answer_last`, `correct_marked` and `correct_last` of rows with numbers for answers.

    An answer is empty where a rule reads none, and everything is where there is no response, or none of numbers. The
    gold is read as the task reads it.

    Args:
        frame: rows of examples.csv, with their task.
        record: Of the run.
    """
    answers = {task.name: task.answer for task in record.tasks if task.answer is not None}
    numeric = {name: answer for name, answer in answers.items() if answer.parser == "number"}
    rows = frame[frame["task"].isin(list(numeric)) & frame["response"].notna()] if numeric else frame.head(0)
    columns = [f"{kind}_{rule.value}" for rule in RULES for kind in ("answer", "correct")]
    if rows.empty:
        return {name: pd.Series(None, index=frame.index, dtype=object) for name in columns}
    known: dict[tuple[str, str, str], tuple[object, ...]] = {}
    cells = list(zip(rows["task"], rows["response"], rows["gold"], strict=True))
    for cell in dict.fromkeys(cells):
        known[cell] = _read(numeric[cell[0]], *cell[1:])
    table = pd.DataFrame([known[cell] for cell in cells], index=rows.index, columns=columns, dtype=object)
    return {name: table[name].reindex(frame.index) for name in columns}


def _read(answer: TextAnswer, response: str, gold: str) -> tuple[object, ...]:
    """Answer and whether it is right, by each rule."""
    found = answer.score_by_rule(response, [gold])
    each = [found[rule] for rule in RULES]
    return tuple(cell for said, score in each for cell in (said and said.text, int(score.correct)))
