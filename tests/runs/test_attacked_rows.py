"""Rows that both arms have right, chosen from a pool before anything is attacked."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from robustness import RunSettings, api
from robustness.reports.tables.columns import Table
from robustness.runs import attacked_rows
from robustness.runs.attacked_rows import choose_rows
from robustness.runs.storage.record import read_record
from robustness.runs.storage.store import Store

SUITE = """\
summary = "A pool, and few attacked rows."
testsets = []
attacks = ["deepwordbug", "identity"]
limit = 20
attacked = {attacked}
"""


def pair(reference: str, candidate: str) -> Any:
    return SimpleNamespace(reference_name=reference, candidate_name=candidate)


def test_the_first_rows_in_the_order_of_the_draw_that_both_arms_have_right_are_chosen() -> None:
    right = {"full": frozenset("bcdef"), "lora": frozenset("acef")}

    assert choose_rows([pair("full", "lora")], right, "fedcba", 2) == [frozenset("fe")]
    assert choose_rows([pair("full", "lora")], right, "abcdef", 9) == [frozenset("cef")]
    assert choose_rows([pair("full", "lora")], right | {"lora": frozenset()}, "abcdef", 9) == [frozenset()]


def test_pairs_meet_on_the_rows_that_all_of_them_have_right() -> None:
    right = {"full": frozenset("abcdef"), "lora": frozenset("abcd"), "dora": frozenset("cdef")}
    pairs = [pair("full", "lora"), pair("full", "dora")]

    assert choose_rows(pairs, right, "abcdef", 3) == [frozenset("cda"), frozenset("cde")]


def test_rows_chosen_before_remain_and_others_fill_up() -> None:
    right = {"full": frozenset("abcd"), "lora": frozenset("abcd")}
    before = {"full": frozenset("cd"), "lora": frozenset("cd")}

    assert choose_rows([pair("full", "lora")], right, "abcd", 2, before) == [frozenset("cd")]
    assert choose_rows([pair("full", "lora")], right, "abcd", 3, before) == [frozenset("acd")]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    file = tmp_path / "pool.toml"
    file.write_text(SUITE.format(attacked=4))
    return file


def start(tiny: Any, suite: Path, out: Path) -> Any:
    return api.run(str(suite), tiny.pairs, out, RunSettings(data=tiny.data, testsets=[str(tiny.testset)]))


def test_every_arm_is_attacked_on_the_same_rows_all_of_which_both_have_right(
    tiny: Any, suite: Path, tmp_path: Path
) -> None:
    report = start(tiny, suite, tmp_path / "run")

    examples = report.tables[Table.EXAMPLES]
    pool = examples[examples["attack"] == "none"]
    attacked = examples[examples["attack"] != "none"]
    both = pool[pool["correct"] == 1].groupby("example_id").filter(lambda rows: len(rows) == 2)["example_id"]
    by_cell = attacked.groupby(["checkpoint", "attack"])["example_id"].agg(set)
    assert len(pool) == 2 * 20
    assert [len(ids) for ids in by_cell] == [4] * 4
    assert len({frozenset(ids) for ids in by_cell}) == 1
    assert set(attacked["example_id"]) <= set(both)
    assert not (attacked["status"] == "skipped").any()
    assert report.missing == 0
    assert {len(each.rows) for each in report.record.chosen} == {4}
    page = (tmp_path / "run" / "report.html").read_text().replace("\u00a0", " ")
    assert f"that both arms have right are attacked (4 of 20 of {report.record.testsets[0].name})" in page


def test_a_run_that_was_interrupted_goes_on_with_the_same_rows(
    tiny: Any, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = start(tiny, suite, tmp_path / "whole")
    choose = attacked_rows.find_attacked

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(attacked_rows, "find_attacked", interrupt)
    with pytest.raises(KeyboardInterrupt):
        start(tiny, suite, tmp_path / "run")
    monkeypatch.setattr(attacked_rows, "find_attacked", choose)
    again = start(tiny, suite, tmp_path / "run")

    columns = ["checkpoint", "attack", "example_id", "status", "adversarial_text"]
    assert again.tables[Table.EXAMPLES][columns].equals(whole.tables[Table.EXAMPLES][columns])


def test_a_clean_row_that_errored_at_first_takes_no_attacked_rows_place_on_resume(
    tiny: Any, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is the one that the order of drawing prefers among all that both arms have right."""
    suite.write_text(SUITE.format(attacked=1).replace('"deepwordbug", ', ""))
    start(tiny, suite, tmp_path / "whole")
    (preferred,) = read_record(tmp_path / "whole").chosen[0].rows
    right = Store.right
    with monkeypatch.context() as patch:
        patch.setattr(Store, "right", lambda store, cell: right(store, cell) - {preferred})
        first = start(tiny, suite, tmp_path / "run")
    with closing(sqlite3.connect(tmp_path / "run" / "run.sqlite")) as store, store:
        store.execute("UPDATE outcomes SET status = 'errored' WHERE example_id = ?", (preferred,))

    again = start(tiny, suite, tmp_path / "run")

    attacked = [report.tables[Table.EXAMPLES].query("attack == 'identity'") for report in (first, again)]
    assert len(attacked[0]) == 2 and preferred not in set(attacked[0]["example_id"])
    assert attacked[1]["example_id"].tolist() == attacked[0]["example_id"].tolist()
    assert again.missing == again.n_errored == 0 and {len(each.rows) for each in again.record.chosen} == {1}


