"""Training methods as data: full fine-tuning or a PEFT method, with its learning rates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from robustness.definitions.attacks import Deviation
from robustness.definitions.catalog import Entry
from robustness.definitions.model import Definition
from robustness.definitions.naming import nearest_of
from robustness.definitions.pairs import BasePrecision
from robustness.definitions.reading import read_definition
from robustness.errors import DefinitionError
from robustness.training.adapters import Adapter

METHODS_FOLDER = Path(__file__).resolve().parent


class StudySettings(Definition):
    """How the study of arXiv 2505.22355 trained this method on one task: `--protocol paper`."""

    task: str
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    epochs: PositiveInt
    max_grad_norm: Annotated[float, Field(ge=0)] = 0.0
    """0: gradients are not clipped."""
    warmup_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    adapter: Adapter | None = None
    """If it differs from the method's own."""


class MethodDefinition(Definition):
    """One way to adapt a base to a task."""

    summary: str
    paper: str | None = None
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    """All are tried; the best one on the clean development rows is kept."""
    adapter: Adapter | None = None
    """Absent: every weight is trained."""
    base_precision: BasePrecision = BasePrecision.FULL
    """How the frozen base under the adapter is held, in training and, unless a pair says otherwise, in runs."""
    study: tuple[StudySettings, ...] = ()
    deviations: tuple[Deviation, ...] = ()

    COUNTED_WHERE_SET: ClassVar[frozenset[str]] = frozenset({"base_precision"})

    @model_validator(mode="after")
    def _pack_only_frozen_weights(self) -> Self:
        if self.adapter is None and self.on_four_bit:
            raise ValueError(f"base_precision is {self.base_precision}; only an adapter is trained on such a base")
        return self

    @property
    def on_four_bit(self) -> bool:
        """Whether the base is held in 4 bit."""
        return self.base_precision is BasePrecision.FOUR_BIT

    @property
    def is_peft(self) -> bool:
        """Whether an adapter is trained on an unchanged base."""
        return self.adapter is not None


def method_names() -> list[str]:
    """The methods that `train` knows, sorted.

    >>> method_names()[:3]
    ['adalora', 'bitfit', 'dora']
    """
    return sorted(path.stem for path in METHODS_FOLDER.glob("*.toml"))


def find_method(name: str) -> Entry[MethodDefinition]:
    """Returns the method of that name, or of a path that ends in .toml.

    >>> find_method("lora").definition.is_peft
    True

    Raises:
        DefinitionError: no method has that name (the message has the nearest one), or the file is malformed or
            reuses a shipped name.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if path.stem in method_names():
            raise DefinitionError(f"{path}: the name {path.stem!r} is taken by a shipped method; rename the file")
    else:
        path = METHODS_FOLDER / f"{name}.toml"
        if name not in method_names():
            raise DefinitionError(f"unknown method {name!r}{nearest_of(name, method_names())}")
    return Entry(path.stem, path, read_definition(path, MethodDefinition))
