"""What a test set file may say."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, StringConstraints

from robustness.definitions.model import Definition

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class TsvFile(Definition):
    """A tab-separated file with a header and no quoting, as GLUE is distributed."""

    reader: Literal["tsv"]
    file: str
    root: Literal["data", "package"] = "data"
    columns: tuple[str, ...]
    label: str
    rows: PositiveInt | None = None
    digest: Digest | None = None
    provenance: Literal["official", "sample"] = "official"
    """`sample`: rows of the same corpus, but not the official file."""


class AdvGlueFile(Definition):
    """One section of AdvGLUE's dev.json; `annotations` adds the benign originals where it is present."""

    reader: Literal["advglue"]
    file: str
    annotations: str
    section: str
    rows: PositiveInt
    digest: Digest
    root: Literal["data"] = "data"
    provenance: Literal["official"] = "official"


class HubDataset(Definition):
    """A data set on the hub at a pinned revision, with the task's own field names."""

    dataset: str
    config: str
    split: str
    revision: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
    rows: PositiveInt
    digest: Digest | None = None


class Split(Definition):
    """Where a list of examples comes from: the first local file that exists, else the hub."""

    local: tuple[Annotated[TsvFile | AdvGlueFile, Field(discriminator="reader")], ...] = ()
    hub: HubDataset | None = None


class TestsetDefinition(Definition):
    """One test set, and for a clean one the training split beside it."""

    __test__ = False  # the name is the field's word, not a pytest class

    summary: str
    paper: str | None = None
    licence: str
    task: str
    kind: Literal["clean", "adversarial"]
    test: Split
    train: Split | None = None
