"""Tables of tasks that are answered with free text: counters, qualities, both readings of numbers, noise, floors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from generated_runs import FULL, RIGHT, WRONG, Judge, Said, outcome, record_of, write_run

from robustness.engine.named_attack import Effort
from robustness.engine.outcome import Outcome, Status
from robustness.reports.report import Report, write_report
from robustness.reports.summaries.summary import summarise_run
from robustness.reports.tables.columns import Table
from robustness.reports.tables.csvfiles import read_table
from robustness.runs.storage.record import RunRecord
from robustness.stats import Reason, Verdict


def always(said: Callable[[str, int], Said], **changes: Any) -> Judge:
    """Right as it stands; under every attack what `said` gives."""

    def judge(checkpoint: str, attack: str, number: int) -> Outcome:
        if attack == "none":
            return outcome(number, RIGHT, RIGHT)
        return replace(outcome(number, RIGHT, said(checkpoint, number), queries=number % 5 + 1), **changes)

    return judge


def write(tmp_path: Path, judge: Judge, record: RunRecord | None = None) -> Report:
    return write_report(write_run(tmp_path / "run", record or record_of(), judge))


def only(frame: pd.DataFrame, **where: object) -> Any:
    """The one row with these cells."""
    for name, value in where.items():
        frame = frame[frame[name] == value]
    (row,) = frame.itertuples()
    return row


def test_attacks_say_how_good_answers_were_and_are_and_what_was_decoded(tmp_path: Path) -> None:
    judge = always(lambda _, number: WRONG if number else RIGHT, decodes=2, generated_tokens=9, cut=True)

    report = write(tmp_path, judge)

    row = only(report.tables[Table.ATTACKS], checkpoint=FULL, attack="best-of-n")
    assert (row.clean_quality, row.quality) == (1.0, (1 + 3 * 0.5) / 4)
    assert (row.decodes, row.generated_tokens, row.n_cut) == (8, 36, 4)
    stored = read_table(Table.EXAMPLES, tmp_path / "run" / "examples.csv")
    assert set(stored.loc[stored["attack"] == "best-of-n", "cut"]) == {1}
    assert stored.loc[stored["attack"] == "none", "decodes"].isna().all()


def test_what_was_wrong_before_an_attack_is_as_good_after_it_as_before(tmp_path: Path) -> None:
    def judge(checkpoint: str, attack: str, number: int) -> Outcome:
        clean = RIGHT if number else WRONG
        found = outcome(number, clean, Said("none", 0.0) if number else clean, queries=0 if attack == "none" else 2)
        return found if number or attack == "none" else replace(found, quality=None, correct=None, response=None)

    row = only(write(tmp_path, judge).tables[Table.ATTACKS], checkpoint=FULL, attack="deepwordbug")

    assert (row.clean_quality, row.quality) == ((0.5 + 3) / 4, 0.5 / 4)


def test_a_test_set_has_its_quality_and_the_share_of_cut_responses(tmp_path: Path) -> None:
    def judge(checkpoint: str, attack: str, number: int) -> Outcome:
        return replace(outcome(number, RIGHT, WRONG if number == 3 else RIGHT), cut=number == 3)

    sets = write(tmp_path, judge).tables[Table.TESTSETS]

    assert only(sets, checkpoint=FULL, metric="accuracy").value == 3 / 4
    assert only(sets, checkpoint=FULL, metric="slot_f1").value == (3 + 0.5) / 4
    assert only(sets, checkpoint=FULL, metric="cut_share").value == 1 / 4


NUMBERS = {
    0: ("12 eggs\n#### 12", "#### 12", (12, 1, 12, 1)),
    1: ("#### 7 of 12", "#### 12", (7, 0, 12, 1)),
    2: ("it is 12.0", "#### 12", (None, 0, 12, 1)),
    3: ("", "#### 12", (None, 0, None, 0)),
    4: ("#### none", "None", ("none", 1, "none", 1)),
    5: ("#### 3", "None", (3, 0, 3, 0)),
}
"""Response, gold, and what each rule reads and whether that is right."""


def numeric(checkpoint: str, attack: str, number: int) -> Outcome:
    response, gold, read = NUMBERS[number]
    found = outcome(number, RIGHT, Said(response, float(read[1]), correct=bool(read[1])))
    construction = "unanswerable" if gold == "None" else "answerable"
    return replace(found, gold=gold, construction=construction, method=["critical thinking", "digits"][number < 4])


def test_both_readings_of_a_number_are_columns(tmp_path: Path) -> None:
    examples = write(tmp_path, numeric, record_of("gsm8k", attacks=(), n=6)).tables[Table.EXAMPLES]

    mine = examples[examples["checkpoint"] == FULL].sort_values("example_id")
    columns = ["answer_marked", "correct_marked", "answer_last", "correct_last"]
    cells = [[None if pd.isna(cell) else str(cell) for cell in row] for row in mine[columns].itertuples(index=False)]
    assert cells == [[None if cell is None else str(cell) for cell in NUMBERS[number][2]] for number in range(6)]


def test_numbers_are_scored_by_each_reading_with_and_without_unanswerable_rows_and_by_method(tmp_path: Path) -> None:
    sets = write(tmp_path, numeric, record_of("gsm8k", attacks=(), n=6)).tables[Table.TESTSETS]

    mine = sets[sets["checkpoint"] == FULL]
    values = {(row.metric, row.aggregation): (row.n, row.value) for row in mine.itertuples()}
    assert values["accuracy", "mean"] == (6, 2 / 6)
    assert values["accuracy_marked", "mean"] == (6, 2 / 6)
    assert values["accuracy_last", "mean"] == (6, 4 / 6)
    assert values["accuracy", "construction: answerable"] == (4, 1 / 4)
    assert values["accuracy", "construction: unanswerable"] == (2, 1 / 2)
    assert values["accuracy", "method: digits"] == (4, 1 / 4)
    assert values["accuracy", "method: critical thinking"] == (2, 1 / 2)


def test_rows_with_and_without_answer_are_parts_in_which_the_arms_may_differ(tmp_path: Path) -> None:
    def judge(checkpoint: str, attack: str, number: int) -> Outcome:
        found = outcome(number, RIGHT, RIGHT if checkpoint == FULL or number < 15 else WRONG)
        return replace(found, construction="unanswerable" if number % 2 else "answerable")

    record = record_of("gsm8k", attacks=(), n=40)
    record = record.model_copy(update={"testsets": (record.testsets[0].model_copy(update={"kind": "adversarial"}),)})
    places = write(tmp_path, judge, record).tables[Table.FRAGILITY]

    parts = places[places["where"] == "construction"].set_index("what")["n"].to_dict()
    assert parts == {"set | unanswerable": 20, "set | answerable": 20}


def broken(tmp_path: Path, n: int, noise: float | None = 0.0) -> tuple[Report, Any]:
    """Every prompt breaks on both arms; LoRA takes fewer words and its answers are worse."""

    def judge(checkpoint: str, attack: str, number: int) -> Outcome:
        if attack == "none":
            return outcome(number, RIGHT, RIGHT)
        weak = checkpoint != FULL
        found = outcome(number, RIGHT, Said("x", 0.2) if weak else WRONG, queries=9)
        return replace(found, modified_words=1 if weak else 2 + number % 3)

    record = record_of(n=n, noise=noise)
    words = tuple(each.model_copy(update={"effort": Effort.WORDS}) for each in record.attacks)
    report = write(tmp_path, judge, record.model_copy(update={"attacks": words}))
    (answer,) = summarise_run(report.tables[Table.PAIRS], report.record).shown
    return report, answer


def test_where_both_arms_always_break_effort_and_quality_carry_the_comparison(tmp_path: Path) -> None:
    report, answer = broken(tmp_path, 30)

    pairs = report.tables[Table.PAIRS]
    rate = only(pairs, attack="deepwordbug", metric="robust_accuracy")
    effort = only(pairs, attack="deepwordbug", metric="effort")
    quality = only(pairs, attack="deepwordbug", metric="slot_f1")
    assert (rate.verdict, rate.reason) == (Verdict.INCONCLUSIVE, Reason.FLOOR)
    assert effort.verdict == Verdict.PEFT_MORE_FRAGILE
    assert (quality.population, quality.n, quality.test) == ("both_correct", 30, "permutation")
    assert (quality.reference_value, quality.candidate_value) == pytest.approx((0.5, 0.2))
    assert quality.p_adjusted < 0.01
    assert pd.isna(quality.verdict)
    said = " ".join((*answer.details, *answer.caveats))
    assert "both arms are nearly always broken: compare the effort" in said
    assert "LoRA breaks with less in 100.0 %" in said
    assert "of 30 examples both had right full fine-tuning has slot F1 50.0 % and LoRA 20.0 %" in said


def test_quality_is_compared_on_a_test_set_as_it_stands_too(tmp_path: Path) -> None:
    def judge(checkpoint: str, attack: str, number: int) -> Outcome:
        return outcome(number, RIGHT, WRONG if checkpoint != FULL and number < 10 else RIGHT)

    row = only(write(tmp_path, judge, record_of(attacks=(), n=20)).tables[Table.PAIRS], metric="slot_f1")

    assert (row.population, row.reference_value, row.candidate_value) == ("all", 1.0, 0.75)
    assert row.difference == pytest.approx(0.25)


def test_over_training_seeds_quality_is_the_mean_of_its_seeds_differences(tmp_path: Path) -> None:
    record = record_of(n=8)
    pair = record.pairs[0]
    names = {name: f"{name.partition('-')[0]}-1" for name in (pair.reference, pair.candidate)}
    other = pair.model_copy(
        update={"name": "pair-1", "seed": 1, "reference": names[FULL], "candidate": names[pair.candidate]}
    )
    arms = tuple(each.model_copy(update={"name": names[each.name], "train_seed": 1}) for each in record.checkpoints)
    record = record.model_copy(update={"pairs": (pair, other), "checkpoints": (*record.checkpoints, *arms)})
    quality = {FULL: 0.75, pair.candidate: 0.5, names[FULL]: 0.5, names[pair.candidate]: 0.5}

    pairs = write(tmp_path, always(lambda checkpoint, _: Said("x", quality[checkpoint])), record).tables[Table.PAIRS]

    row = only(pairs[pairs["n_seeds"] == 2], attack="best-of-n", metric="slot_f1")
    assert (row.population, row.n) == ("both_correct", 8)
    assert (row.reference_value, row.candidate_value) == (0.625, 0.5)
    assert row.difference == pytest.approx(0.125)


@pytest.mark.parametrize(("noise", "shown"), [(0.0, False), (None, False), (0.125, True)])
def test_a_noise_floor_above_zero_stands_beside_every_difference(
    tmp_path: Path, noise: float | None, *, shown: bool
) -> None:
    report, answer = broken(tmp_path, 30, noise)

    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8").replace("\u00a0", " ")
    floors = report.tables[Table.PAIRS]["noise_floor"]
    assert floors.isna().all() if noise is None else (floors == noise).all()
    assert any("noise floor 12.5 points" in sentence for sentence in answer.details) is shown
    assert page.count(">noise floor</th>") == 2 * shown
    assert ("Noise floor: 12.5 % of an arm" in page) is shown


def test_an_arm_that_knows_no_more_than_one_answer_given_to_all_is_said_to_be_near_the_floor(tmp_path: Path) -> None:
    record = record_of()
    low = record.checkpoints[1].model_copy(update={"clean_accuracy": 0.2})
    report = write(
        tmp_path, always(lambda *_: WRONG), record.model_copy(update={"checkpoints": (record.checkpoints[0], low)})
    )

    (answer,) = summarise_run(report.tables[Table.PAIRS], report.record).shown

    said = "Near the floor: on clean texts LoRA (20.0 %, against 20.0 %)"
    assert any(sentence.startswith(said) for sentence in answer.caveats)


def test_the_success_of_best_of_n_at_every_smaller_n_is_a_curve(tmp_path: Path) -> None:
    def judge(checkpoint: str, attack: str, number: int) -> Outcome:
        if attack == "none":
            return outcome(number, RIGHT, RIGHT)
        return replace(outcome(number, RIGHT, WRONG, queries=[1, 1, 3, 8][number]), status=Status.SUCCEEDED)

    curves = write(tmp_path, judge, record_of(attacks=("best-of-n",))).tables[Table.CURVES]

    mine = curves[(curves["checkpoint"] == FULL) & (curves["budget_kind"] == "queries")]
    assert dict(zip(mine["budget"], mine["robust_accuracy"], strict=True)) == {0: 1.0, 1: 0.5, 3: 0.25, 8: 0.0}
