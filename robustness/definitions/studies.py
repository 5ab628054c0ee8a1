"""The schema of a study: methods, sizes, seeds and tasks, trained and evaluated as one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator, model_validator
from pydantic_core import PydanticKnownError

from robustness.definitions.attacks import Deviation
from robustness.definitions.catalog import Catalog
from robustness.definitions.model import Definition
from robustness.definitions.reading import read_content, validate_content
from robustness.definitions.seeds import LARGEST_SEED
from robustness.definitions.training_choices import Match, TrainingChoices
from robustness.errors import DefinitionError
from robustness.paths import expand

Text = Annotated[str, Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Value = bool | int | float | str | list[str]
"""One value of a method's parameter."""
FULL = "full"


class StudyMethod(Definition):
    """A method by its name or file, such as `lora` or `lora+freelb`; as a table, with values of its parameters.

    Each further key is one of the method's own adapter: a value, or a list of values. Several lists give every
    combination. A value that is a list itself, such as names of modules, stands in a list.
    """

    model_config = ConfigDict(extra="allow")

    method: Text
    """A shipped method, or the path of a method's file, relative to the study's file. `+freelb` after it adds
    adversarial training, `+deepwordbug` or another recipe rows that its edits have changed."""

    @model_validator(mode="after")
    def _refuse_empty(self) -> Self:
        empty = next((key for key, value in self.parameters.items() if value == []), None)
        if empty is not None:
            raise ValueError(f"key {empty!r}: a list without a value; give one or more")
        return self

    @property
    def parameters(self) -> dict[str, Any]:
        """The values or lists of values, by key, as written."""
        return self.__pydantic_extra__ or {}

    def combinations(self) -> Iterator[dict[str, Value]]:
        """Yields the parameters of each method that it stands for, in the order of its lists.

        >>> table = StudyMethod.model_validate({"method": "lora", "rank": [4, 8], "alpha": 16})
        >>> list(table.combinations())
        [{'rank': 4, 'alpha': 16}, {'rank': 8, 'alpha': 16}]
        """
        listed = [value if isinstance(value, list) else [value] for value in self.parameters.values()]
        for values in product(*listed):
            yield dict(zip(self.parameters, values, strict=True))


class StudyTraining(Definition, TrainingChoices):
    """How every checkpoint of a study is trained; a missing key keeps the default of `robustness train`."""

    adversarial: str | None = None
    """Settings of FreeLB for methods with `+freelb`, such as `freelb:steps=2,radius=0.4`."""

    COUNTED_WHERE_SET: ClassVar[frozenset[str]] = frozenset({"adversarial", "report_limit"})

    @field_validator("epochs", "steps", "dev_limit", "report_limit", "accumulation")
    @classmethod
    def _refuse_none_at_all(cls, given: int | None) -> int | None:
        if given is not None and given < 1:
            raise PydanticKnownError("greater_than", {"gt": 0})
        return given


class StudyDefinition(Definition):
    """The whole file."""

    summary: str = ""
    paper: str | None = None
    base: Text
    """A folder, relative to the file; a hub id; or `demo`, the base model of `robustness demo`."""
    tasks: Annotated[tuple[Text, ...], Field(min_length=1)]
    """Clean test sets with a training split, each of a task of its own: names, or files relative to this one."""
    methods: Annotated[tuple[StudyMethod, ...], Field(min_length=1)]
    """`full`, with which all others are compared, and further methods, plain or with a defence; names or tables.
    `full` alone is compared with itself over its seeds."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    """Training seeds of every method."""
    rows: tuple[PositiveInt, ...] = ()
    """Numbers of training rows, each a study of its own within the file; absent: all rows."""
    match: Match = "none"
    """`clean`: each candidate is also compared at the epoch whose clean score is nearest to that of its seed's full
    arm."""
    suites: Annotated[tuple[Text, ...], Field(min_length=1)]
    """Shipped suites, or files relative to this one, that every pair is run on."""
    limit: PositiveInt | None = None
    """Maximum of examples of each test set; absent: as each suite says."""
    seed: NonNegativeInt = 0
    """Seed of all searches and draws of the runs."""
    training: StudyTraining = StudyTraining()
    deviations: tuple[Deviation, ...] = ()

    @model_validator(mode="after")
    def _refuse_repeats(self) -> Self:
        for key in ("tasks", "seeds", "rows", "suites"):
            given = getattr(self, key)
            repeated = next((each for each in given if given.count(each) > 1), None)
            if repeated is not None:
                raise ValueError(f"key {key!r}: {repeated!r} is given twice; remove one")
        return self

    @model_validator(mode="after")
    def _require_full(self) -> Self:
        names = [each.method for each in self.methods]
        if FULL not in names:
            raise ValueError(
                f"key 'methods': {FULL!r} is missing; every method is compared with full fine-tuning of its seed: "
                "add it"
            )
        if set(names) == {FULL} and len(self.seeds) == 1:
            raise ValueError(
                "key 'seeds': one seed of full fine-tuning has nothing to be compared with; give two seeds or more, "
                "or add a method"
            )
        return self


def read_study(path: Path, model: type[StudyDefinition] = StudyDefinition) -> StudyDefinition:
    """Reads a study's file; a method's name stands for a table of it alone.

    Raises:
        DefinitionError: it is no valid study; the message has file and key.
    """
    content = read_content(path)
    methods = content.get("methods")
    if isinstance(methods, list):
        wrong = next((each for each in methods if not isinstance(each, str | dict)), None)
        if wrong is not None:
            raise DefinitionError(f"{path}: key 'methods': expected names or tables; got {wrong!r}")
        content["methods"] = [{"method": each} if isinstance(each, str) else each for each in methods]
    return validate_content(content, model, str(path))


STUDIES = Catalog("study", "suites/studies", StudyDefinition, read=read_study)


@dataclass(frozen=True, slots=True)
class StudyFile:
    """A study and where it was read."""

    name: str
    path: Path
    definition: StudyDefinition

    def beside(self, name: str) -> str:
        """Returns a shipped name unchanged, and the path of a file that is named relative to the study's."""
        return str((self.path.parent / expand(name)).resolve()) if name.endswith(".toml") else name


def find_study(name: str) -> StudyFile:
    """Returns the study of a shipped name, or of a path that ends in .toml.

    A file may have a shipped study's name: its page then says whether it is that study or a modified one.

    Raises:
        DefinitionError: no study has that name, or the file is malformed.
    """
    if name.endswith(".toml"):
        path = Path(name)
        return StudyFile(path.stem, path, read_study(path))
    entry = STUDIES.find(name)
    return StudyFile(entry.name, entry.path, entry.definition)
