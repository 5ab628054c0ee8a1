"""An attack that fails on every text ends the run; one that fails now and then does not."""

from __future__ import annotations

from itertools import permutations

import pytest

from robustness.engine.failures.crashes import Crash, Crashes
from robustness.errors import AttackError, DataError
from robustness.testsets.example import Example


def crash(place: int, error: BaseException | None = None, group: str = "") -> Crash:
    return Crash(Example(f"row-{place}", ("a film",), 1, group_id=group), error or KeyError("word"))


def ends(*endings: Crash | bool, order: tuple[int, ...] = ()) -> bool:
    crashes = Crashes("mine")
    try:
        for place in order or range(len(endings)):
            crashes.add(place, endings[place])
    except AttackError:
        return True
    return False


def test_three_crashes_of_one_kind_in_a_row_end_the_attack_and_its_error_is_named() -> None:
    crashes = Crashes("mine")
    crashes.add(0, crash(0))
    crashes.add(1, crash(1))

    with pytest.raises(AttackError, match="attack mine: failed on 3 .*, the last .* 'row-2', with KeyError: 'wo"):
        crashes.add(2, crash(2))


def test_an_example_that_was_not_attacked_counts_neither_way() -> None:
    assert ends(crash(0), False, crash(2), False, crash(4))


def test_a_search_that_came_to_its_end_begins_the_row_anew() -> None:
    assert not ends(crash(0), crash(1), True, crash(3), crash(4))


def test_errors_of_other_kinds_begin_the_row_anew() -> None:
    assert not ends(crash(0), crash(1), crash(2, ValueError()), crash(3), crash(4))


def test_examples_of_one_group_count_as_one() -> None:
    assert not ends(*(crash(place, group="question") for place in range(5)))


def test_an_attack_that_says_what_it_lacks_errors_its_rows_alone() -> None:
    assert not ends(*(crash(place, DataError("no word list")) for place in range(5)))


def test_a_broken_protocol_is_a_crash() -> None:
    assert ends(*(crash(place, AttackError("returned str")) for place in range(3)))


def test_the_order_in_which_examples_end_does_not_matter() -> None:
    endings = (crash(0), crash(1), True, crash(3), crash(4))

    assert not any(ends(*endings, order=order) for order in permutations(range(5)))
