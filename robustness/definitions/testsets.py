"""The schema of a test set file."""

from __future__ import annotations

from pathlib import PureWindowsPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, StringConstraints

from robustness.definitions.model import Definition
from robustness.definitions.task_tables import TaskDefinition
from robustness.tasks.patterns import compile_pattern


def _stay_inside(file: str) -> str:
    path = PureWindowsPath(file)  # knows both separators, and drives
    if path.drive or path.root or ".." in path.parts or "\0" in file:
        raise ValueError(f"{file!r} does not lie in the data folder; give a path relative to it")
    return file


def _tells_originals(suffix: str) -> str:
    try:
        compile_pattern(ID_OF_ORIGINAL.format(suffix=suffix))
    except ValueError as error:
        raise ValueError(f"{suffix!r} {error}") from None
    return suffix


DataPath = Annotated[str, AfterValidator(_stay_inside)]
"""A file below the data folder, so that a third-party definition cannot read other files."""
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


ID_OF_ORIGINAL = r"\A(?P<original>.+?)(?:{suffix})\Z"
ALTERED_SUFFIX = r"-(?:high-conf-turk\d+|add(?:any|anyextend|ansctx|negans)\d*)"
"""The suffix of Jia and Liang's files and of generated sets."""


class DistractorSearch(Definition):
    """Coordinate search for a distractor of words (arXiv 1707.07328, section 3.3)."""

    words: PositiveInt = 10
    candidates: PositiveInt = 20
    """Common words drawn for each place, in addition to the question's words."""
    epochs: PositiveInt = 3
    """Passes over all places before the restarts, and again with them."""
    restarts: NonNegativeInt = 4
    """Further distractors, searched side by side if one was not enough."""
    paragraph_words: NonNegativeInt = 0
    """Number of the paragraph's most frequent content words that are candidates too."""


class TsvFile(Definition):
    """A tab-separated file without quoting, as in GLUE."""

    reader: Literal["tsv"]
    file: DataPath
    root: Literal["data", "package"] = "data"
    columns: tuple[str, ...]
    label: str
    header: tuple[str, ...] = ()
    """Names of all columns of a file without a header, such as GLUE's CoLA; empty: its first line names them."""
    rows: PositiveInt | None = None
    digest: Digest | None = None
    provenance: Literal["official", "sample", "own"] = "official"
    """`sample`: rows of the same corpus, but not the official file; `own`: of no published set."""


class AdvGlueFile(Definition):
    """One section of AdvGLUE's dev.json; `annotations` adds the benign originals, if present."""

    reader: Literal["advglue"]
    file: DataPath
    annotations: DataPath
    section: str
    rows: PositiveInt
    digest: Digest
    root: Literal["data"] = "data"
    provenance: Literal["official"] = "official"


class SquadFile(Definition):
    """A file in SQuAD's JSON format; in an adversarial set, ids carry a suffix after the original question's id."""

    reader: Literal["squad"]
    file: DataPath
    root: Literal["data"] = "data"
    rows: PositiveInt | None = None
    digest: Digest | None = None
    suffix: Annotated[str, AfterValidator(_tells_originals)] = ALTERED_SUFFIX
    """A regular expression; an id with this suffix is an altered form of the question named before it."""
    provenance: Literal["official", "sample", "generated", "own"] = "official"


class Partner(Definition):
    """The test set with the benign forms of another set's rows."""

    testset: str
    row: str
    """The column with the row's place in the partner's file, from 0."""


class TableFile(Definition):
    """A user's table: CSV (quoted), TSV (quoted), JSON (a list of objects), JSONL or Parquet, by its suffix."""

    reader: Literal["table"]
    file: DataPath
    root: Literal["data", "definition"] = "data"
    """`definition`: the file lies in the folder of the test set's file, or below it."""
    columns: tuple[str, ...]
    """The task's texts, in its order; for a SQuAD-like table the question and the context. Nested values of a JSON
    object are named by path, as example.premise."""
    label: str | None = None
    """For a task with labels: the column with names, indices or distributions. A distribution is a list with a number
    for each label, or an object from labels to numbers; the most frequent label is the gold."""
    ties: Literal["refuse", "leave-out"] = "refuse"
    """For distributions: how to treat a row whose most frequent labels tie."""
    labels: dict[str, str] = Field(default_factory=dict)
    """From the file's labels to the task's, if they differ."""
    answers: str | None = None
    """For a SQuAD-like table: the column with {text, answer_start}, or a list of such objects. For a text task: the
    column with the gold text, or a list of right texts."""
    method: str | None = None
    """The column with the construction of a ready-made adversarial row; rows of one value form a subgroup."""
    id: str | None = None
    original: tuple[str, ...] = ()
    """Columns with the benign texts; empty cells if there are none."""
    original_answers: str | None = None
    """For a text task: the column with the gold of the benign texts, or a list of golds; empty cells: the row's
    own."""
    partner: Partner | None = None
    """In place of `original`: each row's original is a row of another test set, with its gold."""
    unanswerable: tuple[str, ...] = ()
    """For a text task: gold texts of unanswerable questions. Results are given with and without these rows; their
    construction is `unanswerable`."""
    original_label: str | None = None
    """For a contrast set: the column with the label of the benign texts, spelled as in `label`; empty cells if it is
    the row's own."""
    group: str | None = None
    """Rows of one source question share it."""
    rows: PositiveInt | None = None
    digest: Digest | None = None
    provenance: Literal["official", "sample", "generated", "own"] = "own"


class GeneratedSet(Definition):
    """Generated if no file of the set is available; deterministic for its seed."""

    generator: Literal["addansctx", "addnegans", "addany", "addanyextend", "edited", "counterfactual"]
    questions: str
    """The shipped test set with the original questions or sentences."""
    seed: NonNegativeInt = 0
    place: Literal["before", "after"] = "after"
    """Where the distractor goes: before or after the paragraph."""
    search: DistractorSearch | None = None
    """For generators that ask a checkpoint."""
    rows: PositiveInt | None = None
    """Number of rows made from all its questions, including originals; informative, not checked."""

    @property
    def needs_checkpoint(self) -> bool:
        """Whether the distractor is searched against one checkpoint."""
        return self.search is not None


class HubDataset(Definition):
    """A data set on the hub at a pinned revision, with the task's own field names."""

    dataset: str
    config: str
    split: str
    revision: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
    rows: PositiveInt
    digest: Digest | None = None
    columns: tuple[str, ...] = ()
    """The task's texts, if the data set names them differently."""
    label: str = "label"
    answers: str | None = None
    """This and the next keys: for a text task, as in users' tables."""
    method: str | None = None
    group: str | None = None
    original: tuple[str, ...] = ()
    original_answers: str | None = None
    unanswerable: tuple[str, ...] = ()


class Split(Definition):
    """The source of examples: the first local file that exists, else the hub, else generated."""

    local: tuple[Annotated[TsvFile | AdvGlueFile | SquadFile | TableFile, Field(discriminator="reader")], ...] = ()
    hub: HubDataset | None = None
    generated: GeneratedSet | None = None


class TestsetDefinition(Definition):
    """One test set, and for a clean one its training split."""

    __test__ = False  # the name is the field's word, not a pytest class

    summary: str
    paper: str | None = None
    licence: str
    task: str | TaskDefinition
    """A shipped task's name, a path relative to this file, or the task itself as the table `[task]`."""
    kind: Literal["clean", "adversarial"]
    test: Split
    train: Split | None = None
