from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from goldens.comparison import compare
from goldens.export import HERE, main, repeat
from goldens.records import Golden, LeftOut, Record, read_golden, write_golden

RECORD = Record("run", "full", "rows", "deepwordbug", "7", "succeeded", ("a fiine film",), 12, 14)
OTHER = replace(RECORD, attack="pwws", status="skipped", text=None, queries=0, forwards=1)
GOLDEN = Golden({"torch": "2.4"}, {"weights: full": "ab"}, (LeftOut("run", "bae", "no BERT"),), (RECORD, OTHER))


@pytest.mark.timeout(900)  # under a minute, on a machine that has nothing else to do
def test_on_tiny_checkpoints_the_engine_does_what_it_did(tmp_path: Path) -> None:
    comparison = repeat("tiny", HERE / "tiny.json", tmp_path)

    assert not comparison.differences, str(comparison)
    assert comparison.is_same or "ROBUSTNESS_DATA" not in os.environ, str(comparison)


@pytest.mark.soak
@pytest.mark.timeout(2400)  # three minutes of one core that has nothing else to do
def test_on_minilm_the_engine_does_what_it_did(shared_data: Path, minilm: Path, tmp_path: Path) -> None:
    comparison = repeat("minilm", HERE / "minilm.json", tmp_path)

    assert comparison.is_same, str(comparison)


@pytest.mark.parametrize(
    ("field", "value"),
    [("status", "failed"), ("text", ("a fine film",)), ("text", None), ("queries", 13), ("forwards", 13)],
)
def test_a_changed_field_of_one_example_is_named_with_what_was_expected(field: str, value: object) -> None:
    changed = replace(GOLDEN, records=(replace(RECORD, **{field: value}), OTHER))

    comparison = compare(GOLDEN, changed)

    assert not comparison.is_same
    assert str(comparison).splitlines()[0] == (
        f"run | full | rows | deepwordbug | 7: {field}: expected {getattr(RECORD, field)!r}, got {value!r}"
    )
    assert [difference.field for difference in comparison.differences] == [field]


@pytest.mark.parametrize("name", ["tiny", "minilm"])
@pytest.mark.parametrize("field", ["status", "text", "queries", "forwards"])
def test_a_change_of_what_is_stored_fails(name: str, field: str) -> None:
    golden = read_golden(HERE / f"{name}.json")
    *others, last = golden.records
    value = {"status": "errored", "text": ("another",)}.get(field, 10_000)

    assert compare(golden, golden).is_same
    comparison = compare(golden, replace(golden, records=(*others, replace(last, **{field: value}))))

    assert [(each.key, each.field) for each in comparison.differences] == [(last.key, field)]


def test_an_example_without_an_outcome_is_a_difference_whichever_side_lacks_it() -> None:
    more = replace(GOLDEN, records=(*GOLDEN.records, replace(RECORD, example="8")))

    assert [(d.expected, d.got) for d in compare(more, GOLDEN).differences] == [("succeeded", "no outcome")]
    assert [(d.expected, d.got) for d in compare(GOLDEN, more).differences] == [("no outcome", "succeeded")]
    assert not compare(GOLDEN, replace(GOLDEN, records=(RECORD,))).is_same


def test_a_recipe_that_cannot_be_built_any_more_is_lost_with_its_reason() -> None:
    without = replace(GOLDEN, left_out=(LeftOut("run", "pwws", "no WordNet"),), records=(RECORD,))

    comparison = compare(GOLDEN, without)

    assert comparison.lost == ("run | pwws: no WordNet",)
    assert not comparison.is_same and not comparison.differences


def test_a_recipe_that_did_not_run_then_is_noted_and_no_difference() -> None:
    more = replace(GOLDEN, left_out=(), records=(*GOLDEN.records, replace(RECORD, attack="bae")))

    comparison = compare(GOLDEN, more)

    assert comparison.new == ("run | bae",)
    assert comparison.is_same


def test_other_libraries_and_weights_are_named_before_the_differences_that_may_follow_from_them() -> None:
    changed = Golden({"torch": "2.5"}, {"weights: full": "cd"}, records=(replace(RECORD, queries=1), OTHER))

    lines = str(compare(GOLDEN, changed)).splitlines()

    assert lines[:2] == [
        "may be the cause: torch was 2.4, is 2.5",
        "may be the cause: weights: full was ab, is cd",
    ]


@pytest.mark.parametrize("name", ["tiny", "minilm"])
def test_a_file_that_is_read_and_written_is_the_same_file(name: str, tmp_path: Path) -> None:
    write_golden(tmp_path / "again.json", read_golden(HERE / f"{name}.json"))

    assert (tmp_path / "again.json").read_bytes() == (HERE / f"{name}.json").read_bytes()


def test_of_published_rows_digests_are_stored_and_no_texts() -> None:
    golden = read_golden(HERE / "minilm.json")
    segments = [segment for record in golden.records for segment in record.text or ()]

    assert segments
    assert all(re.fullmatch("[0-9a-f]{16}", segment) for segment in segments)


@pytest.mark.parametrize("name", ["tiny", "minilm"])
def test_no_outcome_is_errored_and_what_is_left_out_has_a_reason(name: str) -> None:
    golden = read_golden(HERE / f"{name}.json")

    assert {record.status for record in golden.records} == {"skipped", "succeeded", "failed"}
    assert all(
        row.reason and "/" not in row.reason.replace("google-bert/", "").replace("distilbert/", "")
        for row in golden.left_out
    )


def test_the_command_wants_to_know_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])

    assert "--out --compare is required" in capsys.readouterr().err
