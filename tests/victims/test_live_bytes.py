from __future__ import annotations

import pytest
import torch

from robustness.victims.live_bytes import LiveBytes


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_peak_is_that_of_the_tensors_that_live_at_once(device: str) -> None:
    weight = torch.zeros(10, device=device)

    with LiveBytes([weight]) as live:
        first = weight + 1
        view = first[:5]
        second = view * 2
        del first, second  # the view keeps the first one's memory
        held = live.held
        del view

    assert (live.peak, held, live.held) == (40 + 20, 40, 0)
