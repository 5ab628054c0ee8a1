"""The options of the public calls, checked where they enter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationError,
)

from robustness.definitions.expectations import expectation
from robustness.definitions.naming import nearest
from robustness.errors import UsageError, shorten
from robustness.paths import expand

PathLike = str | Path


def _spell_out(given: object) -> object:
    return expand(given) if isinstance(given, PathLike) else given


Named = Annotated[str, BeforeValidator(_spell_out)]
"""A name, or a path in which nothing is left for a shell to spell out."""
NamedOrObject = Annotated[object, BeforeValidator(_spell_out)]
Dtype = Annotated[str, AfterValidator(lambda given: "float32" if given == "auto" else given)]


class Options(BaseModel):
    """The options of one call: unknown names and wrong types are refused, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class RunChoices(Options):
    """What the outcomes of a run depend on beside its pairs and its data."""

    suite: Named
    """A shipped suite's name or a suite file."""
    testsets: tuple[Named, ...] = ()
    """Replace the suite's own list; empty keeps it."""
    attacks: tuple[NamedOrObject, ...] = ()
    """Replace the suite's own list: names, recipe files, `file.py:Name`, attack classes or instances."""
    probes: tuple[NamedOrObject, ...] = ()
    """Replace the suite's own list, likewise."""
    limit: StrictInt | None = None
    """At most so many examples of each test set, drawn by the seed: labels in proportion, groups whole."""
    seed: StrictInt = 0
    """Of all searches, and of which examples are drawn."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: Dtype = "float32"
    """float32, bfloat16 or auto, which is float32: what arms are compared in exactly."""
    allow_untrained: StrictBool = False
    """Let a base that has not learnt the task be an arm; the page says so."""
    allow_changed: StrictBool = False
    """Evaluate test sets whose rows are not the published ones; tables then say `changed`."""
    compile: StrictBool = False
    """Have torch.compile make the kernels that score; a model it cannot compile is used as it is."""
    cache: Annotated[Path | None, BeforeValidator(_spell_out)] = None
    """Folder of scores that later runs, and other attacks of this one, need not compute again."""
    attack_fields: tuple[str, ...] = ()
    """Fields that are open to attack in place of the tasks' own."""


class RunOptions(RunChoices):
    """What `robustness.run` and `robustness.api.plan` take."""

    pairs: PathLike | None = None
    """A pairs.toml; or None, and the next three."""
    reference: object = None
    """One checkpoint: its folder or hub id; of `run` also (model, tokenizer)."""
    candidate: object = None
    """The other, likewise."""
    task: PathLike | Mapping[str, Any] | None = None
    """What both are fine-tuned for: a shipped task's name or a task file; of `run` also the file's content."""
    base: object = None
    """What both were made of; None: as an adapter among them names it or, given as an object, stands on it."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Label names in the checkpoints' configs, with the task's."""
    data: object = None
    """Folder with local data files; None: the variable ROBUSTNESS_DATA, else the hub. Of `run` also rows to evaluate,
    a pandas DataFrame or a datasets.Dataset with the task's fields and `label`, or of questions and texts `answers`;
    they are the test set `data`."""


class TrainOptions(Options):
    """What `robustness.train` takes."""

    testset: PathLike
    """A clean test set with a training split: sst2, qqp, mnli, qnli, rte, squad, viggo, gsm8k or a path."""
    base: PathLike
    """Folder or hub id of the pretrained model."""
    methods: tuple[PathLike, ...]
    """`full` and at least one PEFT method."""
    out: PathLike
    """Folder for the checkpoints."""
    seeds: tuple[StrictInt, ...] = (0,)
    """Training seeds; a pair for each."""
    data: PathLike | None = None
    """As in `RunOptions`."""
    limit: StrictInt | None = None
    """At most so many training rows."""
    epochs: StrictInt | None = None
    """Passes over the rows; None for the default."""
    steps: StrictInt | None = None
    """Optimiser steps, in place of epochs."""
    grid: str = "shipped"
    """`wide` tries two learning rates more for every method, one beyond either end; `one` the largest alone."""
    targets: str = "method"
    """Layers that LoRA and its kin adapt: as its file says, `attention` (query and value) or `linear` (all)."""
    dev_limit: StrictInt | None = None
    """At most so many development rows select; None: 1,000, of text tasks 100 and twice as many report."""
    accumulation: StrictInt = 1
    """Parts in which a batch of 16 is run."""
    checkpointing: StrictBool = False
    """Compute activations again for the gradients: less memory, more time."""
    bf16: StrictBool = False
    """Matrix products in bfloat16, where they take less time so; weights and optimiser stay in float32."""
    protocol: str = "equal"
    """`equal` for all methods, or `paper`: each method as arXiv 2505.22355 trained it."""
    match: str = "none"
    """`clean` takes, for each pair, the epochs at which its arms are closest in clean accuracy."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


class ReportOptions(Options):
    """What `robustness.report` takes beside the folder."""

    form: str = "csv"
    """csv; beside it parquet, latex, markdown, or one table for a paper: paper.md, paper.tex, paper.csv."""
    correction: str | None = None
    """holm or benjamini-hochberg; None keeps what run.json says, as for the next two."""
    margin: StrictFloat | None = None
    """The largest difference that does not matter, a fraction."""
    mcnemar: str | None = None
    """exact or mid-p."""


Kind = TypeVar("Kind", bound=Options)


def read_options(kind: type[Kind], call: str, given: Mapping[str, object]) -> Kind:
    """Returns the options of a call.

    Args:
        kind: of options.
        call: what the message calls it.
        given: by name.

    Raises:
        UsageError: an unknown option, a missing one, or a value of another type.
    """
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise UsageError(f"{call}: unknown option {name!r}{nearest(name, kind.model_fields)}") from None
        if first["type"] == "missing":
            raise UsageError(f"{call}: {name} is missing") from None
        raise UsageError(f"{call}: {name}: {expectation(first)}; got {shorten(repr(first['input']))}") from None
