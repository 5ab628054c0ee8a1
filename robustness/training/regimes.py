"""What can be added to a method's training against attacks: FreeLB, and rows changed by a recipe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import isfinite

from robustness.definitions.catalog import Entry
from robustness.definitions.naming import nearest
from robustness.errors import UsageError
from robustness.training.methods import MethodDefinition
from robustness.training.methods.variants import find_variant

FREELB = "freelb"
NAME = re.compile(r"(.*\.toml|[^+]*)((?:\+[^+/]*)*)")
"""A method or its file, then what is added to its training."""


@dataclass(frozen=True, slots=True)
class FreeLb:
    """The settings of FreeLB's inner maximisation; lengths are Euclidean, over all embeddings of one text.

    Source of the values: the authors' script for SST-2, huggingface-transformers/launch/run_glue.sh of
    github.com/zhuchen03/FreeLB.
    """

    steps: int = 3
    """Forward and backward passes for each batch."""
    step_size: float = 0.1
    """Length of an ascent step."""
    radius: float = 0.6
    """Largest length of a perturbation; 0: no limit."""
    initial: float = 1.0
    """Bound of the first perturbation's entries, times the root of their number."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError(f"{FREELB}: steps is {self.steps}; expected 1 or more")
        for name in ("step_size", "radius", "initial"):
            value = getattr(self, name)
            if not (value >= 0 and isfinite(value)):
                raise UsageError(f"{FREELB}: {name} is {value}; expected 0 or more")


def read_adversarial(words: str) -> FreeLb:
    """Reads what `--adversarial` takes: a name, and settings where others are wanted.

    >>> read_adversarial("freelb:steps=2,radius=0.4")
    FreeLb(steps=2, step_size=0.1, radius=0.4, initial=1.0)

    Raises:
        UsageError: another name, an unknown setting, or a value out of range.
    """
    option = f"--adversarial {words}"
    name, _, given = words.partition(":")
    if name != FREELB:
        raise UsageError(f"{option}: expected {FREELB}, or {FREELB}:KEY=VALUE,...")
    kinds = {field.name: int if field.name == "steps" else float for field in fields(FreeLb)}
    values: dict[str, float] = {}
    for word in given.split(",") if given else ():
        key, _, value = word.partition("=")
        if key not in kinds:
            raise UsageError(f"{option}: unknown key {key!r}{nearest(key, kinds)}; expected {', '.join(kinds)}")
        try:
            values[key] = kinds[key](value)
        except ValueError:
            raise UsageError(f"{option}: {key} is {value!r}; expected a number") from None
    return FreeLb(**values)  # type: ignore[arg-type]  # `steps` was read as an int


@dataclass(frozen=True, slots=True)
class TrainedMethod:
    """A method with what is added to its training."""

    method: Entry[MethodDefinition]
    """Under its full name in folders and tables, such as lora+freelb."""
    plain: str
    """The method's own name."""
    is_adversarial: bool = False
    """Trained by FreeLB."""
    recipe: str = ""
    """The recipe that has changed further rows; empty: there are none."""


def find_trained_method(reference: str) -> TrainedMethod:
    """Returns the method of a name such as lora+freelb, lora+deepwordbug or mine.toml+deepwordbug+freelb.

    >>> found = find_trained_method("lora+freelb")
    >>> found.method.name, found.plain, found.is_adversarial
    ('lora+freelb', 'lora', True)

    Raises:
        DefinitionError: no such method, or a malformed file.
        UsageError: something is added twice, or nothing after a plus.
    """
    split = NAME.fullmatch(reference)
    plain, added = split.groups() if split else (reference, "")
    entry = find_variant(plain)
    parts = added.split("+")[1:]
    recipes = [part for part in parts if part != FREELB]
    if len(recipes) > 1 or parts.count(FREELB) > 1 or "" in parts:
        raise UsageError(
            f"--method {reference}: expected a method, then at most one recipe and {FREELB}, such as "
            f"lora+{FREELB} or lora+deepwordbug+{FREELB}"
        )
    name = "+".join([entry.name, *recipes, *([FREELB] if FREELB in parts else [])])
    return TrainedMethod(replace(entry, name=name), entry.name, FREELB in parts, "".join(recipes))


def add_to_each(methods: Sequence[str], *, adversarial: bool, recipe: str | None) -> list[str]:
    """Returns the methods, then each again with what is added: every plain method has a twin to be compared with.

    >>> add_to_each(["full", "lora"], adversarial=True, recipe=None)
    ['full', 'lora', 'full+freelb', 'lora+freelb']
    """
    added = [*([FREELB] if adversarial else []), *([recipe] if recipe else [])]
    return [*methods, *(f"{method}+{each}" for each in added for method in methods)]