def test_fewer_rows_than_were_asked_for_are_a_warning(tiny: Any, suite: Path, tmp_path: Path) -> None:
    suite.write_text(SUITE.format(attacked=1000))

    report = start(tiny, suite, tmp_path / "run")

    assert any("fewer than the 1000 to be attacked; raise --limit" in warning for warning in report.record.warnings)
    assert report.missing == 0


def test_no_higher_limit_is_advised_where_all_rows_were_asked_about(tiny: Any, suite: Path, tmp_path: Path) -> None:
    suite.write_text(SUITE.format(attacked=1000).replace("limit = 20", "limit = 10000"))

    report = start(tiny, suite, tmp_path / "run")

    (warning,) = (each for each in report.record.warnings if "to be attacked" in each)
    assert warning.endswith("fewer than the 1000 to be attacked; the test set has no more rows")


def test_a_test_set_that_a_suite_only_evaluates_is_attacked_where_the_command_line_names_it(
    tiny: Any, tmp_path: Path
) -> None:
    copy = tmp_path / "beside.toml"
    copy.write_text(Path(tiny.testset).read_text())
    suite = tmp_path / "beside-suite.toml"
    text = SUITE.format(attacked=4).replace("testsets = []", f'testsets = ["{tiny.testset}"]\nevaluated = ["{copy}"]')
    suite.write_text(text)

    planned = api.plan(str(suite), tiny.pairs, RunSettings(data=tiny.data))
    named = api.plan(str(suite), tiny.pairs, RunSettings(data=tiny.data, testsets=[str(copy)]))

    assert {cell.attack for cell in planned.cells if cell.testset == "beside"} == {"none"}
    assert {cell.attack for cell in planned.cells if cell.testset != "beside"} == {"none", "deepwordbug", "identity"}
    assert {cell.attack for cell in named.cells} == {"none", "deepwordbug", "identity"}
    report = api.run(str(suite), tiny.pairs, tmp_path / "run", RunSettings(data=tiny.data))
    assert report.missing == 0
    assert {each.testset for each in report.record.chosen} == {Path(tiny.testset).stem}
    assert not [warning for warning in report.record.warnings if "beside rightly" in warning]


def test_what_was_not_chosen_is_not_left_out_and_what_errored_is(tiny: Any, suite: Path, tmp_path: Path) -> None:
    suite.write_text(SUITE.format(attacked=4).replace('"identity"', '"stress-append"'))
    start(tiny, suite, tmp_path / "run")
    with sqlite3.connect(tmp_path / "run" / "run.sqlite") as store:
        attacked = "attack = 'deepwordbug' AND checkpoint = (SELECT MIN(checkpoint) FROM outcomes)"
        first = f"SELECT MIN(example_id) FROM outcomes WHERE {attacked}"
        change = "UPDATE outcomes SET status = 'errored', correct = NULL"
        store.execute(f"{change} WHERE {attacked} AND example_id = ({first})")

    pairs = api.report(tmp_path / "run").tables[Table.PAIRS]

    left_out = pairs[pairs["metric"].isin(["accuracy", "robust_accuracy"])].set_index("attack")["n_left_out"]
    assert left_out.to_dict() == {"none": 0, "deepwordbug": 1, "stress-append": 0, "worst-case": 1}
