"""What can be added to a method's training against attacks: FreeLB, and rows changed by a recipe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import isfinite

from robustness.definitions.catalog import Entry
from robustness.definitions.naming import nearest
from robustness.errors import DefinitionError, UsageError
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
class Defence:
    """What is added to a method's training; a plain method has none of it."""

    is_adversarial: bool = False
    """Trained by FreeLB."""
    recipe: str = ""
    """The recipe that has changed further rows; empty: there are none."""

    @property
    def name(self) -> str:
        """As it stands behind a method's name; empty for none.

        >>> Defence(is_adversarial=True, recipe="deepwordbug").name
        'deepwordbug+freelb'
        """
        return "+".join([*([self.recipe] if self.recipe else []), *([FREELB] if self.is_adversarial else [])])


@dataclass(frozen=True, slots=True)
class TrainedMethod:
    """A method with what is added to its training."""

    method: Entry[MethodDefinition]
    """Under its full name in folders and tables, such as lora+freelb."""
    plain: str
    """The method's own name."""
    defence: Defence = Defence()


def split_defence(reference: str, where: str) -> tuple[str, Defence]:
    """Returns the method or file that a reference begins with, and the defence that follows.

    >>> split_defence("lora+freelb", "--method lora+freelb")
    ('lora', Defence(is_adversarial=True, recipe=''))

    Args:
        reference: such as lora, lora+deepwordbug or mine.toml+freelb.
        where: the option or key that gives it, in the message.

    Raises:
        UsageError: something is added twice, or nothing after a plus.
    """
    split = NAME.fullmatch(reference)
    plain, added = split.groups() if split else (reference, "")
    parts = added.split("+")[1:]
    recipes = [part for part in parts if part != FREELB]
    if len(recipes) > 1 or parts.count(FREELB) > 1 or "" in parts:
        raise UsageError(
            f"{where}: expected a method, then at most one recipe and {FREELB}, such as "
            f"lora+{FREELB} or lora+deepwordbug+{FREELB}"
        )
    return plain, Defence(FREELB in parts, "".join(recipes))


def defend(method: Entry[MethodDefinition], defence: Defence) -> TrainedMethod:
    """Returns a method with a defence, under the name of both.

    >>> from robustness.training.methods.variants import find_variant
    >>> defend(find_variant("lora:rank=4"), Defence(is_adversarial=True)).method.name
    'lora-r4+freelb'
    """
    name = f"{method.name}+{defence.name}" if defence.name else method.name
    return TrainedMethod(replace(method, name=name), method.name, defence)


def find_trained_method(reference: str) -> TrainedMethod:
    """Returns the method of a name such as lora+freelb, lora:rank=4+deepwordbug or mine.toml+deepwordbug+freelb.

    Raises:
        DefinitionError: no such method, or a malformed file.
        UsageError: something is added twice, or nothing after a plus.
    """
    plain, defence = split_defence(reference, f"--method {reference}")
    return defend(find_variant(plain), defence)


def refuse_alike(methods: Sequence[TrainedMethod], where: str) -> None:
    """Raises DefinitionError if two methods have one name, or train alike under two."""
    names: set[str] = set()
    trained: dict[tuple[str, Defence], str] = {}
    for each in methods:
        name = each.method.name
        if name in names:
            raise DefinitionError(f"{where}: {name!r} is given twice; remove one")
        names.add(name)
        other = trained.setdefault((each.method.digest, each.defence), name)
        if other != name:
            raise DefinitionError(f"{where}: {other!r} and {name!r} are one method, trained twice; remove one")


def add_to_each(methods: Sequence[str], *, adversarial: bool, recipe: str | None) -> list[str]:
    """Returns the methods, then each again with what is added: every plain method has a twin to be compared with.

    >>> add_to_each(["full", "lora"], adversarial=True, recipe=None)
    ['full', 'lora', 'full+freelb', 'lora+freelb']
    """
    added = [*([FREELB] if adversarial else []), *([recipe] if recipe else [])]
    return [*methods, *(f"{method}+{each}" for each in added for method in methods)]
