from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.testsets.drawing import draw
from robustness.testsets.example import Example

SORTED = tuple(Example(f"s:{number}", (f"text {number}",), label=int(number >= 60)) for number in range(80))
GROUPED = tuple(
    Example(f"g:{number}", (f"text {number}",), label=number % 2, group_id=f"group {number // 4}")
    for number in range(80)
)


def of_labels(counts: list[int]) -> list[Example]:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    return [Example(str(number), (f"text {number}",), label=label) for number, label in enumerate(labels)]


def test_a_file_sorted_by_label_gives_a_draw_with_the_labels_of_the_whole() -> None:
    assert Counter(example.label for example in draw(SORTED, 20, "0")) == {0: 15, 1: 5}


@given(st.lists(st.integers(1, 60), min_size=2, max_size=3), st.data())
def test_each_label_has_its_share_of_a_draw_but_for_less_than_one_row(counts: list[int], data: st.DataObject) -> None:
    total = sum(counts)
    limit = data.draw(st.integers(1, total))

    drawn = Counter(example.label for example in draw(of_labels(counts), limit, "0"))

    assert sum(drawn.values()) == limit
    for label, count in enumerate(counts):
        assert abs(drawn[label] - limit * count / total) < 1


def test_many_labels_of_one_size_are_drawn_alike() -> None:
    drawn = Counter(example.label for example in draw(of_labels([13] * 77), 77 * 3, "0"))

    assert set(drawn.values()) == {3}


@pytest.mark.parametrize("limit", [8, 9, 10, 11])
def test_a_limit_cuts_one_group_at_most(limit: int) -> None:
    sizes = Counter(example.group for example in draw(GROUPED, limit, "0"))

    assert sum(size < 4 for size in sizes.values()) == (limit % 4 > 0)


@given(st.integers(1, 80), st.integers(1, 80))
def test_a_smaller_limit_draws_a_part_of_what_a_larger_one_draws(one: int, other: int) -> None:
    for rows in (SORTED, GROUPED):
        small, large = draw(rows, min(one, other), "0"), draw(rows, max(one, other), "0")

        assert set(small) <= set(large)


def test_drawn_rows_stand_as_they_did_and_are_not_the_first() -> None:
    numbers = [int(example.id.removeprefix("s:")) for example in draw(SORTED, 20, "0")]

    assert numbers == sorted(numbers)
    assert numbers[:15] != list(range(15))


def test_another_key_draws_other_rows_and_neither_order_nor_ids_matter() -> None:
    renamed = [replace(example, id=f"other:{index}") for index, example in enumerate(reversed(SORTED))]

    assert draw(SORTED, 20, "1") != draw(SORTED, 20, "0")
    assert {example.texts for example in draw(renamed, 20, "0")} == {
        example.texts for example in draw(SORTED, 20, "0")
    }


@pytest.mark.parametrize("limit", [None, 80, 81])
def test_without_a_limit_that_binds_all_rows_stay(limit: int | None) -> None:
    assert draw(GROUPED, limit, "0") == GROUPED


def test_every_row_is_drawn_about_as_often_as_another() -> None:
    times = Counter(example.id for key in range(400) for example in draw(SORTED, 20, str(key)))

    # 400 draws of a quarter: mean 100, standard deviation 8.7.
    assert len(times) == 80 and min(times.values()) > 65 and max(times.values()) < 135
