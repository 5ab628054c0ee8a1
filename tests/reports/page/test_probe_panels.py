"""Which numbers of probes are drawn, and under which names."""

from __future__ import annotations

from typing import Any

import pandas as pd

from robustness.reports.page.probe_panels import find_telling, name_panels

VALUES = {"full": [1.0, 2.0], "lora": [3.0, 4.0]}


def test_what_supports_a_claim_is_drawn_first_and_outcomes_and_lengths_not_at_all(measured: Any) -> None:
    """Twelve panels of gradients in three units hid the distances."""
    numbers = ("margin-gradient", "margin-gradient-per-token-norm", "robust-to-one-substitution", "relative-distance")
    frame = pd.concat([measured.rows(VALUES, quantity=name, probe=name) for name in numbers], ignore_index=True)
    frame.loc[frame["quantity"] == "robust-to-one-substitution", "value"] = 1.0

    assert list(dict.fromkeys(find_telling(frame)["quantity"])) == ["relative-distance", "margin-gradient"]


def test_numbers_at_several_norms_radii_or_levels_of_noise_share_no_panel(measured: Any) -> None:
    frame = pd.concat(
        [
            measured.rows(VALUES, quantity="certified-radius", norm="l2", sigma=0.05),
            measured.rows(VALUES, quantity="certified-radius", norm="l2", sigma=0.2),
            measured.rows(VALUES, quantity="distance", norm="l2"),
            measured.rows(VALUES, quantity="distance", norm="linf"),
            measured.rows(VALUES, quantity="alone", norm="l2", radius=0.2),
        ]
    )

    assert list(dict.fromkeys(name_panels(frame)["quantity"])) == [
        "certified-radius sigma 0.05",
        "certified-radius sigma 0.2",
        "distance l2",
        "distance linf",
        "alone",
    ]
