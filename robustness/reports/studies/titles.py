"""What the cells of a study's table are called."""

from __future__ import annotations

import pandas as pd

from robustness.reports.studies.scores import POOLED
from robustness.runs.cells import NO_ATTACK, WORST_CASE

AS_ONE = "all test sets and attacks as one"


def planned_cells(table: pd.DataFrame, task: str) -> list[tuple[str, str]]:
    """Returns test set and attack of each cell that is tested: no clean set as it stands, no control, not all as one.

    Args:
        table: Of `build_study_table`.
        task: Whose cells are wanted. None of it are planned if no method is compared with full fine-tuning.
    """
    tested = table[(table["task"] == task) & (table["testset"] != POOLED) & table["p_adjusted"].notna()]
    return list(dict.fromkeys(zip(tested["testset"], tested["attack"], strict=True)))


def title_cell(testset: str, attack: str, *, is_control: bool = False) -> str:
    """Returns what readers call a cell.

    >>> title_cell("sst2", "deepwordbug"), title_cell("sst2", "identity", is_control=True), title_cell("sst2", "none")
    ('sst2, deepwordbug', 'sst2, identity (control)', 'sst2')
    """
    words = {NO_ATTACK: "", WORST_CASE: ", worst case"}
    return testset + words.get(attack, f", {attack}") + (" (control)" if is_control else "")


def title_pooled(table: pd.DataFrame, task: str) -> str:
    """Returns what readers call all planned cells of a task as one: the cell's own title if there is but one."""
    planned = planned_cells(table, task)
    return title_cell(*planned[0]) if len(planned) == 1 else AS_ONE
