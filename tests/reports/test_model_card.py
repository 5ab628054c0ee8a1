"""Model cards, read back by the hub's own library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from huggingface_hub import ModelCard

from robustness import api
from robustness.reports.model_card import write_model_cards
from robustness.reports.summaries import summary
from robustness.reports.tables.columns import COLUMNS, Table


def test_the_hub_reads_every_score_of_a_checkpoint(run_writer: Any, tmp_path: Path) -> None:
    folder = run_writer.write(tmp_path / "run", run_writer.record())

    report = api.report(folder, model_card=True)

    assert {path.name for path in folder.glob("model-card-*")} == {"model-card-full-0.md", "model-card-lora-0.md"}
    card = ModelCard.load(folder / "model-card-lora-0.md")
    found = {(each.dataset_name, each.metric_name): each.metric_value for each in card.data.eval_results}
    attacks = report.tables[Table.ATTACKS]
    mine = attacks[attacks["checkpoint"] == "lora-0"]
    for row in mine.itertuples():
        name = "the worst case over all attacks" if row.attack == "worst-case" else row.attack
        assert found[(row.testset, f"accuracy under {name}")] == pytest.approx(row.robust_accuracy, abs=5e-5)
    static = report.tables[Table.TESTSETS]
    clean = static[(static["checkpoint"] == "lora-0") & (static["metric"] == "accuracy")].set_index("testset")[
        "value"
    ]
    assert found[("clean-set", "accuracy")] == pytest.approx(clean["clean-set"], abs=5e-5)
    assert {each.task_type for each in card.data.eval_results} == {"text-classification"}


def test_its_paragraph_says_beside_what_it_was_attacked_and_what_came_of_it(run_writer: Any, tmp_path: Path) -> None:
    folder = run_writer.write(tmp_path / "run", run_writer.record())

    report = api.report(folder, model_card=True)

    text = ModelCard.load(folder / "model-card-full-0.md").text
    assert "Full fine-tuning was attacked beside LoRA of the same base, base, on the same examples." in text
    assert report.verdict in text.replace("\\", "")
    assert "Clean accuracy before the run was 90.0 %" in text and "clean-set (n = 40)" in text


def test_a_card_asks_for_the_answers_about_the_pairs_of_its_checkpoint_alone(
    planted: Any, run_writer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = planted.table(*(planted.row(pair=f"pair-{seed}") for seed in range(3)))
    tables = {table: pd.DataFrame(columns=[column.name for column in COLUMNS[table]]) for table in Table}
    answered: list[str] = []
    real = summary.answer_rows
    monkeypatch.setattr(summary, "answer_rows", lambda name, *given: answered.append(name) or real(name, *given))

    write_model_cards(tmp_path, run_writer.record(seeds=3), tables | {Table.PAIRS: rows})

    assert answered == ["pair-0", "pair-0", "pair-1", "pair-1", "pair-2", "pair-2"]


def test_hostile_names_stay_text_and_make_files_of_their_own(
    run_writer: Any, hostile: tuple[str, ...], tmp_path: Path
) -> None:
    names: dict[str, str] = {}

    def name(plain: str) -> str:
        return names.setdefault(plain, f"{plain} {hostile[len(names) % len(hostile)]}")

    folder = run_writer.write(tmp_path / "run", run_writer.record(name, n=6))

    api.report(folder, model_card=True)

    cards = sorted(folder.glob("model-card-*.md"))
    assert len(cards) == 2
    for path in cards:
        card = ModelCard.load(path)
        assert card.data.eval_results and "<script>" not in card.text.replace("\\<script\\>", "")
