"""Clean answers that are known of some examples alone: what rests on these, and what a reader is told."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from generated_studies import FULL, Method, Shape, write_study

from robustness.reports.studies.columns import StudyTable
from robustness.reports.studies.differences import compare_with_full
from robustness.reports.studies.layouts import place, to_markdown
from robustness.reports.studies.study import StudyReport, build_study, caption
from robustness.reports.studies.topics import Topic
from robustness.reports.tables.columns import Table
from robustness.reports.tables.csvfiles import read_table, write_table

N = 120
ATTACKED_AND_FIXED = Shape(
    methods=(FULL, Method("lora-r8", 74_000, robust=0.3, clean=0.85)), sets=("set-0", "adv-1"), n=N
)
FIXED = Shape(methods=(FULL, Method("ia3", 3_000, clean=0.5)), sets=("adv-1",), attacks=(), n=N)


def _write(folder: Path, shape: Shape, known: int, **answers: object) -> Path:
    """A study whose adversarial set is not attacked, and has known originals of its first examples alone.

    Their answers are those to the rows themselves, unless others are given for these examples.
    """
    write_study(folder, shape)
    path = folder / "runs/sst2-best/examples.csv"
    rows = read_table(Table.EXAMPLES, path)
    rows = rows[(rows["testset"] != "sst2-adv-1") | (rows["attack"] == "none")].reset_index(drop=True)
    mine = (rows["testset"] == "sst2-adv-1") & rows["example_id"].isin(_ids(known))
    rows["clean_correct"] = rows["clean_correct"].where(~mine, rows["correct"])
    for column, value in answers.items():
        rows[column] = rows[column].where(~mine, value)
    write_table(rows, Table.EXAMPLES, path)
    return folder


def _ids(known: int) -> Collection[str]:
    return [f"e{i}" for i in range(known)]


def _scores(folder: Path) -> pd.DataFrame:
    """Mean score and clean answer of each checkpoint and example, without the clean set as it stands."""
    rows = read_table(Table.EXAMPLES, folder / "runs/sst2-best/examples.csv")
    rows = rows[(rows["attack"] != "none") | (rows["testset"] == "sst2-adv-1")]
    holds = np.where(rows["attack"] == "none", rows["correct"] == 1, rows["status"] == "failed").astype(float)
    clean = rows["clean_correct"].to_numpy(dtype=float, na_value=np.nan)
    by_example = rows.assign(robust=holds, clean=clean).groupby(["checkpoint", "testset", "example_id"])
    return by_example[["robust", "clean"]].mean()


def _pooled(report: StudyReport, method: str) -> pd.Series:
    table = report.tables[StudyTable.STUDY_TABLE]
    return table[(table["method"] == method) & (table["testset"] == "all")].iloc[0]


def _perturbation(report: StudyReport) -> Topic:
    return next(each for each in report.findings.topics if each.claim.name == "Perturbation")


def test_some_examples_without_a_clean_answer_leave_fragility_to_be_told_from_the_others(tmp_path: Path) -> None:
    folder = _write(tmp_path / "study", ATTACKED_AND_FIXED, known=90)
    scores = _scores(folder)
    breaks, drops = [], []
    for seed in range(3):
        full, lora = scores.loc[f"sst2-full-{seed}"], scores.loc[f"sst2-lora-r8-{seed}"]
        both = (full["clean"] == 1) & (lora["clean"] == 1)
        breaks.append((full["robust"] - lora["robust"])[both].mean())
        drops.append(((lora["clean"] - lora["robust"]) - (full["clean"] - full["robust"])).mean())
    clean = scores["clean"].groupby("checkpoint").mean()

    report = build_study(folder)

    found, topic = _pooled(report, "lora-r8"), _perturbation(report)
    assert (found["n"], found["n_clean"]) == (N + N, N + 90)
    assert found["clean_value"] == pytest.approx(np.mean([clean[f"sst2-lora-r8-{seed}"] for seed in range(3)]))
    assert found["clean_value"] < 0.89  # full's is .9: the mean is of the method's own answers
    assert (found["verdict"], found["reason"]) == ("peft-more-fragile", "")
    (finding,) = topic.findings
    assert finding.value == pytest.approx(np.mean(breaks))
    assert finding.about == f"sst2, lora-r8 ({N + 90} of {N + N} examples, whose clean answers are known)"
    (cell,) = [each for each in report.findings.scores.cells if each.testset == "all"]
    compared = compare_with_full(cell, cell.arms[:3], cell.arms[3:])
    assert compared is not None and compared.known is not None
    assert compared.known.drop.difference == pytest.approx(np.mean(drops))


def test_a_reader_is_told_how_many_clean_answers_are_known(tmp_path: Path) -> None:
    report = build_study(_write(tmp_path / "study", ATTACKED_AND_FIXED, known=90))

    found, doses = _pooled(report, "lora-r8"), report.tables[StudyTable.DOSES]
    said = report.answers.methods[0]
    assert "(240 examples, clean answers known for 210: all test sets and attacks as one)" in said
    assert said.endswith("is more fragile than full fine-tuning.")
    clean = doses[(doses["testset"] == "all") & (doses["measure"] == "clean_accuracy")]
    assert set(clean["n"]) == {210}
    assert clean.loc[clean["method"] == "lora-r8", "value"].mean() == pytest.approx(found["clean_value"])
    text = to_markdown(place(report.tables[StudyTable.STUDY_TABLE]), caption(report))
    assert f"{100 * found['clean_value']:.1f} (210) \u2192 {100 * found['value']:.1f}" in text
    assert "A number in parentheses counts the examples of a clean accuracy that is not of all." in text


def test_without_any_clean_answer_nothing_is_said_of_clean_accuracy(tmp_path: Path) -> None:
    report = build_study(_write(tmp_path / "study", FIXED, known=0))

    found, topic = _pooled(report, "ia3"), _perturbation(report)
    assert (found["verdict"], found["reason"], found["n_clean"]) == ("less-accurate", "clean-unknown", 0)
    assert pd.isna(found["clean_value"])
    (said,) = report.answers.methods
    assert "clean answers known for none" in said
    assert said.endswith(
        "is different in robust accuracy, which may be a gap in clean accuracy, as not all clean answers are known."
    )
    assert topic.findings == () and topic.lacking.startswith("known answers to the clean texts")
    assert any("it lacks known answers to the clean texts" in each for each in report.answers.topics)


def test_a_difference_among_examples_without_clean_answers_alone_is_no_fragility(tmp_path: Path) -> None:
    """Both arms have the twelve known ones right, before and after: the difference is all in the others."""
    report = build_study(_write(tmp_path / "study", FIXED, known=12, correct=1, clean_correct=1))

    found = _pooled(report, "ia3")
    assert found["low"] > 0.1
    assert (found["verdict"], found["reason"], found["n_clean"]) == ("less-accurate", "clean-unknown", 12)
    assert "clean answers known for 12" in report.answers.methods[0]


def test_a_study_with_attacks_on_one_seed_lacks_attacks_and_seeds(told) -> None:
    report = told(Shape(methods=(FULL, Method("ia3", 3_000)), seeds=2))

    assert _perturbation(report).lacking.startswith("an attack under which a method and full fine-tuning have three")


def test_answers_to_originals_with_implausible_labels_are_not_known(tmp_path: Path) -> None:
    """All checkpoints have them wrong, where a constant answer has half of them right."""
    folder = _write(tmp_path / "study", ATTACKED_AND_FIXED, known=N, clean_correct=0, gold="positive")
    record = folder / "runs/sst2-best/run.json"
    content = json.loads(record.read_text())
    for testset in content["testsets"]:
        testset["labels"] = ["negative", "positive"]
    record.write_text(json.dumps(content))

    found = _pooled(build_study(folder), "lora-r8")

    assert (found["n"], found["n_clean"]) == (N + N, N)
