from __future__ import annotations

import pytest

from robustness.errors import UsageError
from robustness.training.protocol import TrainingSettings


def test_no_warmup_share_is_no_warmup_step() -> None:
    assert TrainingSettings(warmup_share=0.0).warmup_steps(1000) == 0


def test_a_last_batch_that_is_not_full_counts_as_a_step() -> None:
    assert TrainingSettings(epochs=1, batch_size=10, warmup_share=1.0).warmup_steps(11) == 2


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"warmup_share": 1.5}, {"max_grad_norm": float("inf")}])
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        TrainingSettings(**wrong)
