"""Adversarial texts that break one arm of a pair while the other withstands them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from robustness.engine.outcome import Status
from robustness.reports.page.marking import Marked, mark_words, shown_text
from robustness.reports.tables.examples import keeps_prediction
from robustness.runs.cells import NO_ATTACK
from robustness.runs.storage.record import PairRecord

PER_ARM = 8
"""Texts shown for each arm of a pair."""
PER_ATTACK = 3
COLUMNS = [
    *("checkpoint", "testset", "attack", "example_id", "gold", "correct", "response", "status", "modified_share"),
    *("original_text", "adversarial_text"),
]
"""Of examples.csv: copying all of them for every pair costs seconds."""


@dataclass(frozen=True, slots=True)
class DivergentExample:
    """One text, and what each arm answers to it."""

    breaks: str
    """full or peft."""
    testset: str
    attack: str | None
    """None: a row of the test set itself."""
    example_id: str
    gold: str
    wrong: str
    """What the broken arm answers; the other is right."""
    texts: Marked


def find_divergent_examples(
    pair: PairRecord, examples: pd.DataFrame, replays: pd.DataFrame
) -> list[DivergentExample]:
    """Returns texts that break just one arm, few changes first, several attacks of each.

    A text found by attacking one arm counts if the other, asked about that very text, gives the right answer; a row
    of an adversarial test set if one arm is wrong on it and the other right.
    """
    of_pair = examples["checkpoint"].isin([pair.reference, pair.candidate]) & ~keeps_prediction(examples)
    examples = examples.loc[of_pair, COLUMNS]
    found: list[DivergentExample] = []
    for breaks, source, target in (
        ("peft", pair.candidate, pair.reference),
        ("full", pair.reference, pair.candidate),
    ):
        rows = pd.concat([_attacked(examples, replays, source, target), _static(examples, source, target)])
        if rows.empty:
            continue
        ranked = rows.sort_values(["modified_share", "example_id"], kind="stable")
        distinct = ranked.drop_duplicates(["testset", "example_id"])
        chosen = distinct.groupby(["testset", "attack"], sort=False).head(PER_ATTACK).head(PER_ARM)
        found += [_divergent_example(row, breaks) for row in chosen.to_dict("records")]
    return found


def explain_none(pairs: Sequence[PairRecord], examples: pd.DataFrame, replays: pd.DataFrame) -> str:
    """Returns why no text of any pair breaks just one arm: nothing broke, or all that did broke both arms."""
    examples = examples.loc[~keeps_prediction(examples), COLUMNS]
    arms = {name for pair in pairs for name in (pair.reference, pair.candidate)}
    mine = examples[examples["checkpoint"].isin(arms) & (examples["attack"] != NO_ATTACK)]
    if mine.empty:
        return "Nothing was attacked."
    broken = int((mine["status"] == Status.SUCCEEDED).sum())
    if not broken:
        return "No attack broke either arm."
    asked = len(_asked(mine, replays, pairs))
    if asked < broken:
        return (
            f"Attacks found {broken:,} texts; of the {asked:,} asked of the other arm, it gets every one wrong too."
        )
    return f"The other arm gets every one of the {broken:,} texts that attacks found wrong too."


def _asked(broken: pd.DataFrame, replays: pd.DataFrame, pairs: Sequence[PairRecord]) -> pd.DataFrame:
    """The texts found on one arm that its partner was asked about."""
    partners = {(pair.reference, pair.candidate) for pair in pairs}
    partners |= {(candidate, reference) for reference, candidate in partners}
    replays = replays[replays["correct"].notna()]
    within = [key in partners for key in zip(replays["source"], replays["target"], strict=True)]
    keys = ["testset", "attack", "example_id"]
    found = broken[broken["status"] == Status.SUCCEEDED].rename(columns={"checkpoint": "source"})
    return found.merge(replays.loc[within, ["source", *keys]], on=["source", *keys])


def _attacked(examples: pd.DataFrame, replays: pd.DataFrame, source: str, target: str) -> pd.DataFrame:
    asked = replays[(replays["source"] == source) & (replays["target"] == target)]
    withstood = asked[asked["correct"] == 1]
    broken = examples[(examples["checkpoint"] == source) & (examples["status"] == Status.SUCCEEDED)]
    keys = ["testset", "attack", "example_id"]
    return broken.merge(withstood[keys], on=keys)


def _static(examples: pd.DataFrame, source: str, target: str) -> pd.DataFrame:
    rows = examples[(examples["attack"] == NO_ATTACK) & (examples["status"] != Status.ERRORED)]
    rows = rows[rows["original_text"].notna() & rows["modified_share"].notna()]
    right = rows[(rows["checkpoint"] == target) & (rows["correct"] == 1)]
    wrong = rows[(rows["checkpoint"] == source) & (rows["correct"] != 1)]
    return wrong.merge(right[["testset", "example_id"]], on=["testset", "example_id"])


def _divergent_example(row: dict[str, object], breaks: str) -> DivergentExample:
    return DivergentExample(
        breaks=breaks,
        testset=str(row["testset"]),
        attack=None if row["attack"] == NO_ATTACK else str(row["attack"]),
        example_id=str(row["example_id"]),
        gold=str(row["gold"]),
        wrong=str(row["response"]) or "no answer",
        texts=mark_words(shown_text(row["original_text"]), shown_text(row["adversarial_text"])),
    )
