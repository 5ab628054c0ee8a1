"""The texts of a run for reading: each example under each attack, with what both arms answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pandas as pd

from robustness.engine.outcome import Status
from robustness.reports.page.marking import Marked, Piece, mark_letters, shorten_unchanged, whole_text
from robustness.reports.summaries.arms import Arms, arms_of_pair
from robustness.runs.cells import NO_ATTACK
from robustness.runs.storage.record import PairRecord, RunRecord
from robustness.tasks.objective import ObjectiveKind

MAX_TEXTS = 160
"""Examples under an attack on one page."""
MAX_CHOICES = 40
"""Of a filter: labels, but not every answer to a question."""
MAX_CHARACTERS = 200_000
"""Of all texts on the page together."""
PLACE = ["testset", "attack", "example_id"]
COLUMNS = [
    *("checkpoint", *PLACE, "gold", "clean_response", "response", "clean_correct", "correct", "status"),
    *("modified_share", "original_text", "adversarial_text", "goal"),
]
"""Of examples.csv: copying all of them for every pair costs seconds."""


class Result(StrEnum):
    """What became of an example under an attack, in the order in which texts are shown."""

    ONE_TEXT = "one-text"
    """One text breaks an arm and not the other, which was asked the same text."""
    REFERENCE = "reference"
    """The attack breaks the reference alone."""
    CANDIDATE = "candidate"
    BOTH = "both"
    NEITHER = "neither"
    REDUCED = "reduced"
    """Of an attack that keeps the answer and takes words away."""
    WRONG = "wrong-before"
    """At least one arm is wrong without an attack."""
    UNKNOWN = "unknown"
    """At least one arm has no judged outcome."""


@dataclass(frozen=True, slots=True)
class ArmText:
    """What one arm was shown and what it answers."""

    name: str
    role: str
    """full or peft, for its colour."""
    words: str
    """What became of it."""
    text: tuple[Piece, ...]
    """The text that the attack found for this arm, its changes marked."""
    answers: Marked
    """Before and after."""
    right: tuple[bool | None, bool | None]
    """Before and after; None: not judged."""
    partner: str = ""
    """The other arm's name."""
    replayed: str = ""
    """What the other arm answers to this very text; empty where it was not asked."""
    replayed_right: bool = False


@dataclass(frozen=True, slots=True)
class BrowsedText:
    """One example under one attack."""

    pair: str
    testset: str
    attack: str
    example_id: str
    gold: str
    results: tuple[Result, ...]
    original: tuple[Piece, ...]
    """The text without an attack; of a ready-made row, its changes are marked."""
    arms: tuple[ArmText, ...]
    keys: tuple[str, str]
    """The answers of both arms to filter by: a label, or right and wrong of free answers."""


@dataclass(frozen=True, slots=True)
class Option:
    """One choice of a filter."""

    value: str
    words: str
    count: int


@dataclass(frozen=True, slots=True)
class Filter:
    """One choice among what texts have."""

    name: str
    title: str
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class TextSection:
    """The texts on the page, and how many there are."""

    texts: tuple[BrowsedText, ...]
    n: int
    n_without_text: int
    """Outcomes of perturbed embeddings, which are no text."""
    words: dict[str, str]
    """Of each result."""
    filters: tuple[Filter, ...]

    @property
    def has_divergent(self) -> bool:
        """Whether a text on the page breaks one arm and not the other."""
        return any(Result.ONE_TEXT in text.results for text in self.texts)


