"""Generated answers before and after an attack, of both arms to the same prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pandas as pd

from robustness.engine.outcome import Status
from robustness.reports.page.marking import Marked, mark_letters, shown_text
from robustness.reports.summaries.arms import arms_of_pair
from robustness.runs.cells import NO_ATTACK
from robustness.runs.storage.record import PairRecord, RunRecord

PER_PAIR = 6
PER_ATTACK = 2
"""Texts shown of each attack on each arm."""
PLACE = ["testset", "attack", "example_id"]
NO_ANSWER = "(nothing)"


@dataclass(frozen=True, slots=True)
class ArmAnswer:
    """What one arm answers before and after."""

    name: str
    arm: str
    """full or peft, for its colour."""
    texts: Marked
    right_before: bool
    right_after: bool


@dataclass(frozen=True, slots=True)
class GeneratedAnswer:
    """One prompt as it was and as an attack on one arm made it, with the answers of the arms that were asked."""

    pair: str
    testset: str
    attack: str
    example_id: str
    gold: str
    found_on: str
    prompt: Marked
    answers: tuple[ArmAnswer, ...]


def find_generated_answers(
    pairs: Sequence[PairRecord], examples: pd.DataFrame, replays: pd.DataFrame, record: RunRecord
) -> list[GeneratedAnswer]:
    """Returns prompts under which an arm went wrong: first those that both were asked, with the fewest changes.

    Args:
        pairs: Those with figures of their own.
        examples: examples.csv's rows.
        replays: Answers of each arm to what was found on its partner.
        record: The run's.
    """
    rows = examples[examples["testset"].isin(_generated_sets(record))]
    # Perturbed embeddings are no text that could be shown.
    rows = rows[rows["adversarial_text"].notna()]
    return [found for pair in pairs if len(rows) for found in _of_pair(pair, rows, replays, record)]


def generates(record: RunRecord) -> bool:
    """Whether a test set of a run is answered with free text."""
    return bool(_generated_sets(record))


def _generated_sets(record: RunRecord) -> list[str]:
    generated = {task.name for task in record.tasks if task.kind.traits.is_generated}
    return [each.name for each in record.testsets if each.task in generated]


def _of_pair(
    pair: PairRecord, examples: pd.DataFrame, replays: pd.DataFrame, record: RunRecord
) -> Iterator[GeneratedAnswer]:
    partner = {pair.reference: pair.candidate, pair.candidate: pair.reference}
    broken = examples[examples["checkpoint"].isin(list(partner)) & (examples["status"] == Status.SUCCEEDED)]
    broken = broken[broken["attack"] != NO_ATTACK]
    if broken.empty:
        return
    broken = broken.assign(target=broken["checkpoint"].map(partner))
    asked = replays.rename(columns={"source": "checkpoint", "response": "replayed", "correct": "replayed_correct"})
    rows = broken.merge(asked, on=["checkpoint", "target", *PLACE], how="left", suffixes=("", "_replayed"))
    rows = rows.assign(unasked=rows["replayed_correct"].isna(), changed=1 - rows["similarity"].astype(float))
    rows = rows.sort_values(["unasked", "changed", "example_id"], kind="stable")
    clean = _clean_answers(examples)
    for row in islice(_spread(rows.to_dict("records")), PER_PAIR):
        yield _generated_answer(row, pair, clean.get((row["target"], row["testset"], row["example_id"])), record)


def _spread(rows: Sequence[dict[Any, Any]]) -> Iterator[dict[Any, Any]]:
    """The first of each attack and arm, every prompt once."""
    shown: set[tuple[str, str]] = set()
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        prompt, kind = (row["testset"], row["example_id"]), (row["attack"], row["checkpoint"])
        if prompt not in shown and counts[kind] < PER_ATTACK:
            shown.add(prompt)
            counts[kind] += 1
            yield row


def _clean_answers(examples: pd.DataFrame) -> dict[tuple[str, str, str], tuple[object, object]]:
    """By checkpoint, test set and example the response to the text as it stands, and whether it is right."""
    rows = examples[examples["attack"] == NO_ATTACK]
    places = zip(rows["checkpoint"], rows["testset"], rows["example_id"], strict=True)
    return dict(zip(places, zip(rows["response"], rows["correct"], strict=True), strict=True))


def _generated_answer(
    row: dict[Any, Any], pair: PairRecord, partner: tuple[object, object] | None, record: RunRecord
) -> GeneratedAnswer:
    arms = arms_of_pair(pair, record)
    names = {pair.reference: (arms.reference.name, "full"), pair.candidate: (arms.candidate.name, "peft")}
    source, target = str(row["checkpoint"]), str(row["target"])
    answers = {source: _answer(names[source], row["clean_response"], row["clean_correct"], row["response"], 0)}
    if partner is not None and not row["unasked"]:
        answers[target] = _answer(names[target], *partner, row["replayed"], row["replayed_correct"])
    return GeneratedAnswer(
        pair=pair.name,
        testset=str(row["testset"]),
        attack=str(row["attack"]),
        example_id=str(row["example_id"]),
        gold=str(row["gold"]),
        found_on=names[source][0],
        prompt=mark_letters(shown_text(row["original_text"]), shown_text(row["adversarial_text"])),
        answers=tuple(answers[name] for name in names if name in answers),
    )


def _answer(name: tuple[str, str], before: object, right: object, after: object, right_after: object) -> ArmAnswer:
    texts = mark_letters(*(_shown_answer(text) for text in (before, after)))
    return ArmAnswer(*name, texts, right == 1, right_after == 1)


def _shown_answer(text: object) -> str:
    """An answer of nothing is said to be one, and its blanks are seen."""
    return shown_text(text) if isinstance(text, str) and text.strip() else NO_ANSWER
