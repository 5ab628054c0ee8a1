"""What is said where no text breaks one arm alone."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from robustness.reports.page.divergent_examples import COLUMNS, explain_none
from robustness.runs.storage.record import PairRecord

REPLAYS = ["source", "target", "testset", "attack", "example_id", "correct"]


@pytest.fixture(scope="module")
def pair(run_writer: Any) -> PairRecord:
    found: PairRecord = run_writer.record().pairs[0]
    return found


def attacked(checkpoint: str, statuses: str, attack: str = "swap") -> pd.DataFrame:
    """Rows of examples.csv: `s`ucceeded or `f`ailed on each example; the true label is 1."""
    names = {"s": "succeeded", "f": "failed"}
    rows = [
        dict.fromkeys(COLUMNS)
        | {"checkpoint": checkpoint, "testset": "set", "attack": attack, "example_id": f"e{i}", "gold": "positive"}
        | {
            "status": names[status],
            "correct": int(status == "f"),
            "response": ("negative", "positive")[status == "f"],
            "modified_share": 0.1,
        }
        | {"original_text": "fine", "adversarial_text": "fime"}
        for i, status in enumerate(statuses)
    ]
    return pd.DataFrame(rows).assign(goal=None)


def asked(source: str, target: str, answers: dict[str, object]) -> pd.DataFrame:
    """What the target answers to texts found on the source."""
    rows = [(source, target, "set", "swap", example, answer) for example, answer in answers.items()]
    return pd.DataFrame(rows, columns=REPLAYS)


def test_a_run_without_attacks_says_that_nothing_was_attacked(pair: PairRecord) -> None:
    examples = attacked(pair.reference, "ss", attack="none")

    assert explain_none([pair], examples, asked("", "", {})) == "Nothing was attacked."


def test_attacks_that_keep_the_answer_are_attacks(pair: PairRecord) -> None:
    examples = attacked(pair.reference, "sf").assign(goal="keep-prediction")

    said = explain_none([pair], examples, asked("", "", {}))
    assert said == "Every attack was to keep the answer, so none could break an arm."


def test_where_nothing_broke_no_word_is_said_about_the_other_arm(pair: PairRecord) -> None:
    examples = pd.concat([attacked(pair.reference, "ff"), attacked(pair.candidate, "ff")])

    assert explain_none([pair], examples, asked("", "", {})) == "No attack broke either arm."


def test_where_everything_found_breaks_both_it_is_counted(pair: PairRecord) -> None:
    examples = pd.concat([attacked(pair.reference, "sf"), attacked(pair.candidate, "ss")])
    replays = pd.concat(
        [
            asked(pair.reference, pair.candidate, {"e0": 0}),
            asked(pair.candidate, pair.reference, {"e0": 0, "e1": 0}),
            asked(pair.candidate, "base", {"e0": 1}),
        ]
    )

    assert explain_none([pair], examples, replays) == (
        "The other arm gets every one of the 3 texts that attacks found wrong too."
    )


def test_texts_that_the_other_arm_was_not_asked_about_are_not_claimed(pair: PairRecord) -> None:
    examples = pd.concat([attacked(pair.reference, "sf"), attacked(pair.candidate, "ss")])
    replays = asked(pair.candidate, pair.reference, {"e0": 0, "e1": None})

    assert explain_none([pair], examples, replays) == (
        "Attacks found 3 texts; of the 1 asked of the other arm, it gets every one wrong too."
    )
