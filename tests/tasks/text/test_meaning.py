from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import pytest
from fuzzing import HOSTILE, TEXTS, seconds_for
from hypothesis import given, settings
from hypothesis import strategies as st

from robustness.tasks.text.meaning import MeaningRepresentation, Slot, parse_meaning, slot_f1
from robustness.tasks.text.metrics import Scorer, TextMetric
from robustness.tasks.text.parsed import collapse
from robustness.tasks.text.parsers import MeaningParser

SLOT = re.compile(r"(\w+)\[(.*?)\]")
NAMES = st.from_regex(r"\A[a-z_]{1,8}\Z")
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="[],"), max_size=12).map(collapse)
SLOTS = st.builds(Slot, NAMES, st.lists(VALUES.filter(bool), max_size=3).map(lambda vs: tuple(sorted(vs))))
MEANINGS = st.builds(
    MeaningRepresentation, NAMES, st.lists(SLOTS, max_size=5).map(lambda slots: tuple(sorted(slots)))
)


def test_slots_and_values_stand_in_any_order() -> None:
    first = parse_meaning("inform(name[Dirt: 2], esrb[E 10+ (for Everyone)], genres[sport, racing])")
    second = parse_meaning(" inform ( genres[racing,sport] ,esrb[E 10+ (for  Everyone)],name[Dirt: 2] )\n")

    assert first is not None and first == second
    assert first.function == "inform"
    assert Counter(slot.name for slot in first.slots) == Counter(["name", "esrb", "genres"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "inform",
        "inform(",
        "inform(name[Portal]",
        "inform(name[Portal)",
        "inform(name[Portal],)",
        "inform(,name[Portal])",
        "inform(name[Portal] rating[good])",
        "inform(name[[Portal]])",
        "inform(name[Portal])) ",
        "inform(name[Portal]) and more",
        "(name[Portal])",
        "inform(name)",
        "two words(name[Portal])",
    ],
)
def test_what_is_no_meaning_representation_is_none(text: str) -> None:
    assert parse_meaning(text) is None


@pytest.mark.parametrize(
    ("said", "gold", "f1"),
    [
        ("f(a[1], b[2])", "f(b[2], a[1])", 1),
        ("g(a[1])", "f(a[1])", 1),  # the function is exact match's affair
        ("f(a[1], a[1])", "f(a[1])", 2 / 3),  # a multiset
        ("f(a[1, 2])", "f(a[1])", 0),  # a slot with all its values
        ("f(a[])", "f(a[1])", 0),
        ("f()", "f()", 1),
        ("f()", "f(a[1])", 0),
        ("f(a[1], b[2], c[3])", "f(a[1], b[0])", 2 / 5),
    ],
)
def test_slot_f1_is_worked_out_by_hand(said: str, gold: str, f1: float) -> None:
    ours, theirs = parse_meaning(said), parse_meaning(gold)
    assert ours is not None and theirs is not None

    assert slot_f1(ours, theirs) == pytest.approx(f1)
    assert slot_f1(theirs, ours) == pytest.approx(f1)


def test_another_function_is_wrong_with_all_slots_right() -> None:
    parse = MeaningParser().parse
    said, gold = parse("confirm(name[Portal])"), parse("inform(name[Portal])")
    assert gold is not None

    score = Scorer(TextMetric.SLOT_F1).score(said, [gold])

    assert (score.correct, score.quality) == (False, 1)


@given(meaning=MEANINGS)
def test_what_is_written_is_read_again(meaning: MeaningRepresentation) -> None:
    assert parse_meaning(str(meaning)) == meaning


def fuzz(text: str) -> None:
    meaning = parse_meaning(text)
    if meaning is not None:
        assert parse_meaning(str(meaning)) == meaning
        assert slot_f1(meaning, meaning) == 1


@given(text=TEXTS)
@settings(max_examples=300)
def test_no_text_breaks_the_parser(text: str) -> None:
    fuzz(text)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@given(text=TEXTS | MEANINGS.map(str))
@settings(max_examples=200_000, deadline=None)
def test_no_text_of_200_000_breaks_the_parser(text: str) -> None:
    fuzz(text)


@pytest.mark.parametrize("unit", HOSTILE)
def test_long_texts_take_time_in_proportion(unit: str) -> None:
    assert seconds_for(parse_meaning, unit, 20_000) < 1


def test_every_gold_meaning_of_viggo_is_read_and_scores_one(shared_data: Path) -> None:
    texts = []
    for name in ("train", "valid", "test"):
        with (shared_data / "viggo" / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
            texts += [row["mr"] for row in csv.DictReader(stream)]

    for text in texts:
        parsed = MeaningParser().parse(text)
        assert parsed is not None and parsed.meaning is not None, text
        # An independent reading: what stands before each bracket, and within it.
        slots = [(name, tuple(sorted(filter(None, value.split(", "))))) for name, value in SLOT.findall(text)]
        assert sorted(slots) == [(slot.name, slot.values) for slot in parsed.meaning.slots]
        assert parsed.meaning.function == text.split("(")[0]
        score = Scorer(TextMetric.SLOT_F1).score(parsed, [parsed])
        assert (score.correct, score.quality) == (True, 1)
    assert len(texts) == 6_900
