from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated

import pytest
from pydantic import Field, PositiveInt

from robustness.definitions.part_docs import describe_kind
from robustness.definitions.parts import Kinds, Part
from robustness.errors import DefinitionError

KINDS = Kinds(
    {"shouts": "made_up:Shouts", "whispers": "made_up:whisper", "echoes": "made_up:Echo"},
    given=frozenset({"voice", "unused"}),
    named={"Shouts": str},
)


@dataclass(frozen=True, slots=True)
class Shouts:
    """Made-up part."""

    voice: str
    count: PositiveInt
    """How often."""
    words: Annotated[tuple[str, ...], Field(min_length=1)] = ("so",)
    pitch: float | None = None


@dataclass(frozen=True, slots=True)
class Echo:
    """Made-up part that is made of another."""

    source: Shouts


def whisper(share: Annotated[float, Field(ge=0, lt=1)] = 0.5) -> str:
    """Speaks low.

    Args:
        share: of the voice that is left.
    """
    return f"whisper {share}"


def never() -> object:
    raise AssertionError("nothing asks for it")


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ModuleType("robustness.made_up")
    made.__dict__.update(Shouts=Shouts, Echo=Echo, whisper=whisper)
    monkeypatch.setitem(sys.modules, "robustness.made_up", made)


def test_keys_types_limits_and_defaults_are_those_of_the_constructor() -> None:
    part = KINDS.check(Part(kind="shouts", count=2), "mine.toml", ["search"])

    assert part.model_dump_json() == '{"kind":"shouts","count":2,"words":["so"]}'
    assert KINDS.build(part, {"voice": lambda: "loud", "unused": never}) == Shouts("loud", 2, ("so",), None)


def test_a_function_is_a_constructor_too_and_is_handed_nothing_that_it_does_not_ask_for() -> None:
    part = KINDS.check(Part(kind="whispers", share=0.25), "mine.toml", ["search"])

    assert KINDS.build(part, {"voice": never}) == "whisper 0.25"
    assert KINDS.asks_for("shouts", "voice") and not KINDS.asks_for("whispers", "voice")
    assert not KINDS.asks_for("shouts", "count")


def test_a_kind_is_described_by_its_constructors_signature_and_docstring() -> None:
    assert list(describe_kind(KINDS, "shouts")) == [
        'kind = "shouts": Made-up part.',
        "  count: integer > 0 - How often.",
        "  words: list of text, at least 1; left out: ['so']",
        "  pitch: number; may be left out",
    ]
    assert list(describe_kind(KINDS, "whispers")) == [
        'kind = "whispers": Speaks low.',
        "  share: number >= 0 and < 1; left out: 0.5 - of the voice that is left.",
    ]


def test_an_object_that_a_file_can_but_name_is_a_key_of_its_name_and_loaded_when_the_part_is_built() -> None:
    loud = Shouts("loud", 1)

    part = KINDS.check(Part(kind="echoes", source="mine"), "mine.toml", ["search"])

    assert part.model_dump_json() == '{"kind":"echoes","source":"mine"}'
    assert KINDS.build(part, loaders={"Shouts": {"mine": loud}.__getitem__}) == Echo(loud)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"kind": "shout"}, "mine.toml [steps.#2]: unknown 'kind' 'shout'; did you mean 'shouts'?"),
        (
            {"kind": "shouts", "count": 1, "pich": 1.0},
            "mine.toml [steps.#2.shouts]: unknown key 'pich'; did you mean 'pitch'?",
        ),
        ({"kind": "shouts", "count": 1, "voice": "low"}, "mine.toml [steps.#2.shouts]: unknown key 'voice'; known: "),
        ({"kind": "shouts"}, "mine.toml [steps.#2.shouts]: missing key 'count'"),
        ({"kind": "shouts", "count": 0}, "mine.toml [steps.#2.shouts]: key 'count': expected more than 0"),
        ({"kind": "shouts", "count": 1.5}, "mine.toml [steps.#2.shouts]: key 'count': "),
        ({"kind": "shouts", "count": 1, "words": []}, "mine.toml [steps.#2.shouts]: key 'words': "),
        ({"kind": "shouts", "count": 1, "words": [1]}, "mine.toml [steps.#2.shouts.words]: key 0: "),
        ({"kind": "whispers", "share": 1.0}, "mine.toml [steps.#2.whispers]: key 'share': expected less than"),
    ],
)
def test_what_the_constructor_does_not_take_names_file_table_and_key(given: dict[str, object], expected: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        KINDS.check(Part.model_validate(given), "mine.toml", ["steps", 1])

    assert str(caught.value).startswith(expected)
