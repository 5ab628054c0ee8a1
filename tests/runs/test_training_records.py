"""Tables name a method as its training does, and say what the training cost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustness import CheckpointPair, RunSettings, api
from robustness.definitions.pairs import PairEntry, write_pairs
from robustness.reports.summaries.terminal import render_summary
from robustness.reports.tables.columns import Table

SECONDS = {"full": 30.0, "lora": 10.0, "lora+freelb": 31.5}


@pytest.fixture(scope="module")
def report(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of full, LoRA and LoRA with FreeLB by their training records, each PEFT arm also against the other."""
    folder = tmp_path_factory.mktemp("records")
    for method, seconds in SECONDS.items():
        place = folder / method.replace("+", "-")
        shutil.copytree(tiny.full if method == "full" else tiny.peft, place)
        fingerprint = {"method": method, "seed": 0, "settings": {"adversarial": method}}
        (place / "training.json").write_text(json.dumps({"fingerprint": fingerprint, "seconds": seconds}))
    common: dict[str, Any] = {"task": "sst2", "base": str(tiny.base), "seed": 0}
    write_pairs(
        folder / "pairs.toml",
        [
            PairEntry(name="lora", full="full", peft="lora", **common),
            PairEntry(name="lora-freelb", full="full", peft="lora-freelb", **common),
            PairEntry(name="lora-freelb-against-lora", reference="lora", candidate="lora-freelb", **common),
        ],
    )
    settings = RunSettings(data=tiny.data, testsets=[str(tiny.testset)], attacks=("deepwordbug",), limit=8)
    return api.run("smoke", folder / "pairs.toml", folder / "run", settings)


def test_one_table_has_full_lora_and_lora_adversarially_trained_with_their_cost(report: Any) -> None:
    attacks = report.tables[Table.ATTACKS]

    found = attacks.drop_duplicates("checkpoint").set_index("method")
    assert dict(found["train_seconds"]) == SECONDS
    assert dict(found["adaptation"]) == {"full": "full", "lora": "lora", "lora+freelb": "lora"}


def test_a_pair_has_its_candidates_method_and_cost(report: Any) -> None:
    pairs = report.tables[Table.PAIRS].drop_duplicates("pair").set_index("pair")

    assert dict(pairs["method"]) == {
        "lora": "lora",
        "lora-freelb": "lora+freelb",
        "lora-freelb-against-lora": "lora+freelb",
    }
    assert list(pairs["contrast"]) == ["full-vs-peft", "full-vs-peft", "peft-vs-peft"]
    assert list(pairs["train_seconds"]) == [10.0, 31.5, 31.5]
    assert pairs["method_digest"].nunique() == 2


def test_terminal_and_page_tell_the_arms_apart(report: Any) -> None:
    said = "\n".join(str(getattr(part, "text", part)) for part in render_summary(report))
    page = (report.folder / "report.html").read_text()

    assert "pair lora-freelb: LoRA with FreeLB (candidate) beside full fine-tuning (reference)" in said
    assert "pair lora-freelb-against-lora: LoRA with FreeLB (candidate) beside LoRA (reference)" in said
    assert "lora+freelb" in page


def test_csv_files_end_in_the_cost_and_then_the_share_as_new_columns_do(report: Any) -> None:
    for table in (Table.ATTACKS, Table.PAIRS):
        columns = list(pd.read_csv(report.folder / f"{table}.csv").columns)
        assert columns[-2:] == ["train_seconds", "trainable_share"]


def test_checkpoints_without_a_record_are_called_as_they_are_found(tiny: Any, tmp_path: Path) -> None:
    settings = RunSettings(data=tiny.data, testsets=[str(tiny.testset)], attacks=("identity",), limit=4)
    arms = CheckpointPair(reference=str(tiny.full), candidate=str(tiny.peft), task="sst2", base=str(tiny.base))
    found = api.run("smoke", arms, tmp_path / "run", settings).tables[Table.ATTACKS]

    assert set(found["method"]) == {"full", "lora"}
    assert found["train_seconds"].isna().all()