def describe_texts(
    examples: pd.DataFrame, replays: pd.DataFrame, shown: Sequence[PairRecord], arms: Arms, record: RunRecord
) -> TextSection:
    """Returns the texts of the pairs `shown`: a share of every attack and outcome, as many as fit on a page.

    Args:
        examples: examples.csv's rows.
        replays: Answers of each arm to what was found on its partner.
        shown: The pairs with texts on the page.
        arms: What to call the arms in filters.
        record: The run's.
    """
    generated = {task.name for task in record.tasks if task.kind.traits.is_generated}
    free = {each.name for each in record.testsets if each.task in generated}
    kept = _has_text(examples, record)
    rows = examples.loc[kept, COLUMNS]
    found = [_merge(pair, rows, replays) for pair in shown]
    limit = max(20, MAX_TEXTS // max(1, len(shown)))
    texts: list[BrowsedText] = []
    for pair, merged in zip(shown, found, strict=True):
        texts += _take(_choose(merged, limit), pair, record, free, MAX_CHARACTERS // max(1, len(shown)))
    return TextSection(
        texts=tuple(texts),
        n=sum(map(len, found)),
        n_without_text=int((~kept & (examples["attack"] != NO_ATTACK)).sum()),
        words=(words := _words(arms)),
        filters=tuple(_filters(texts, words, arms)),
    )


def _filters(texts: Sequence[BrowsedText], words: dict[str, str], arms: Arms) -> Iterator[Filter]:
    """Yields a filter for each column that has more than one value and at most `MAX_CHOICES`."""
    reference, candidate = arms.shorts
    columns: dict[str, tuple[str, list[str]]] = {
        "outcome": ("outcome", [result for text in texts for result in text.results]),
        "attack": ("attack", [text.attack for text in texts]),
        "gold": ("right answer", [text.gold for text in texts]),
        "reference": (f"{reference} answers", [text.keys[0] for text in texts]),
        "candidate": (f"{candidate} answers", [text.keys[1] for text in texts]),
        "testset": ("test set", [text.testset for text in texts]),
        "pair": ("pair", [text.pair for text in texts]),
    }
    for name, (title, values) in columns.items():
        counts = Counter(values)
        if 1 < len(counts) <= MAX_CHOICES:
            order = [value for value in words if value in counts] if name == "outcome" else list(counts)
            options = (Option(value, words.get(value, value), counts[value]) for value in order)
            yield Filter(name, title, tuple(options))


def _words(arms: Arms) -> dict[str, str]:
    reference, candidate = arms.shorts
    return {
        Result.ONE_TEXT: "one text breaks one arm, not the other",
        Result.REFERENCE: f"only {reference} breaks",
        Result.CANDIDATE: f"only {candidate} breaks",
        Result.BOTH: "both break",
        Result.NEITHER: "neither breaks",
        Result.REDUCED: "reduced under the same answer",
        Result.WRONG: "wrong before the attack",
        Result.UNKNOWN: "no judged outcome",
    }


def _has_text(examples: pd.DataFrame, record: RunRecord) -> pd.Series[bool]:
    """Rows under attacks that make texts, of ready-made sets, and of clean sets that nothing attacks."""
    is_attacked = examples["attack"] != NO_ATTACK
    cells = [examples[name] for name in PLACE[:2]]
    makes_text = examples["adversarial_text"].notna().groupby(cells).transform("any")
    clean = {each.name for each in record.testsets if each.kind == "clean"}
    shown_attacked = clean & set(examples.loc[is_attacked, "testset"])
    return (is_attacked & makes_text) | (~is_attacked & ~examples["testset"].isin(shown_attacked))


def _merge(pair: PairRecord, rows: pd.DataFrame, replays: pd.DataFrame) -> pd.DataFrame:
    """One row an example and attack, columns of both arms with the suffixes _full and _peft."""
    sides = {"full": (pair.reference, pair.candidate), "peft": (pair.candidate, pair.reference)}
    parts = []
    for role, (mine, other) in sides.items():
        part = rows[rows["checkpoint"] == mine].drop(columns="checkpoint")
        asked = replays[(replays["source"] == mine) & (replays["target"] == other)]
        answers = asked.reindex(columns=[*PLACE, "response", "correct"])
        answers = answers.rename(columns={"response": "replayed", "correct": "replayed_right"})
        part = part.merge(answers.drop_duplicates(PLACE), on=PLACE, how="left")
        parts.append(part.set_index(PLACE).add_suffix(f"_{role}"))
    merged = parts[0].join(parts[1], how="outer", sort=False).reset_index()
    results = [_results(row) for row in merged.to_dict("records")]
    share = merged[["modified_share_full", "modified_share_peft"]].astype(float).min(axis=1)
    return merged.assign(results=results, first=[list(Result).index(each[0]) for each in results], share=share)


def _results(row: dict[Any, Any]) -> tuple[Result, ...]:
    full, peft = (_state(row, role) for role in ("full", "peft"))
    if not full or not peft:
        return (Result.UNKNOWN,)
    if Status.SKIPPED in (full, peft):
        return (Result.WRONG,)
    if ObjectiveKind.KEEP_PREDICTION in (row["goal_full"], row["goal_peft"]):
        return (Result.REDUCED,)
    broken = full == Status.SUCCEEDED, peft == Status.SUCCEEDED
    plain = {
        (True, True): Result.BOTH,
        (True, False): Result.REFERENCE,
        (False, True): Result.CANDIDATE,
        (False, False): Result.NEITHER,
    }[broken]
    is_static = row["attack"] == NO_ATTACK
    alone = is_static and plain in (Result.REFERENCE, Result.CANDIDATE)
    for role, state in (("full", full), ("peft", peft)):
        alone |= state == Status.SUCCEEDED and row[f"replayed_right_{role}"] == 1
    return (Result.ONE_TEXT, plain) if alone else (plain,)


def _state(row: dict[Any, Any], role: str) -> str:
    """The status of one arm; empty where there is no judged outcome."""
    status = row[f"status_{role}"]
    return "" if pd.isna(status) or status == Status.ERRORED else str(status)


def _choose(merged: pd.DataFrame, limit: int) -> pd.DataFrame:
    """A share of every attack and outcome, few changes first; in the order of outcomes."""
    ordered = merged.sort_values(["share", "example_id"], kind="stable")
    ordered = ordered.assign(turn=ordered.groupby(["first", "testset", "attack"], sort=False).cumcount())
    chosen = ordered.sort_values(["turn", "first"], kind="stable").head(limit)
    return chosen.sort_values(["first", "turn"], kind="stable")


def _take(
    chosen: pd.DataFrame, pair: PairRecord, record: RunRecord, free: set[str], most: int
) -> Iterator[BrowsedText]:
    """Texts until the page has as many characters as it should."""
    arms, used = arms_of_pair(pair, record), 0
    for row in chosen.to_dict("records"):
        text = _text(row, pair, arms, is_free=row["testset"] in free)
        used += sum(len(piece.text) for piece in text.original) + 160
        used += sum(len(piece.text) for arm in text.arms for piece in (*arm.text, *arm.answers.before))
        if used > most:
            return
        yield text


def _text(row: dict[Any, Any], pair: PairRecord, arms: Arms, *, is_free: bool) -> BrowsedText:
    named = {"full": arms.reference.short, "peft": arms.candidate.short}
    known = [role for role in named if not pd.isna(row[f"status_{role}"])]
    first = known[0]
    is_attacked = row["attack"] != NO_ATTACK
    found = {role: row[f"adversarial_text_{role}"] for role in known if not pd.isna(row[f"adversarial_text_{role}"])}
    given = row[f"original_text_{first}"]
    # A row of a clean set has no original, and one that was not attacked has nothing else.
    original = whole_text(next(iter(found.values()), "") if pd.isna(given) else given)
    marked = {role: mark_letters(original, whole_text(text)) for role, text in found.items()}
    shown = (Piece(original, changed=False),) if is_attacked or not marked else marked[next(iter(marked))].after
    keys = tuple(_key(row, role, is_free=is_free) for role in named)
    return BrowsedText(
        pair=pair.name,
        testset=str(row["testset"]),
        attack=str(row["attack"]) if is_attacked else "none: as it stands",
        example_id=str(row["example_id"]),
        gold=str(row[f"gold_{first}"]),
        results=row["results"],
        original=shorten_unchanged(shown),
        arms=tuple(_arm(row, role, named, marked if is_attacked else {}, is_free=is_free) for role in known),
        keys=(keys[0], keys[1]),
    )


def _key(row: dict[Any, Any], role: str, *, is_free: bool) -> str:
    if not _state(row, role):
        return "none"
    if is_free:
        return "right" if row[f"correct_{role}"] == 1 else "wrong"
    return str(row[f"response_{role}"])


def _arm(
    row: dict[Any, Any], role: str, named: dict[str, str], marked: dict[str, Marked], *, is_free: bool
) -> ArmText:
    before, after = _said(row[f"clean_response_{role}"]), _said(row[f"response_{role}"])
    answers = mark_letters(before, after) if is_free and before else None
    plain = Marked(*((Piece(text, changed=False),) if text else () for text in (before, after)))
    status = _state(row, role)
    is_static = row["attack"] == NO_ATTACK
    succeeded, failed = ("wrong", "right") if is_static else ("broken", "withstands")
    if row[f"goal_{role}"] == ObjectiveKind.KEEP_PREDICTION:
        succeeded, failed = "reduced", "not reduced"
    words = {Status.SUCCEEDED: succeeded, Status.FAILED: failed, Status.SKIPPED: "wrong before"}
    replayed = row[f"replayed_{role}"] if status == Status.SUCCEEDED else None
    return ArmText(
        name=named[role],
        role=role,
        words=words.get(Status(status), "") if status else "no outcome",
        text=shorten_unchanged(marked[role].after) if role in marked else (),
        answers=answers or plain,
        right=(_right(row[f"clean_correct_{role}"]), _right(row[f"correct_{role}"])),
        partner=named["peft" if role == "full" else "full"],
        replayed=_said(replayed),
        replayed_right=row[f"replayed_right_{role}"] == 1,
    )


def _said(value: object) -> str:
    """An answer as it is shown; empty where none was asked for."""
    return (value.strip() or "(nothing)") if isinstance(value, str) else ""


def _right(value: Any) -> bool | None:
    return None if pd.isna(value) else bool(value == 1)
