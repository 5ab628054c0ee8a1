"""Training methods as data: full fine-tuning or a PEFT method, with the learning rates that are tried."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from robustness.definitions.attacks import Deviation
from robustness.definitions.catalog import Entry
from robustness.definitions.model import Definition
from robustness.definitions.naming import nearest
from robustness.definitions.reading import read_definition
from robustness.errors import DefinitionError

METHODS_FOLDER = Path(__file__).resolve().parent


class LoraAdapter(Definition):
    """Low-rank updates of linear layers (arXiv 2106.09685)."""

    peft_type: Literal["lora"]
    rank: PositiveInt
    alpha: PositiveInt
    """The update is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Share of the adapter's inputs that is zeroed in training."""
    target_modules: Literal["attention"] | tuple[str, ...]
    """`attention`: the query and value projections, whatever the base calls them."""


class MethodDefinition(Definition):
    """One way to adapt a base to a task."""

    summary: str
    paper: str | None = None
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    """All are tried; the best on the clean development rows is kept."""
    adapter: LoraAdapter | None = None
    """Absent: every weight is trained."""
    deviations: tuple[Deviation, ...] = ()

    @property
    def is_peft(self) -> bool:
        """Whether the base stays as it is and an adapter is trained."""
        return self.adapter is not None


def method_names() -> list[str]:
    """The methods that `train` knows, sorted.

    >>> method_names()
    ['full', 'lora']
    """
    return sorted(path.stem for path in METHODS_FOLDER.glob("*.toml"))


def find_method(name: str) -> Entry[MethodDefinition]:
    """Returns the method of that name.

    >>> find_method("lora").definition.is_peft
    True

    Raises:
        DefinitionError: no method has that name; the message has the nearest one.
    """
    if name not in method_names():
        raise DefinitionError(f"unknown method {name!r}{nearest(name, method_names())}")
    path = METHODS_FOLDER / f"{name}.toml"
    return Entry(name, path, read_definition(path, MethodDefinition))
