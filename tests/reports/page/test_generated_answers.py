"""Generated answers before and after, on the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from generated_runs import FULL, LORA, RIGHT, WRONG, Said, outcome, record_of, write_run
from lxml import html

from robustness.engine.outcome import Outcome
from robustness.reports.page.marking import mark_letters
from robustness.reports.report import write_report

HOSTILE = "<img src=x onerror=alert(1)> {{ 7 * 7 }} \u202e"


def judge(checkpoint: str, attack: str, number: int) -> Outcome:
    """Full breaks on the first example, LoRA on the second, nothing else breaks."""
    broken = attack == "deepwordbug" and number == [FULL, LORA].index(checkpoint)
    return outcome(number, RIGHT, WRONG if broken else RIGHT, queries=0 if attack == "none" else 3)


def section(folder: Path) -> html.HtmlElement:
    write_report(folder)
    return html.fromstring((folder / "report.html").read_text(encoding="utf-8")).get_element_by_id("answers")


def words(element: html.HtmlElement) -> str:
    return " ".join(element.text_content().split())


def test_both_arms_answers_to_the_same_prompt_stand_before_and_after_with_changed_letters_marked(
    tmp_path: Path,
) -> None:
    folder = write_run(tmp_path / "run", record_of(), judge, lambda *_: RIGHT)

    first, second = section(folder).findall(".//li")

    assert "deepwordbug on set, example e0, found on full fine-tuning" in words(first)
    assert "example e1, found on LoRA" in words(second)
    prompt, answers = first.findall("p")[1:], first.find("dl").findall("dd")
    assert [mark.text for mark in prompt[1].iter("mark")] == ["o"]
    assert prompt[1].text_content() == "Poortal is good."
    said = [RIGHT.text, RIGHT.text, WRONG.text, RIGHT.text, RIGHT.text]  # right, then before and after of each arm
    assert [answer.text_content() for answer in answers] == said
    assert [mark.text for mark in answers[1].iter("del")] == ["a"]
    assert words(first.find("dl")).count("\u2713") == 3
    assert words(first.find("dl")).count("\u2717") == 1


def test_every_attack_and_arm_has_its_share_and_every_prompt_is_shown_once(tmp_path: Path) -> None:
    def fragile(checkpoint: str, attack: str, number: int) -> Outcome:
        return outcome(number, RIGHT, RIGHT if attack == "none" else WRONG, queries=0 if attack == "none" else 3)

    items = section(write_run(tmp_path / "run", record_of(n=9), fragile)).findall(".//li")

    heads = [words(item.find("p")) for item in items]
    assert len(heads) == 6
    assert len({head.split("example ")[1].split(",")[0] for head in heads}) == 6
    for attack, arm in (("deepwordbug", "full"), ("deepwordbug", "LoRA"), ("best-of-n", "full")):
        assert sum(head.startswith(attack) and f"found on {arm}" in head for head in heads) == 2


def test_an_arm_that_was_not_asked_the_same_prompt_has_no_answer(tmp_path: Path) -> None:
    first, *_ = section(write_run(tmp_path / "run", record_of(), judge)).findall(".//li")

    assert len(first.find("dl").findall("dd")) == 3


def test_an_answer_of_nothing_is_said_to_be_one_and_hostile_ones_are_only_text(tmp_path: Path) -> None:
    def hostile(checkpoint: str, attack: str, number: int) -> Outcome:
        queries = 0 if attack == "none" else 1
        return outcome(number, RIGHT, Said(HOSTILE, 0.0) if queries else RIGHT, prompt=HOSTILE, queries=queries)

    found = section(write_run(tmp_path / "run", record_of(), hostile, lambda *_: Said(" \n", 0.0)))

    assert not list(found.iter("img"))
    assert "49" not in words(found)
    assert "<img src=x onerror=alert(1)> {{ 7 * 7 }} \u27e8U+202E\u27e9" in words(found)
    assert "(nothing)" in words(found)


def test_a_run_in_which_nothing_broke_says_so_and_one_of_labels_has_no_such_section(
    tmp_path: Path, run_writer: object
) -> None:
    def robust(checkpoint: str, attack: str, number: int) -> Outcome:
        return outcome(number, RIGHT, RIGHT, queries=0 if attack == "none" else 3)

    assert "No attack changed a generated answer" in words(section(write_run(tmp_path / "text", record_of(), robust)))
    labels = run_writer.write(tmp_path / "labels", run_writer.record())  # type: ignore[attr-defined]
    with pytest.raises(KeyError):
        section(labels)


@pytest.mark.parametrize(
    ("before", "after", "gone", "come"),
    [
        ("a fine film", "a fime film", ["n"], ["m"]),
        ("a fine film", "a film", ["fine "], []),
        ("good", "good.", [], ["."]),
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
    assert letters == [gone, come]
