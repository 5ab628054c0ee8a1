from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from robustness.testsets.example import Example
from robustness.testsets.halves import halve


@given(st.lists(st.integers(1, 40), min_size=2, max_size=3))
def test_the_halves_share_no_row_and_both_have_half_of_each_label(counts: list[int]) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    rows = [Example(str(number), (f"text {number}",), label=label) for number, label in enumerate(labels)]

    halves = halve(rows)

    assert sorted(int(e.id) for e in (*halves.selecting, *halves.reporting)) == list(range(len(rows)))
    assert abs(len(halves.selecting) - len(halves.reporting)) <= 1
    for half in (halves.selecting, halves.reporting):
        found = Counter(example.label for example in half)
        assert all(abs(found[label] - count / 2) <= 1 for label, count in enumerate(counts))


@given(st.lists(st.integers(1, 9), min_size=2, max_size=30))
def test_groups_are_whole_and_the_halves_differ_by_no_more_than_the_largest(sizes: list[int]) -> None:
    rows = [
        Example(f"{group}-{number}", (f"text {group} {number}",), label=number % 2, group_id=f"group {group}")
        for group, size in enumerate(sizes)
        for number in range(size)
    ]

    halves = halve(rows)

    assert not {example.group for example in halves.selecting} & {example.group for example in halves.reporting}
    assert halves.selecting and halves.reporting
    assert abs(len(halves.selecting) - len(halves.reporting)) <= max(sizes)


def test_a_shuffled_copy_with_other_ids_has_the_same_halves() -> None:
    rows = [Example(f"file:{number}", (f"text {number}",), label=number % 2) for number in range(50)]
    copy = [Example(f"hub:{number}", example.texts, example.label) for number, example in enumerate(reversed(rows))]

    assert {e.texts for e in halve(rows).selecting} == {e.texts for e in halve(copy).selecting}


def test_rows_of_one_group_select_nothing() -> None:
    rows = [Example(str(number), (f"text {number}",), label=0, group_id="one") for number in range(5)]

    assert halve(rows).selecting == ()
    assert halve(rows).reporting == tuple(rows)
