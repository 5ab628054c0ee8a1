from __future__ import annotations

from robustness.stats.grouped import worst_per_group


def test_the_worst_of_each_group_is_kept() -> None:
    values, groups = worst_per_group([0.5, 1.0, 0.0, 0.75], ["b", "a", "b", "a"])

    assert list(zip(groups, values, strict=True)) == [("a", 0.75), ("b", 0.0)]
