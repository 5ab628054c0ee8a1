from __future__ import annotations

import pytest

from robustness.stats.plausibility import OriginalsTally, are_implausible


@pytest.mark.parametrize(
    ("tallies", "expected"),
    [
        ([(9, 11, 20), (10, 11, 20)], True),
        ([(9, 11, 20), (11, 11, 20)], False),  # one arm is as good as the commonest label
        ([(15, 11, 20), (14, 11, 20)], False),  # both are better
        ([(8, 10, 19), (8, 10, 19)], False),  # too few
        ([(9, 11, 20), (10, 10, 19)], True),  # the second has not been evaluated far enough to say anything
        ([], False),
    ],
)
def test_labels_are_implausible_where_every_checkpoint_is_below_the_commonest(
    tallies: list[tuple[int, int, int]], expected: bool
) -> None:
    assert are_implausible([OriginalsTally(*tally) for tally in tallies]) is expected
