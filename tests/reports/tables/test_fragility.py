from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustness import api
from robustness.errors import RobustnessError
from robustness.reports.report import write_report
from robustness.reports.summaries.terminal import render_summary
from robustness.reports.tables.fragility import build_fragility
from robustness.runs.storage.record import StatisticsRecord, read_record
from robustness.stats import Correction, adjust, mcnemar_exact


@pytest.fixture(scope="module")
def report(run_writer: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = run_writer.write(tmp_path_factory.mktemp("fragility") / "run", run_writer.record(n=60))
    return write_report(folder)


def arm(report: Any, adaptation: str, testset: str, attack: str) -> pd.DataFrame:
    rows = report.tables["examples"]
    mine = rows[(rows["adaptation"] == adaptation) & (rows["testset"] == testset) & (rows["attack"] == attack)]
    return mine.set_index("example_id").sort_index()


def test_every_kind_of_place_is_there_surest_fragility_first(report: Any) -> None:
    table = report.tables["fragility"]

    assert set(table["where"]) == {
        *("test set", "attack", "attack family", "budget", "text length", "clean margin", "label"),
    }
    assert (np.diff(table["low"]) <= 0).all()
    assert table["verdict"].iloc[0] == "peft-more-fragile"
    assert not table[["p_adjusted", "difference", "n"]].isna().any().any()


def test_planned_comparisons_keep_their_verdict_of_pairs_csv(report: Any) -> None:
    planned = report.tables["fragility"]
    planned = planned[planned["where"].isin(["test set", "attack"])].set_index(["testset", "attack"]).sort_index()
    pairs = report.tables["pairs"]
    pairs = pairs[pairs["family"] == "planned"].set_index(["testset", "attack"]).sort_index()

    assert ("clean-set", "none") not in planned.index and ("adversarial-set", "none") in planned.index
    for column in ("difference", "low", "high", "p_adjusted", "verdict"):
        assert planned[column].tolist() == pairs[column].tolist()


def test_a_label_is_compared_on_its_own_examples(report: Any) -> None:
    table = report.tables["fragility"]
    row = table[(table["where"] == "label") & (table["what"] == "adversarial-set | positive")].iloc[0]
    full, peft = (arm(report, name, "adversarial-set", "none") for name in ("full", "lora"))
    right = [(part["correct"] == 1)[part["gold"] == "positive"] for part in (full, peft)]

    assert row["n"] == len(right[0])
    assert row["difference"] == pytest.approx(right[0].mean() - right[1].mean())
    assert row["p_value"] == pytest.approx(mcnemar_exact(right[0], right[1]).p_value)


def test_a_smaller_budget_breaks_only_what_cost_no_more(report: Any) -> None:
    table = report.tables["fragility"]
    row = table[(table["where"] == "budget") & (table["what"].str.startswith("clean-set | swap | queries"))].iloc[0]
    budget = float(row["what"].rpartition("<=")[2])

    for adaptation, column in (("full", "reference_value"), ("lora", "candidate_value")):
        part = arm(report, adaptation, "clean-set", "swap")
        broken = (part["status"] == "succeeded") & (part["queries"] <= budget)
        assert row[column] == pytest.approx(((part["status"] != "skipped") & ~broken).mean())


def test_the_explored_places_are_one_family_that_run_json_names(report: Any) -> None:
    table = report.tables["fragility"]
    explored = table[~table["where"].isin(["test set", "attack"])]
    record = read_record(report.folder)

    assert explored["p_adjusted"].tolist() == pytest.approx(
        adjust(explored["p_value"].to_numpy(), Correction.HOLM).tolist()
    )
    families = record.statistics.families
    assert len(families["pair-0, explored"]) == len(explored)
    assert set(families) == {f"pair-0, {name}" for name in ("explored", "planned", "effort", "secondary")}
    assert "clean-set | swap | robust_accuracy" in families["pair-0, planned"]
    assert "clean-set | swap | effort | both_correct" in families["pair-0, effort"]


def test_methods_and_constructions_are_places_where_the_examples_have_them(report: Any) -> None:
    examples = report.tables["examples"].assign(
        method=lambda frame: np.where(frame["example_id"].str[1:].astype(int) < 30, "word", "sentence"),
        construction=lambda frame: np.where(frame["example_id"].str[1:].astype(int) < 20, "human", "machine"),
    )

    table = build_fragility(examples, report.tables["pairs"], report.record)

    methods = table[table["where"] == "method"]
    assert set(methods["what"].str.rpartition(" | ")[2]) == {"word", "sentence"}
    assert methods["n"].tolist() == [30] * len(methods)
    constructions = table[table["where"] == "construction"]
    assert dict(zip(constructions["what"].str.rpartition(" | ")[2], constructions["n"], strict=True)) == {
        "human": 20,
        "machine": 40,
    }
    assert not constructions[["difference", "low", "high", "p_adjusted", "verdict"]].isna().any().any()


def test_several_seeds_of_a_method_have_a_verdict_of_their_own(run_writer: Any, tmp_path: Path) -> None:
    folder = run_writer.write(tmp_path / "run", run_writer.record(seeds=3, n=60))

    report = write_report(folder)

    pairs = report.tables["pairs"]
    seeds = pairs[(pairs["n_seeds"] == 3) & (pairs["population"] == "all")]
    assert any(str(part) == "over training seeds: sst2 lora, 3 seeds" for part in render_summary(report))
    single = pairs[(pairs["n_seeds"] == 1) & (pairs["population"] == "all")]
    assert seeds["pair"].unique().tolist() == ["sst2 lora, 3 seeds"]
    for row in seeds.itertuples():
        mine = single[(single["testset"] == row.testset) & (single["attack"] == row.attack)]
        assert row.difference == pytest.approx(mine["difference"].mean())
        assert row.low < mine["difference"].mean() < row.high
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "sst2 lora, 3 seeds" in page and "One training seed" not in page


def test_rows_of_one_source_are_tested_as_groups(run_writer: Any, tmp_path: Path) -> None:
    folder = run_writer.write(tmp_path / "run", run_writer.record(n=40))
    import sqlite3

    with sqlite3.connect(folder / "run.sqlite") as connection:
        connection.execute("UPDATE outcomes SET group_id = 'g' || (substr(example_id, 2) / 4)")
    connection.close()

    pairs = write_report(folder).tables["pairs"]

    assert set(pairs["test"]) == {"permutation-of-groups", "signed-rank"}


def test_statistics_are_chosen_when_the_report_is_written_and_kept(run_writer: Any, tmp_path: Path) -> None:
    folder = run_writer.write(tmp_path / "run", run_writer.record(n=40))
    exact = write_report(folder).tables["pairs"]

    chosen = api.report(folder, correction="benjamini-hochberg", margin=0.6, mcnemar="mid-p").tables["pairs"]
    again = api.report(folder).tables["pairs"]

    rates = exact["metric"] != "effort"
    assert set(chosen.loc[rates, "test"]) == {"mcnemar-mid-p"}
    assert (chosen.loc[rates, "p_value"] <= exact.loc[rates, "p_value"]).all()
    assert "equivalent" in set(chosen["verdict"]) and "equivalent" not in set(exact["verdict"])
    pd.testing.assert_frame_equal(chosen, again)
    assert read_record(folder).statistics.correction == "benjamini-hochberg"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "word"}, "--format word"),
        ({"correction": "none"}, "--correction none"),
        ({"mcnemar": "asymptotic"}, "--mcnemar asymptotic"),
        ({"margin": 2.0}, "--margin 2.0"),
    ],
)
def test_choices_out_of_range_are_refused(report: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RobustnessError, match=message):
        api.report(report.folder, **options)


