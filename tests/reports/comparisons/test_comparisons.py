"""The weights of examples that stand for others, and the worst case of several attacks, on planted answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from robustness.reports.comparisons.comparison import has_repeats, stand_in_weights
from robustness.reports.comparisons.grid import OutcomeGrid, build_grid, without_originals, worst_case
from robustness.reports.tables.columns import COLUMNS, Table

Summaries = NDArray[np.int8]


def answers(*counts: int) -> tuple[Summaries, Summaries]:
    """So many examples that both arms, the reference alone, the candidate alone, neither have right; then unknown."""
    reference, candidate = ([1, 1, 0, 0, -1], [1, 0, 1, 0, 1])
    return tuple(np.repeat(np.array(each, dtype=np.int8), counts) for each in (reference, candidate))  # type: ignore[return-value]


def first_of(*parts: tuple[int, int]) -> NDArray[np.bool_]:
    """The first k of n examples, part after part."""
    return np.concatenate([np.arange(n) < k for k, n in parts])


def test_an_example_stands_for_as_many_as_its_stratum_lost() -> None:
    """Kept are 3 of 6, 2 of 6, 1 of 5 and both of 2: each stands for 2, 3, 5 and itself."""
    found = stand_in_weights(*answers(6, 6, 5, 2, 0), first_of((3, 6), (2, 6), (1, 5), (2, 2)))

    assert found is not None and found.tolist() == [2, 2, 2, 3, 3, 5, 1, 1]
    assert found.sum() == 6 + 6 + 5 + 2


def test_a_stratum_that_lost_all_of_its_examples_has_nobody_to_stand_for_it() -> None:
    for lost in range(4):
        kept = first_of(*((0 if stratum == lost else 2, 4) for stratum in range(4)))

        assert stand_in_weights(*answers(4, 4, 4, 4, 0), kept) is None


@pytest.mark.parametrize(
    ("groups", "repeated"), [([1, 2, 2], True), ([2, 1, 1], True), ([3, 1, 2], False), ([4], False), ([], False)]
)
def test_a_group_repeats_wherever_its_rows_stand(groups: list[int], repeated: bool) -> None:
    assert has_repeats(np.array(groups, dtype=int)) is repeated


def test_nobody_stands_for_examples_of_which_nothing_is_known() -> None:
    kept = first_of((3, 6), (2, 2), (1, 1), (1, 1), (0, 4))

    found = stand_in_weights(*answers(6, 2, 1, 1, 4), kept)

    assert found is not None and found.tolist() == [2, 2, 2, 1, 1, 1, 1]
    assert stand_in_weights(*answers(6, 2, 1, 1, 4), first_of((6, 6), (2, 2), (1, 1), (1, 1), (0, 4))) is None


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(first_of((6, 6), (2, 2), (1, 1), (1, 1), (4, 4)), id="nothing is left out"),
        pytest.param(first_of((3, 6), (2, 2), (1, 1), (1, 1), (1, 4)), id="a clean answer of a kept one is unknown"),
        pytest.param(first_of((3, 6), (2, 2), (1, 1), (0, 1), (0, 4)), id="a stratum has lost all"),
        pytest.param(first_of((0, 6), (0, 2), (0, 1), (0, 1), (0, 4)), id="nothing is kept"),
    ],
)
def test_there_are_no_weights_where_they_could_not_be_right(kept: NDArray[np.bool_]) -> None:
    assert stand_in_weights(*answers(6, 2, 1, 1, 4), kept) is None


WORDS = {"s": "skipped", "b": "succeeded", "r": "failed", "e": "errored"}


def grid_of(cells: dict[tuple[str, str, str], dict[str, str]]) -> OutcomeGrid:
    """By checkpoint, test set and attack the status of examples by name."""
    rows = [
        {"checkpoint": checkpoint, "testset": testset, "attack": attack, "example_id": name, "group_id": name}
        | {"gold": "1", "status": WORDS[letter], "clean_correct": int(letter != "s"), "goal": "change-prediction"}
        for (checkpoint, testset, attack), letters in cells.items()
        for name, letter in letters.items()
    ]
    return build_grid(pd.DataFrame(rows).reindex(columns=[column.name for column in COLUMNS[Table.EXAMPLES]]))


def statuses(grid: OutcomeGrid, places: NDArray[np.int64]) -> list[str | None]:
    return [None if place < 0 else str(grid.frame["status"].iloc[place]) for place in places]


def test_in_the_worst_case_one_success_breaks_and_one_skip_is_enough() -> None:
    one, two = (
        {"v": "r", "w": "r", "x": "b", "y": "s", "z": "r"},
        {"z": "e", "y": "e", "x": "r", "w": "b", "v": "r"},
    )
    grid = grid_of({("f", "t", "a"): one, ("f", "t", "b"): two, ("f", "u", "a"): {"v": "e"}})

    found = worst_case(grid, ["f"], "t", ["a", "b", "missing"])

    assert found.attacks == ("a", "b")
    assert statuses(grid, found.rows["f"]) == ["failed", "succeeded", "succeeded", "skipped", None]
    assert found.n_left_out == 1


def test_a_worst_case_over_arms_keeps_what_all_of_them_know() -> None:
    """x is errored on the one arm, y is missing on the other, and only one arm has the attack c."""
    grid = grid_of(
        {
            ("f", "t", "a"): {"w": "r", "x": "e", "y": "b", "z": "r"},
            ("l", "t", "a"): {"w": "b", "x": "r", "z": "r"},
            ("f", "t", "b"): {"w": "r", "x": "r", "y": "r", "z": "r"},
            ("l", "t", "b"): {"w": "r", "x": "r", "z": "s"},
            ("f", "t", "c"): {"w": "b", "x": "b", "y": "b", "z": "b"},
        }
    )

    found = worst_case(grid, ["f", "l"], "t", ["a", "b", "c"])

    assert found.attacks == ("a", "b")
    assert statuses(grid, found.rows["f"]) == ["failed", None, None, "failed"]
    assert statuses(grid, found.rows["l"]) == ["succeeded", None, None, "skipped"]
    assert found.n_left_out == 2


def test_without_a_shared_attack_there_is_no_worst_case() -> None:
    grid = grid_of({("f", "t", "a"): {"x": "r"}, ("l", "t", "b"): {"x": "r"}})

    found = worst_case(grid, ["f", "l"], "t", ["a", "b"])

    assert (found.attacks, found.rows, found.n_left_out) == ((), {}, 0)


def test_places_are_of_each_test_sets_own_examples_and_groups_never_mix() -> None:
    grid = grid_of({("f", "t", "a"): {"x": "r", "y": "b"}, ("f", "u", "a"): {"y": "b", "z": "s", "x": "r"}})

    assert grid.on("f", "t")["a"].tolist() == [0, 1] and grid.on("f", "u")["a"].tolist() == [2, 3, 4]
    assert grid.robust.tolist() == [1, 0, 0, 0, 1] and grid.clean.tolist() == [1, 1, 1, 0, 1]
    assert len(set(grid.groups.tolist())) == 5


def test_what_was_answered_to_voided_originals_is_unknown_and_nothing_else() -> None:
    cells = [("t", "none"), ("t", "a"), ("t", "z"), ("u", "none")]
    grid = grid_of({("f", *cell): {"x": "r", "y": "s"} for cell in cells})

    voided = without_originals(grid, ["t"])

    assert voided.clean.tolist() == [-1, -1, 1, 0, 1, 0, 1, 0]
    assert voided.robust.tolist() == grid.robust.tolist()
    assert without_originals(grid, []) is grid


def test_a_clean_answer_is_known_from_the_set_as_it_stands_or_from_any_attack() -> None:
    """Of w only the set tells, of x only the second attack, of y nothing; on u nothing counts for t."""
    plain, one, two = {"w": "r", "x": "e", "y": "e", "z": "b"}, {"x": "e", "z": "s"}, {"x": "b", "y": "e"}
    grid = grid_of(
        {("f", "t", "none"): plain, ("f", "t", "a"): one, ("f", "t", "b"): two, ("f", "u", "a"): {"y": "r"}}
    )
    grid.robust[:4] = [1, -1, -1, 0]  # the answers as they stand

    assert grid.clean_answers("f", "t").tolist() == [1, 1, -1, 0]
