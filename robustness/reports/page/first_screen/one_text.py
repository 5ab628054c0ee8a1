"""One text that breaks one arm of a pair and not the other, its changed letters marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from robustness.engine.outcome import Status
from robustness.reports.page.marking import Piece, mark_letters, shown_text
from robustness.reports.summaries.arms import Arms, arms_of_pair
from robustness.reports.tables.examples import keeps_prediction
from robustness.runs.cells import NO_ATTACK
from robustness.runs.storage.record import PairRecord, RunRecord

LONGEST = 320
"""Characters of a text that the first screen takes whole."""
LONGEST_ANSWER = 160
CONTEXT = 90
"""Characters kept before the first change and behind the last one of a longer text."""
PLACE = ["testset", "attack", "example_id"]
COLUMNS = [
    *("checkpoint", *PLACE, "gold", "correct", "response", "status", "modified_share", "original_text"),
    "adversarial_text",
]


@dataclass(frozen=True, slots=True)
class ArmReply:
    """What one arm answers to the text."""

    name: str
    style: str
    """`ref` or `cand`."""
    answer: str
    is_right: bool


@dataclass(frozen=True, slots=True)
class OneText:
    """A changed text, and the replies of both arms."""

    pieces: tuple[Piece, ...]
    replies: tuple[ArmReply, ...]
    gold: str
    source: str
    """The attack and the test set; of several pairs, which."""


def find_one_text(
    pairs: Sequence[PairRecord], examples: pd.DataFrame, replays: pd.DataFrame, record: RunRecord
) -> OneText | None:
    """Returns the short text with the fewest changes that breaks one arm of a pair alone; None where none was found.

    The other arm was asked the very same text and gives the right answer.

    Args:
        pairs: Where to look, in this order.
        examples: examples.csv's rows.
        replays: Answers of each arm to texts found on its partner.
        record: The run's.
    """
    for pair in pairs:
        mine = examples["checkpoint"].isin([pair.reference, pair.candidate]) & examples["adversarial_text"].notna()
        rows = examples.loc[mine & ~keeps_prediction(examples), COLUMNS]
        found = pd.concat(list(_of_pair(pair, rows, replays)))
        if found.empty:
            continue
        found = found.assign(is_long=found["adversarial_text"].str.len() > LONGEST)
        best = found.sort_values(["is_long", "modified_share", "example_id"], kind="stable").iloc[0].to_dict()
        return _one_text(best, pair, arms_of_pair(pair, record), several=len(pairs) > 1)
    return None


def _of_pair(pair: PairRecord, rows: pd.DataFrame, replays: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Rows of the arm that breaks, with the other's answer as `other`."""
    attacked, static = rows[rows["attack"] != NO_ATTACK], rows[rows["attack"] == NO_ATTACK]
    for source, target in ((pair.reference, pair.candidate), (pair.candidate, pair.reference)):
        asked = replays[(replays["source"] == source) & (replays["target"] == target) & (replays["correct"] == 1)]
        answers = asked.reindex(columns=[*PLACE, "response"]).rename(columns={"response": "other"})
        broken = attacked[(attacked["checkpoint"] == source) & (attacked["status"] == Status.SUCCEEDED)]
        yield broken.merge(answers, on=PLACE)
        right = static[(static["checkpoint"] == target) & (static["correct"] == 1)]
        wrong = static[(static["checkpoint"] == source) & (static["correct"] == 0) & static["modified_share"].gt(0)]
        yield wrong.merge(right[[*PLACE, "response"]].rename(columns={"response": "other"}), on=PLACE)


def _one_text(row: dict[Any, Any], pair: PairRecord, arms: Arms, *, several: bool) -> OneText:
    answers = {str(row["checkpoint"]): (row["response"], False)}
    replies = tuple(
        ArmReply(arm.short, style, _said(*answers.get(name, (row["other"], True)), row["gold"]), name not in answers)
        for arm, style, name in (
            (arms.reference, "ref", pair.reference),
            (arms.candidate, "cand", pair.candidate),
        )
    )
    marked = mark_letters(shown_text(row["original_text"]), shown_text(row["adversarial_text"]))
    source = str(row["testset"]) if row["attack"] == NO_ATTACK else f"{row['attack']} on {row['testset']}"
    where = f"{source}, {pair.name}" if several else source
    return OneText(shorten_around(marked.after), replies, _cut(str(row["gold"])), where)


def _said(answer: object, is_right: bool, gold: object) -> str:
    """An answer; where a replay did not keep its words, the right one."""
    if isinstance(answer, str):
        return _cut(answer) or "(nothing)"
    return _cut(str(gold)) if is_right else "(nothing)"


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_ANSWER else f"{text[:LONGEST_ANSWER]} \u2026"


def shorten_around(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Returns the changed letters with what stands around them, where the whole is too long.

    >>> long = (Piece("a" * 400, False), Piece("x", True), Piece("b" * 400, False))
    >>> [len(piece.text) for piece in shorten_around(long)]
    [92, 1, 92]
    """
    if sum(len(piece.text) for piece in pieces) <= LONGEST:
        return tuple(pieces)
    changed = [place for place, piece in enumerate(pieces) if piece.changed] or [0]
    kept: list[Piece] = []
    for place, piece in enumerate(pieces):
        text = piece.text
        if not piece.changed and place < changed[0] and len(text) > CONTEXT:
            text = f"\u2026 {text[-CONTEXT:].lstrip()}"
        elif not piece.changed and place > changed[-1] and len(text) > CONTEXT:
            text = f"{text[:CONTEXT].rstrip()} \u2026"
        elif not piece.changed and len(text) > 2 * CONTEXT:
            text = f"{text[:CONTEXT].rstrip()} \u2026 {text[-CONTEXT:].lstrip()}"
        kept.append(Piece(text, piece.changed))
    return tuple(kept)
