"""Methods with a defence in a study's answer: families of their own, and no plain full fine-tuning among them."""

from __future__ import annotations

from pathlib import Path

import pytest
from generated_studies import FULL, Method, Shape, ranks, write_study

from robustness.reports.studies.study import StudyReport, build_study
from robustness.reports.studies.trends import Dose
from robustness.stats import Trend

STURDY_FULL = Method("full+freelb", FULL.parameters, robust=0.85, defence="freelb")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> StudyReport:
    """Plain LoRA rises with its rank, LoRA under FreeLB falls from far above it, full under FreeLB is the best."""
    methods = (FULL, STURDY_FULL, *ranks(0.06, robust=0.2), *ranks(-0.06, robust=0.8, defence="freelb"))
    folder = tmp_path_factory.mktemp("defended") / "study"
    return build_study(write_study(folder, Shape(methods=methods, n=200)))


def test_a_trend_is_of_plain_or_of_defended_checkpoints_alone(report: StudyReport) -> None:
    trends = {
        each.series.name: each
        for each in report.findings.trends
        if each.measured.is_pooled
        and each.series.dose is Dose.PARAMETERS
        and each.measured.measure == "robust_accuracy"
    }

    assert {name: each.verdict for name, each in trends.items()} == {"lora": Trend.RISES, "lora+freelb": Trend.FALLS}
    assert {arm.defence for arm in trends["lora"].series.arms} == {""}
    assert {arm.defence for arm in trends["lora+freelb"].series.arms} == {"freelb"}


def test_plain_full_fine_tuning_alone_is_what_others_are_compared_with(report: StudyReport) -> None:
    table = report.tables["study_table"].set_index("method")
    full, sturdy = (table[table["attack"] == "swap"].loc[name] for name in ("full", "full+freelb"))

    assert str(full["difference"]) == "nan"
    assert sturdy["difference"] == pytest.approx(full["value"] - sturdy["value"])
    assert sturdy["verdict"] == "reference-more-fragile"
    assert any(
        "full+freelb" in each and "less fragile than full fine-tuning" in each for each in report.answers.methods
    )


def test_claims_on_peft_are_held_against_plain_peft(report: StudyReport) -> None:
    named = {finding.about for topic in report.findings.topics for finding in topic.findings}

    assert named and not any("freelb" in each for each in named)


def test_a_study_of_before_defences_is_read_as_plain(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", Shape())
    path = folder / "checkpoints.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line.rsplit(",", 3)[0] for line in lines) + "\n")

    found = build_study(folder).study.checkpoints

    assert {each.is_plain_peft for each in found if each.method != "full"} == {True}
    assert {each.is_plain_peft for each in found if each.method == "full"} == {False}
