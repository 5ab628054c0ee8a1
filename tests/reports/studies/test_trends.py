"""Trends of a study: truths that rise, fall or stay are found, and what cannot be known is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from generated_studies import FULL, Method, Shape, ranks, write_study

from robustness.reports.studies.columns import StudyTable
from robustness.reports.studies.folder import Matching
from robustness.reports.studies.measures import Measure, effort_of
from robustness.reports.studies.scores import gather_scores
from robustness.reports.studies.study import StudyReport, build_study
from robustness.reports.studies.trends import Dose, DoseTrend
from robustness.reports.tables.columns import Table
from robustness.reports.tables.csvfiles import read_table
from robustness.stats import Trend


def primary(
    report: StudyReport, *, matching: str = "best", measure: str = "robust_accuracy", series: str = "lora"
) -> DoseTrend:
    found = [
        each
        for each in report.findings.trends
        if each.measured.is_pooled
        and (each.series.matching, each.measured.measure, each.series.name) == (matching, measure, series)
    ]
    assert len(found) == 1
    return found[0]


def test_a_rising_truth_is_found_with_its_size(rising_report: StudyReport) -> None:
    found = primary(rising_report)
    doublings = np.log2([2_000 + 9_000 * rank for rank in (1, 16)])
    truth = 0.9 * 0.05 * 4 / np.ptp(doublings)  # nine in ten are right before the attack

    assert found.verdict is Trend.RISES
    interval = found.slope.estimate.interval()
    assert interval.low < truth < interval.high
    assert len(found.measured.arms) == 14  # one training failed
    assert "robust accuracy rises with rank" in rising_report.answers.doses[0]
    assert any("matched on clean score: robust accuracy rises" in each for each in rising_report.answers.doses)


def test_effort_and_distance_are_doublings(rising_report: StudyReport) -> None:
    for measure in ("effort", "distance"):
        found = primary(rising_report, measure=measure)

        assert found.verdict is Trend.RISES
        assert found.slope.estimate.difference == pytest.approx(
            np.polyfit(found.doses, np.log2(found.measured.values), 1)[0], abs=0.05
        )


def test_a_falling_truth_is_found(told) -> None:
    found = told(Shape(methods=(FULL, *ranks(-0.06, robust=0.6)), n=150))

    assert primary(found).verdict is Trend.FALLS
    assert "robust accuracy falls with rank, by" in found.answers.doses[0]


def test_no_trend_says_what_would_have_been_found(told) -> None:
    found = told(Shape(methods=(FULL, *ranks(0.0)), n=60, seed_sd=0.06), seed=3)

    trend = primary(found)
    assert trend.verdict is Trend.NO_TREND
    assert f"a trend of {100 * trend.detectable:.1f} points per doubling" in found.answers.doses[0]


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (Shape(seeds=2), "a trend needs 3 doses and 3 training seeds"),
        (Shape(methods=(FULL, *ranks(of=(4, 8)))), "a trend needs 3 doses and 3 training seeds"),
        (Shape(methods=(FULL, *ranks(robust=0.0)), seed_sd=0.01), "it is at the floor everywhere"),
    ],
)
def test_too_little_data_is_said(told, shape: Shape, words: str) -> None:
    found = told(shape)

    assert primary(found).verdict is Trend.NOT_ENOUGH_DATA
    assert "not enough data on robust accuracy" in found.answers.doses[0]
    assert words in found.answers.doses[0]


def test_one_size_has_no_series(told) -> None:
    found = told(Shape(methods=(FULL, Method("bitfit", 6_000))))

    assert found.findings.trends == ()
    assert found.answers.doses == ()


def test_rows_are_a_dose_of_every_method(told) -> None:
    shape = Shape(
        methods=(FULL, Method("lora-r8", 9_000, robust=0.3)),
        rows=(500, 1000, 2000, 4000),
        n=150,
        rows_slope=lambda method: 0.06 if method.name == "full" else 0.0,
    )

    found = told(shape)

    assert {each.series.name for each in found.findings.trends if each.series.dose is Dose.ROWS} == {
        "full",
        "lora-r8",
    }
    assert primary(found, series="full").verdict is Trend.RISES
    assert any("robust accuracy rises with training rows" in each for each in found.answers.doses)
    topic = next(each for each in found.findings.topics if each.claim.name == "Further data")
    assert topic.status == "supported"


def test_doses_have_every_checkpoint_once_in_a_block(rising_report: StudyReport) -> None:
    doses = rising_report.tables[StudyTable.DOSES]

    pooled = doses[(doses["testset"] == "all") & (doses["measure"] == "robust_accuracy")]
    assert not pooled.duplicated(["checkpoint", "matching"]).any()
    assert len(pooled) == 2 * 20  # seven methods of three seeds at two matchings, a training of each failed
    full = pooled[pooled["family"] == "full"].sort_values("train_seed")
    best, clean = (full[full["matching"] == each]["value"].tolist() for each in Matching)
    assert best == clean


def test_effort_is_a_quantile_of_the_examples_that_all_have_right(rising: Path) -> None:
    study = build_study(rising).study
    cell = next(each for each in gather_scores(study).cells if each.attack == "swap")
    frames = [read_table(Table.EXAMPLES, run.folder / "examples.csv") for run in study.runs]
    rows = {
        (checkpoint, row.example_id): row
        for frame in frames
        for checkpoint, part in frame[frame["attack"] == "swap"].groupby("checkpoint")
        for row in part.itertuples()
    }
    arm = cell.arms[4].name
    right = [f"e{i}" for i in range(150) if all(rows[each.name, f"e{i}"].clean_correct == 1 for each in cell.arms)]
    spent = sorted(rows[arm, each].queries if rows[arm, each].status == "succeeded" else np.inf for each in right)

    found = effort_of(cell)

    assert found is not None
    share = float(found.unit.split()[-2]) / 100
    assert (found.n, found.measure) == (len(right), Measure.EFFORT)
    assert found.values[4] == spent[int(np.ceil(share * len(right))) - 1]


def test_rows_chosen_by_both_arms_of_a_pair_are_in_no_trend(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", Shape(sets=("adv-0",)))
    record = folder / "runs/sst2-best/run.json"
    record.write_text(record.read_text().replace('"attacked": null', '"attacked": 20'))

    found = build_study(folder)

    assert set(found.tables[StudyTable.TRENDS]["attack"]) <= {"none", "all"}
    assert set(found.tables[StudyTable.STUDY_TABLE]["attack"]) == {"none", "all"}
    assert any("both arms of a pair chose" in each for each in found.answers.caveats)


def test_topics_are_decided_by_intervals(rising_report: StudyReport) -> None:
    found = {each.claim.name: each.status.value for each in rising_report.findings.topics}

    assert list(found) == ["Subset", "Capacity", "Further parameters", "Further data", "Perturbation"]
    assert found["Capacity"] == "supported"
    assert found["Perturbation"] == "supported"
    assert found["Further data"] == "undecided"


def test_the_sentence_on_a_topic_has_the_counts_and_the_narrowest_deciding_interval(
    rising_report: StudyReport,
) -> None:
    topic = next(each for each in rising_report.findings.topics if each.claim.name == "Perturbation")
    said = next(each for each in rising_report.answers.topics if each.startswith("Perturbation"))
    decided = [each for each in topic.findings if each.interval.low > 0]
    narrowest = sorted(decided, key=lambda each: each.interval.high - each.interval.low)[0]

    assert said.startswith("Perturbation, supported by this study: PEFT is more sensitive")
    assert f"Of 5 intervals: {len(decided)} supported and {5 - len(decided)} undecided." in said
    assert f"is of {narrowest.about}: +{100 * narrowest.value:.1f} points, interval" in said


def test_one_contradicted_interval_decides_a_claim_on_all_and_none_on_any(told) -> None:
    found = told(Shape(methods=(FULL, Method("ia3", 3_000, robust=0.95), Method("bitfit", 6_000, robust=0.3)), n=150))

    topics = {each.claim.name: each for each in found.findings.topics}
    for name, status in (("Subset", "contradicted"), ("Perturbation", "undecided")):
        assert {each.about: each.status.value for each in topics[name].findings} == {
            "sst2, ia3": "contradicted",
            "sst2, bitfit": "supported",
        }
        assert topics[name].status.value == status


def test_a_more_robust_method_contradicts_the_paper(told) -> None:
    found = told(Shape(methods=(FULL, *ranks(0.0, robust=0.95, of=(2, 4, 8))), n=150))

    statuses = {each.claim.name: each.status.value for each in found.findings.topics}
    assert statuses["Subset"] == "contradicted"
    assert statuses["Perturbation"] == "contradicted"


def test_properties_say_how_many_checkpoints(rising_report: StudyReport) -> None:
    frame = rising_report.tables[StudyTable.PROPERTIES]

    assert set(frame["property"]) == {"effective rank", "relative norm", "intruder dimensions"}
    norm = frame[(frame["property"] == "relative norm") & (frame["matching"] == "best")].iloc[0]
    assert norm["rank_correlation"] < -0.8
    assert norm["n"] == 17  # six adapters of three seeds, one of which failed
    assert "Exploratory" in rising_report.answers.properties[0]
    assert "over 17 adapter checkpoints of 6 methods" in rising_report.answers.properties[0]
