"""Peak memory of a whole run, over what the loaded model itself takes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

SCRIPT = """
import json, sys
from pathlib import Path
import torch
from robustness import api
from robustness.definitions.pairs import read_pairs
from robustness.definitions.tasks import find_task
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.loading import load_checkpoint, place, to_victim

def megabytes(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024

pairs, data, out = sys.argv[1:]
torch.set_num_threads(1)
pair = read_pairs(Path(pairs))[0]
checkpoint = read_checkpoint(pair.reference_name, pair.reference, pair.base)
victim = to_victim(load_checkpoint(checkpoint, find_task("sst2")), place("cpu"))
victim.scores([("a first text",)])
loaded = megabytes("VmRSS")
del victim
api.run("attacks-quick", pairs, out, data=data, limit=100)
print(json.dumps({"loaded_megabytes": loaded, "peak_megabytes": megabytes("VmHWM")}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from Linux's /proc")
def test_a_run_stays_within_1200_megabytes_over_the_loaded_model(
    minilm_pair: Path, shared_data: Path, tmp_path: Path, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    command = [sys.executable, "-c", SCRIPT, str(minilm_pair), str(shared_data), str(tmp_path / "run")]

    done = subprocess.run(command, capture_output=True, text=True, check=True)

    figures = json.loads(done.stdout.splitlines()[-1])
    figures["over_model_megabytes"] = figures["peak_megabytes"] - figures["loaded_megabytes"]
    save_result("memory", figures)
    assert figures["over_model_megabytes"] <= 1200
