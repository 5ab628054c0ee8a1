"""What the public calls take beside names and paths, checked where it enters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StrictBool,
    StrictInt,
    ValidationError,
    model_validator,
)

from robustness.definitions.expectations import expectation
from robustness.definitions.naming import nearest
from robustness.definitions.pairs import BasePrecision
from robustness.definitions.training_choices import Match, TrainingChoices
from robustness.errors import UsageError, shorten
from robustness.paths import expand

PathLike = str | Path
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16"], AfterValidator(lambda given: "float32" if given == "auto" else given)
]


def _spell_out(given: object) -> object:
    return expand(given) if isinstance(given, PathLike) else given


if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from robustness.engine.attack import Attack
    from robustness.recipes.embedding.attack import EmbeddingAttack
    from robustness.sensitivity.probe import Probe

    Arm: TypeAlias = PathLike | tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]
    """A checkpoint: its folder, its hub id, or a model with its tokenizer."""
    Rows: TypeAlias = PathLike | pd.DataFrame | Dataset
    Names: TypeAlias = Sequence[PathLike]
    Words: TypeAlias = Sequence[str]
    Attacks: TypeAlias = Sequence[PathLike | type | Attack | EmbeddingAttack]
    Probes: TypeAlias = Sequence[PathLike | type | Probe]
    Numbers: TypeAlias = Sequence[int]
    Folder: TypeAlias = PathLike
else:  # what is no path is looked at where it is used, by code that may import the libraries
    Arm = Rows = Annotated[object, BeforeValidator(_spell_out)]
    Names = tuple[Annotated[str, BeforeValidator(_spell_out)], ...]
    Attacks = Probes = tuple[Annotated[object, BeforeValidator(_spell_out)], ...]
    Words = tuple[str, ...]
    Numbers = tuple[StrictInt, ...]
    Folder = Annotated[Path, BeforeValidator(_spell_out)]


class Options(BaseModel):
    """Settings of a call: unknown names and wrong types are refused, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, given: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return validate(given)
        except ValidationError as error:
            raise UsageError(_describe(cls, error)) from None


def _describe(kind: type[Options], error: ValidationError) -> str:
    found = error.errors(include_url=False)
    # A misspelt name is also a missing one: the misspelling says more.
    first = next((each for each in found if each["type"] == "extra_forbidden"), found[0])
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return f"{kind.__name__}: unknown setting {name!r}{nearest(name, kind.model_fields)}"
    if first["type"] == "missing":
        return f"{kind.__name__}: {name} is missing"
    if first["type"] == "literal_error":
        return f"--{name} {shorten(str(first['input']))}: {expectation(first)}"
    return f"{kind.__name__}: {name}: {expectation(first)}; got {shorten(repr(first['input']))}"


class CheckpointPair(Options):
    """Two checkpoints to compare, in place of a pairs.toml.

    >>> CheckpointPair(reference="checkpoints/full", candidate="checkpoints/lora", task="sst2").task
    'sst2'

    Raises:
        UsageError: an unknown name, or a value of the wrong type.
    """

    reference: Arm
    """One checkpoint: its folder, its hub id, or (model, tokenizer)."""
    candidate: Arm
    """The other, likewise. A difference above 0 says that the candidate is worse off."""
    task: PathLike | Mapping[str, object]
    """What both are fine-tuned for: a shipped task's name, a task file, or such a file's content."""
    base: Arm | None = None
    """What both were made of. None: an adapter among them names its base, or stands on it in memory."""
    labels: Mapping[str, str] = Field(default_factory=dict)
    """Label names in the checkpoints' configs, with the task's."""


class RunSettings(Options):
    """What a run's outcomes depend on beside suite and pairs. Every default keeps what the suite says.

    >>> RunSettings(attacks=["deepwordbug", "pwws"], limit=20).limit
    20

    Raises:
        UsageError: an unknown name, or a value of the wrong type.
    """

    testsets: Names = ()
    """Test sets in place of the suite's own: names or definition files."""
    attacks: Attacks = ()
    """Attacks in place of the suite's own: names, recipe files, `file.py:Name`, attack classes or instances."""
    probes: Probes = ()
    """Probes in place of the suite's own, likewise."""
    data: Rows | None = None
    """Folder with local data files; None: the variable ROBUSTNESS_DATA, else the hub.

    Or rows to evaluate: a pandas DataFrame or a datasets.Dataset with the task's fields and `label`. Questions and
    text tasks have `answers` in place of `label`. They become the test set `data`, before `testsets`."""
    limit: StrictInt | None = None
    """At most so many examples of each test set, drawn by the seed: labels in proportion, groups whole."""
    seed: StrictInt = 0
    """Seed of all searches, and of which examples are drawn."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: Dtype = "float32"
    """Number format of the weights: float32, bfloat16, or auto, which is float32."""
    allow_untrained: StrictBool = False
    """Let a base that has not learnt the task be an arm; the page says so."""
    allow_changed: StrictBool = False
    """Evaluate test sets whose rows are not the published ones; tables then say `changed`."""
    compile: StrictBool = False
    """Score with kernels made by torch.compile; a model that it cannot compile runs uncompiled."""
    cache: Folder | None = None
    """Folder of scores, which later runs and other attacks of this run read."""
    attack_fields: Words = ()
    """Fields that are open to attack in place of the tasks' own."""
    base_precision: BasePrecision | None = None
    """The base under adapters, `4bit` or `full`, in place of what the pairs file says; None: as in their training."""


class StudySettings(Options):
    """Where a study finds its data and what computes it; results do not depend on the device but for rounding.

    >>> StudySettings(device="cpu").device
    'cpu'

    Raises:
        UsageError: an unknown name, or a value of the wrong type.
    """

    data: Folder | None = None
    """Folder with local data files; None: the variable ROBUSTNESS_DATA, else the hub."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


class TrainSettings(Options, TrainingChoices):
    """How `robustness.train` trains. Every method of a pair is trained with the same settings.

    >>> TrainSettings(seeds=[0, 1, 2], limit=2000).seeds
    (0, 1, 2)

    Raises:
        UsageError: an unknown name, or a value of the wrong type.
    """

    seeds: Numbers = (0,)
    """Training seeds; one pair for each seed and PEFT method."""
    data: Folder | None = None
    """Folder with local data files; None: the variable ROBUSTNESS_DATA, else the hub."""
    limit: StrictInt | None = None
    """At most so many training rows."""
    match: Match = "none"
    """`clean` takes, for each pair, the epochs at which its arms are closest in clean accuracy."""
    adversarial: str | None = None
    """`freelb`, or `freelb:steps=2,radius=0.4`: also trains each method adversarially, under names like
    lora+freelb."""
    augment: str | None = None
    """A recipe: also trains each method on further rows that the recipe's edits have changed."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
