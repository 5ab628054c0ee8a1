"""CUDA out of memory wherever gradients are taken: batches are halved, and the run ends as one with enough memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import BertForSequenceClassification

from robustness import RunSettings, api
from robustness.reports.tables.columns import Table

ATTACKS = ["fgsm", "hotflip-vocabulary"]
PROBES = ["margin-gradient", "jacobian-norm"]
COLUMNS = ["checkpoint", "attack", "example_id", "status", "adversarial_text", "queries"]


def run(tiny: Any, out: Path) -> Any:
    options: dict[str, Any] = {"data": tiny.data, "testsets": [str(tiny.testset)], "limit": 6}
    return api.run("smoke", tiny.pairs, out, RunSettings(attacks=ATTACKS, probes=PROBES, device="cpu", **options))


def measured(report: Any) -> Any:
    """The values of the probes, which are stored batch by batch, in one order."""
    table = report.tables[Table.SENSITIVITY_EXAMPLES]
    keys = ["checkpoint", "probe", "norm", "target", "example_id"]
    return table.assign(norm=table["norm"].fillna("")).set_index(keys)["value"].astype(float).sort_index()


def limit_memory(largest: int, patch: pytest.MonkeyPatch) -> list[int]:
    """Lets batches of more than `largest` texts run out of memory where gradients are taken; returns the sizes."""
    forward, sizes = BertForSequenceClassification.forward, []

    def limited(model: Any, *arguments: Any, **inputs: Any) -> Any:
        if not torch.is_inference_mode_enabled():
            sizes.append(len(inputs["input_ids"]))
            if sizes[-1] > largest:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return forward(model, *arguments, **inputs)

    patch.setattr(BertForSequenceClassification, "forward", limited)
    return sizes


@pytest.fixture(scope="module")
def whole(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run with enough memory."""
    return run(tiny, tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.parametrize("largest", [1, 3])
def test_a_gradient_that_does_not_fit_is_taken_in_halves(
    tiny: Any, whole: Any, tmp_path: Path, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = limit_memory(largest, monkeypatch)

    report = run(tiny, tmp_path / "run")

    assert max(sizes) > largest >= sorted(set(sizes))[0]
    assert report.n_errored == report.n_errored_measurements == report.missing == 0
    ours, theirs = (each.tables[Table.EXAMPLES][COLUMNS] for each in (report, whole))
    pd.testing.assert_frame_equal(ours, theirs)
    mine, expected = (measured(each) for each in (report, whole))
    assert mine.index.equals(expected.index)
    assert mine.to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-3, abs=1e-5)


def test_a_gradient_that_never_fits_errors_its_rows_and_the_run_goes_on(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        limit_memory(0, patch)
        report = run(tiny, tmp_path / "run")

    examples = report.tables[Table.EXAMPLES]
    errored = examples[examples["status"] == "errored"]
    assert set(errored["attack"]) == set(ATTACKS)
    assert errored["error"].str.contains("OutOfMemoryError: CUDA out of memory").all()
    assert report.n_errored_measurements == 2 * 6 * len(PROBES)
    assert run(tiny, tmp_path / "run").n_errored == 0  # with enough memory the same command finishes it
