from __future__ import annotations

import pytest
from frames import Spilling

from robustness.engine import gradient_desk
from robustness.engine.attack import Gradients
from robustness.engine.gradient_desk import GradientAccount, answer_gradients
from robustness.tasks.objective import Objective
from robustness.testsets.example import Example


def test_memory_is_freed_once_no_frame_of_a_failed_call_holds_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    spilling = Spilling()
    monkeypatch.setattr(gradient_desk, "_answer", spilling)
    monkeypatch.setattr(gradient_desk, "recover", spilling.recover)
    accounts = [GradientAccount(Gradients([Example(name, ("film",), 0)])) for name in "ab"]

    answer_gradients(None, accounts, Objective())  # type: ignore[arg-type]

    assert spilling.held == [0, 0, 0]  # both, then each alone
    assert [str(account.fault) for account in accounts] == ["no memory"] * 2
