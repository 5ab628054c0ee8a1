"""The one text of the first screen: it breaks one arm, and the other was asked the very same."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from robustness.reports.page.first_screen.one_text import COLUMNS, OneText, find_one_text

REPLAYS = ["source", "target", "testset", "attack", "example_id", "response", "correct"]


@pytest.fixture
def find(run_writer: Any) -> Any:
    record = run_writer.record()

    def found(rows: list[dict[str, object]], replays: list[tuple[object, ...]]) -> OneText | None:
        blank = dict.fromkeys(COLUMNS) | {
            "testset": "set", "attack": "swap", "gold": "positive", "status": "succeeded", "modified_share": 0.2,
            "original_text": "a fine film", "adversarial_text": "a fime film", "response": "negative", "correct": 0,
        }  # fmt: skip
        examples = pd.DataFrame([blank | row for row in rows]).assign(goal=None)
        return find_one_text(record.pairs, examples, pd.DataFrame(replays, columns=REPLAYS), record)

    return found


def asked(source: str, target: str, example: str, correct: int, response: object = "positive") -> tuple[object, ...]:
    return (source, target, "set", "swap", example, response, correct)


def test_the_text_with_the_fewest_changes_that_breaks_one_arm_is_shown_with_its_letters_marked(find: Any) -> None:
    text = find(
        [
            {"checkpoint": "lora-0", "example_id": "e0", "modified_share": 0.4},
            {"checkpoint": "lora-0", "example_id": "e1", "modified_share": 0.3},
            {"checkpoint": "full-0", "example_id": "e2", "modified_share": 0.1},
        ],
        [
            asked("lora-0", "full-0", "e0", 1),
            asked("lora-0", "full-0", "e1", 1),
            asked("full-0", "lora-0", "e2", 0, "negative"),
        ],
    )

    assert [piece.text for piece in text.pieces if piece.changed] == ["m"]
    assert [(reply.name, reply.answer, reply.is_right) for reply in text.replies] == [
        ("full", "positive", True),
        ("LoRA", "negative", False),
    ]
    assert (text.gold, text.source) == ("positive", "swap on set")


def test_where_both_arms_break_no_text_is_shown(find: Any) -> None:
    assert find([{"checkpoint": "lora-0", "example_id": "e0"}], [asked("lora-0", "full-0", "e0", 0)]) is None
    assert find([{"checkpoint": "lora-0", "example_id": "e0"}], []) is None


def test_perturbed_embeddings_are_no_text(find: Any) -> None:
    row = {"checkpoint": "lora-0", "example_id": "e0", "adversarial_text": None}

    assert find([row], [asked("lora-0", "full-0", "e0", 1)]) is None


def test_a_row_of_an_adversarial_set_breaks_the_arm_that_is_wrong_on_it(find: Any) -> None:
    text = find(
        [
            {"checkpoint": "full-0", "example_id": "e0", "attack": "none", "status": "succeeded"},
            {"checkpoint": "lora-0", "example_id": "e0", "attack": "none", "status": "failed", "correct": 1}
            | {"response": "positive"},
        ],
        [],
    )

    assert [(reply.style, reply.is_right) for reply in text.replies] == [("ref", False), ("cand", True)]
    assert text.source == "set"


def test_a_generated_answer_is_shown_as_it_was_given_and_cut_where_it_is_long(find: Any) -> None:
    row = {"checkpoint": "lora-0", "example_id": "e0", "gold": "inform(x)", "response": "no " * 200}
    text = find([row], [asked("lora-0", "full-0", "e0", 1, "inform(x)  ")])

    assert text.replies[0].answer == "inform(x)"
    assert len(text.replies[1].answer) < 170 and text.replies[1].answer.endswith("\u2026")
