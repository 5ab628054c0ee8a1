from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from robustness.errors import UsageError
from robustness.victims import cpu_features as instructions
from robustness.victims.loading import place

DIES = "import os, signal; os.kill(os.getpid(), signal.SIGILL)"


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    """Each test tries a layer anew."""
    instructions._try_layer.cache_clear()
    yield
    instructions._try_layer.cache_clear()


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
def test_bfloat16_is_refused_where_its_kernels_end_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "PROBE", DIES)

    with pytest.raises(UsageError, match=r"exit code -4.*ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16.*--dtype float32"):
        place("cpu", "bfloat16")
    assert place("cpu", "float32").dtype is torch.float32


def test_bfloat16_is_taken_where_a_layer_runs_and_it_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "PROBE", "pass")
    assert place("cpu", "bfloat16").dtype is torch.bfloat16

    monkeypatch.setattr(instructions, "PROBE", DIES)

    assert place("cpu", "bfloat16").dtype is torch.bfloat16


def test_without_onednn_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "PROBE", DIES)

    with torch.backends.mkldnn.flags(enabled=False):
        assert place("cpu", "bfloat16").dtype is torch.bfloat16


def test_on_this_processor_bfloat16_is_refused_or_works() -> None:
    """Whatever it has: no signal ends the process that asks first."""
    code = f"from robustness.victims.loading import place; place('cpu', 'bfloat16'); {instructions.PROBE}"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0 or (done.returncode == 1 and "UsageError: --dtype bfloat16" in done.stderr)
