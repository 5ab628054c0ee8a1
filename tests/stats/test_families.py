from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.stats import Correction, adjust, holm
from robustness.stats.families import benjamini_hochberg

# The fifteen p-values of Benjamini and Hochberg (1995), section 4.2: four rejected at q = 0.05.
PUBLISHED = [
    *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459),
    *(0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000),
]


def test_the_published_example_rejects_four_by_the_false_discovery_rate_and_three_by_holm() -> None:
    assert (benjamini_hochberg(PUBLISHED) <= 0.05).sum() == 4
    assert (holm(PUBLISHED) <= 0.05).sum() == 3


@given(st.lists(st.floats(0, 1), max_size=12))
def test_benjamini_hochberg_matches_its_definition(values: list[float]) -> None:
    m = len(values)
    order = sorted(range(m), key=lambda i: values[i])
    expected, running = {}, 1.0
    for rank in range(m, 0, -1):
        running = min(running, values[order[rank - 1]] * m / rank)
        expected[order[rank - 1]] = running

    assert benjamini_hochberg(values).tolist() == pytest.approx([expected[i] for i in range(m)])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_benjamini_hochberg_lies_between_the_raw_values_and_holms(values: list[float]) -> None:
    adjusted = benjamini_hochberg(values)

    assert (np.array(values) <= adjusted + 1e-12).all()
    assert (adjusted <= holm(values) + 1e-12).all()


def test_a_missing_test_does_not_count() -> None:
    adjusted = adjust([0.01, math.nan, 0.02], Correction.BENJAMINI_HOCHBERG)

    assert adjusted[[0, 2]].tolist() == [0.02, 0.02] and math.isnan(adjusted[1])
    assert adjust([0.01, 0.02], Correction.HOLM).tolist() == [0.02, 0.02]


def test_each_correction_is_the_one_it_is_named_for() -> None:
    assert adjust([0.01, 0.03, 0.04], Correction.HOLM).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert adjust([0.01, 0.03, 0.04], Correction.BENJAMINI_HOCHBERG).tolist() == pytest.approx([0.03, 0.04, 0.04])
