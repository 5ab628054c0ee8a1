"""The texts of a run on its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from generated_runs import FULL, LORA, RIGHT, WRONG, Said, outcome, record_of, write_run
from lxml import html

from robustness.engine.outcome import Outcome
from robustness.reports.page.marking import KEPT, Piece, mark_letters, shorten_unchanged
from robustness.reports.page.sections.texts import COLUMNS, Result, TextSection, describe_texts
from robustness.reports.report import write_report
from robustness.reports.summaries.arms import arms_of_run

HOSTILE = "<img src=x onerror=alert(1)> {{ 7 * 7 }} \u202e"
REPLAYS = ["source", "target", "testset", "attack", "example_id", "response", "correct"]


def judge(checkpoint: str, attack: str, number: int) -> Outcome:
    """Full breaks on the first example, LoRA on the second, nothing else breaks."""
    broken = attack == "deepwordbug" and number == [FULL, LORA].index(checkpoint)
    return outcome(number, RIGHT, WRONG if broken else RIGHT, queries=0 if attack == "none" else 3)


def section(folder: Path) -> html.HtmlElement:
    write_report(folder)
    return html.fromstring((folder / "report.html").read_text(encoding="utf-8")).get_element_by_id("texts")


def words(element: html.HtmlElement) -> str:
    return " ".join(element.text_content().split())


def items(element: html.HtmlElement) -> list[html.HtmlElement]:
    return list(element.find_class("text"))


def test_generated_answers_of_both_arms_stand_side_by_side_with_changed_letters_marked(tmp_path: Path) -> None:
    first, second, *others = items(section(write_run(tmp_path / "run", record_of(), judge, lambda *_: RIGHT)))

    assert "deepwordbug on set, example e0" in words(first)
    assert first.get("data-outcome").split() == ["one-text", "reference"]
    assert second.get("data-outcome").split() == ["one-text", "candidate"]
    assert {item.get("data-outcome") for item in others} == {"neither"} and len(others) == 6
    full, lora = first.find_class("arm")
    assert [mark.text for mark in full.find_class("found")[0].iter("mark")] == ["o"]
    (reply,) = full.find_class("reply")
    assert [gone.text for gone in reply.iter("del")] == ["a"]
    assert words(reply) == f"{RIGHT.text} \u2713 \u2192 {WRONG.text} \u2717"
    assert f"LoRA, asked this very text: {RIGHT.text} \u2713" in words(full)
    assert words(lora).startswith("\u25b2 LoRA withstands") and "asked" not in words(lora)
    assert (first.get("data-reference"), first.get("data-candidate")) == ("wrong", "right")


def test_an_answer_of_nothing_is_said_to_be_one_and_hostile_ones_are_only_text(tmp_path: Path) -> None:
    def hostile(checkpoint: str, attack: str, number: int) -> Outcome:
        queries = 0 if attack == "none" else 1
        return outcome(number, RIGHT, Said(HOSTILE, 0.0) if queries else RIGHT, prompt=HOSTILE, queries=queries)

    found = section(write_run(tmp_path / "run", record_of(), hostile, lambda *_: Said(" \n", 0.0)))

    assert not list(found.iter("img"))
    assert "49" not in words(found)
    assert "<img src=x onerror=alert(1)> {{ 7 * 7 }} \u27e8U+202E\u27e9" in words(found)
    assert "(nothing)" in words(found)


def test_a_run_that_attacks_nothing_shows_its_texts_as_they_stand(tmp_path: Path) -> None:
    found = section(write_run(tmp_path / "run", record_of(attacks=()), judge))

    assert len(items(found)) == 4
    assert items(found)[0].get("data-attack") == "none: as it stands"
    assert items(found)[0].get("data-outcome") == Result.NEITHER


def test_a_row_as_it_stands_is_shown_once_and_marked_against_its_original_where_it_has_one(world: Any) -> None:
    rows = [{"checkpoint": name, "attack": "none", "clean_response": None} for name in ("full-0", "lora-0")]
    plain = [row | {"original_text": None} for row in rows]

    (marked,), (unmarked,) = (texts_of(world, *each).texts for each in (rows, plain))

    assert [(p.text, p.changed) for p in marked.original] == [("fi", False), ("m", True), ("e", False)]
    assert [(p.text, p.changed) for p in unmarked.original] == [("fime", False)]
    assert not any(arm.text for text in (marked, unmarked) for arm in text.arms)


@pytest.fixture
def world(run_writer: Any) -> Any:
    return run_writer.record()


def texts_of(record: Any, *rows: dict[str, object], replays: tuple[tuple[object, ...], ...] = ()) -> TextSection:
    """Of rows of examples.csv, by default a broken one of `swap` on `clean-set`."""
    blank = dict.fromkeys(COLUMNS) | {
        "testset": "clean-set",
        "attack": "swap",
        "example_id": "e0",
        "gold": "positive",
    }
    blank |= {"clean_response": "positive", "response": "negative", "clean_correct": 1, "correct": 0}
    blank |= {"status": "succeeded", "modified_share": 0.1, "original_text": "fine", "adversarial_text": "fime"}
    frame = pd.DataFrame([blank | row for row in rows])
    asked = pd.DataFrame(list(replays), columns=REPLAYS)
    return describe_texts(frame, asked, record.pairs, arms_of_run(record.pairs, record), record)


HELD = {"status": "failed", "response": "positive", "correct": 1}
SKIPPED = {"status": "skipped", "response": None, "correct": None, "clean_correct": 0, "adversarial_text": None}


@pytest.mark.parametrize(
    ("full", "lora", "result"),
    [
        ({}, {}, Result.BOTH),
        ({}, HELD, Result.REFERENCE),
        (HELD, {}, Result.CANDIDATE),
        (HELD, HELD, Result.NEITHER),
        (SKIPPED, {}, Result.WRONG),
        ({}, {"status": "errored"}, Result.UNKNOWN),
        ({"goal": "keep-prediction"}, {"goal": "keep-prediction"}, Result.REDUCED),
    ],
)
def test_an_outcome_is_of_both_arms_together(
    world: Any, full: dict[str, object], lora: dict[str, object], result: Result
) -> None:
    (text,) = texts_of(world, {"checkpoint": "full-0"} | full, {"checkpoint": "lora-0"} | lora).texts

    assert text.results == (result,)


def test_an_arm_whose_partner_has_no_outcome_stands_alone(world: Any) -> None:
    (text,) = texts_of(world, {"checkpoint": "lora-0"}).texts

    assert [arm.name for arm in text.arms] == ["LoRA"] and text.keys == ("none", "negative")


def test_a_text_that_the_other_arm_withstood_comes_before_all_others(world: Any) -> None:
    rows = [{"checkpoint": name, "example_id": f"e{i}"} for i in range(3) for name in ("full-0", "lora-0")]
    replay = ("lora-0", "full-0", "clean-set", "swap", "e2", "positive", 1)

    found = texts_of(world, *rows, replays=(replay,))

    assert [text.example_id for text in found.texts] == ["e2", "e0", "e1"]
    assert found.texts[0].results == (Result.ONE_TEXT, Result.BOTH) and found.has_divergent
    _, lora = found.texts[0].arms
    assert (lora.partner, lora.replayed, lora.replayed_right) == ("full", "positive", True)


def test_of_too_many_texts_every_attack_and_outcome_has_its_share_and_the_rest_is_counted(world: Any) -> None:
    rows: list[dict[str, object]] = []
    for i in range(300):
        state = HELD if i >= 290 else {}
        rows += [{"checkpoint": name, "example_id": f"e{i}"} | state for name in ("full-0", "lora-0")]
        if i < 5:
            rows += [
                {"checkpoint": name, "example_id": f"e{i}", "attack": "synonym"} for name in ("full-0", "lora-0")
            ]

    found = texts_of(world, *rows)

    assert (len(found.texts), found.n) == (160, 305)
    assert sum(text.attack == "synonym" for text in found.texts) == 5
    assert sum(text.results == (Result.NEITHER,) for text in found.texts) == 10


def test_long_texts_fill_the_page_no_further_than_it_should_be_filled(world: Any) -> None:
    long = " ".join(f"word{i}" for i in range(900))
    rows = [
        {"checkpoint": name, "example_id": f"e{i}", "original_text": long, "adversarial_text": long.replace("9", "x")}
        for i in range(60)
        for name in ("full-0", "lora-0")
    ]

    found = texts_of(world, *rows)

    assert 0 < len(found.texts) < 60
    assert sum(len(p.text) for text in found.texts for arm in text.arms for p in arm.text) < 200_000


def test_filters_are_of_what_there_is_a_choice_of(world: Any) -> None:
    rows = [{"checkpoint": "full-0"}, {"checkpoint": "lora-0"} | HELD]
    rows += [row | {"example_id": "e1", "gold": "negative"} for row in rows]

    filters = {
        each.name: {o.value: (o.words, o.count) for o in each.options} for each in texts_of(world, *rows).filters
    }

    assert filters == {"gold": {"positive": ("positive", 1), "negative": ("negative", 1)}}


@pytest.mark.parametrize(
    ("before", "after", "gone", "come"),
    [
        ("a fine film", "a fime film", ["n"], ["m"]),
        ("a fine film", "a film", ["fine "], [""]),
        ("good", "good.", [], ["."]),
        ("good", "god", ["o"], [""]),
        ("The cat", "tHe cat", ["Th"], ["tH"]),
        ("", "new", [], ["new"]),
        ("one two", "one  two", [], [" "]),
    ],
)
def test_letters_are_marked_within_the_word_that_stands_in_anothers_place(
    before: str, after: str, gone: list[str], come: list[str]
) -> None:
    marked = mark_letters(before, after)

    assert "".join(piece.text for piece in marked.before) == before
    assert "".join(piece.text for piece in marked.after) == after
    letters = [[piece.text for piece in side if piece.changed] for side in (marked.before, marked.after)]
    assert letters == [gone, come]  # an empty mark stands where letters are gone


def test_a_change_far_inside_a_long_text_is_shown_with_what_stands_around_it() -> None:
    pieces = shorten_unchanged([Piece("a" * 9000, False), Piece("b", True), Piece("c" * 200, False)])

    assert [len(piece.text) for piece in pieces] == [2 * KEPT + 3, 1, 200]
    assert pieces[0].text.endswith("\u2026 " + "a" * KEPT)