def test_an_inconclusive_row_says_what_could_have_been_shown(report: Any) -> None:
    pairs = report.tables["pairs"]

    assert (pairs["detectable"] > 0).all()
    assert StatisticsRecord().margin == 0.02


def test_rows_over_seeds_tell_seeds_and_examples_apart(run_writer: Any, tmp_path: Path) -> None:
    folder = run_writer.write(tmp_path / "run", run_writer.record(seeds=2, n=30))

    report = write_report(folder)

    pairs = report.tables["pairs"]
    pairs = pairs[pairs["population"] == "all"]
    seeds, single = pairs[pairs["n_seeds"] == 2], pairs[pairs["n_seeds"] == 1]
    assert single[["seed_sd", "seed_sd_low", "seed_sd_high", "example_sd", "seed_share"]].isna().all(axis=None)
    assert (seeds["seed_sd_low"] <= seeds["seed_sd"]).all() and (seeds["seed_sd"] <= seeds["seed_sd_high"]).all()
    assert (seeds["seed_sd_high"] > 0.2).all()  # two seeds do not tell
    rows = report.tables["examples"].query("testset == 'clean-set' and attack == 'swap'")
    right = rows.assign(right=rows["status"] == "failed").pivot(
        index="example_id", columns="checkpoint", values="right"
    )
    apart = [right[f"full-{seed}"].astype(int) - right[f"lora-{seed}"].astype(int) for seed in (0, 1)]
    row = seeds.query("testset == 'clean-set' and attack == 'swap'").iloc[0]
    # Of two seeds what is left is half the variance, over examples, of how far they are apart.
    assert row.interaction_sd**2 == pytest.approx((apart[0] - apart[1]).var() / 2)
    between = (apart[0].mean() - apart[1].mean()) ** 2 / 2 - row.interaction_sd**2 / 30
    assert row.seed_sd**2 == pytest.approx(max(0.0, between))
    assert "between seeds" in (folder / "report.html").read_text(encoding="utf-8")
    assert any("between training seeds" in str(part) for part in render_summary(report))
