"""Finds definitions by name: those shipped with the package, and a user's own TOML files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Generic, TypeVar

from robustness.definitions.attacks import AttackDefinition
from robustness.definitions.model import Definition
from robustness.definitions.naming import suggest
from robustness.definitions.probes import ProbeDefinition
from robustness.definitions.reading import read_definition
from robustness.definitions.suites import SuiteDefinition
from robustness.definitions.testsets import TestsetDefinition
from robustness.errors import DefinitionError

D = TypeVar("D", bound=Definition)


@dataclass(frozen=True, slots=True)
class Entry(Generic[D]):
    """A definition and its name."""

    name: str
    path: Path
    definition: D

    @property
    def digest(self) -> str:
        """The definition's digest."""
        return self.definition.behaviour_digest()


@cache
def definitions_root() -> Path:
    """The folder that holds `attacks/` and `suites/`: the package in a wheel, its parent in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return package if (package / "attacks").is_dir() else package.parent


@dataclass(frozen=True, slots=True)
class Catalog(Generic[D]):
    """All definitions of one kind."""

    noun: str
    folder: str
    model: type[D]
    also: str = ""
    """Other forms of a name, besides a shipped one and a definition file."""
    read: Callable[[Path, type[D]], D] = read_definition
    """Reads a file by its model."""

    def names(self) -> list[str]:
        """The shipped names, sorted."""
        return sorted(path.stem for path in (definitions_root() / self.folder).glob("*.toml"))

    def has_shipped(self, entry: Entry[D]) -> bool:
        """Whether a definition ships with the package."""
        return entry.path.parent == definitions_root() / self.folder

    def find(self, name: str, folder: Path | None = None) -> Entry[D]:
        """Returns the definition of a shipped name, or of a path that ends in .toml.

        Args:
            name: see above.
            folder: the folder of a file that may be meant; None: the working directory.

        Raises:
            DefinitionError: the name is unknown, the file is malformed, or it reuses a shipped name.
        """
        if name.endswith(".toml"):
            path = Path(name)
            if path.stem in self.names():
                raise DefinitionError(
                    f"{path}: the name {path.stem!r} is taken by a shipped {self.noun}; rename the file"
                )
        else:
            path = definitions_root() / self.folder / f"{name}.toml"
            if name not in self.names():
                raise DefinitionError(self._explain_unknown(name, (folder or Path()) / name))
        return Entry(path.stem, path, self.read(path, self.model))

    def _explain_unknown(self, name: str, path: Path) -> str:
        expected = f"xpected a shipped name or a file NAME.toml{self.also}"
        known = self.names()
        if name and (path.is_dir() or path.is_file()):
            what = "a folder" if path.is_dir() else "no TOML file"
            return f"{self.noun} {name}: {what}; e{expected}; shipped: {', '.join(known)}"
        files = {each.stem: each.name for each in path.parent.glob("*.toml")} if path.parent.is_dir() else {}
        close = suggest(name, known) or suggest(path.stem, files)
        for stem, file in files.items():
            close = close.replace(f"{stem!r}?", f"{file!r}?") if stem not in known else close
        said = f"{close} E{expected}" if close else f"; e{expected}"
        return f"unknown {self.noun} {name!r}{said}; shipped: {', '.join(known)}"


ATTACKS = Catalog("attack", "attacks", AttackDefinition, ", file.py:Name or textattack:NAME")
SUITES = Catalog("suite", "suites", SuiteDefinition)
TESTSETS = Catalog("test set", "suites/testsets", TestsetDefinition, ", which names the file of rows (docs/tasks.md)")
PROBES = Catalog("probe", "suites/probes", ProbeDefinition, " or file.py:Name")
