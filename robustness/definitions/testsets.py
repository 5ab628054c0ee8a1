"""What a test set file may say."""

from __future__ import annotations

from pathlib import PureWindowsPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, StringConstraints

from robustness.definitions.model import Definition
from robustness.definitions.task_tables import TaskDefinition
from robustness.tasks.patterns import compile_pattern


def _stay_inside(file: str) -> str:
    path = PureWindowsPath(file)  # which knows both separators, and drives
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
"""A file below the data folder: a definition from elsewhere cannot have any other file read."""
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


ID_OF_ORIGINAL = r"\A(?P<original>.+?)(?:{suffix})\Z"
ALTERED_SUFFIX = r"-(?:high-conf-turk\d+|add(?:any|anyextend|ansctx|negans)\d*)"
"""Of Jia and Liang's files, and of the sets that are generated here."""


class DistractorSearch(Definition):
    """Coordinate search for a distractor of words (arXiv 1707.07328, section 3.3)."""

    words: PositiveInt = 10
    candidates: PositiveInt = 20
    """Common words drawn for each place, beside the question's own."""
    epochs: PositiveInt = 3
    """Passes over all places before, and again after, the restarts begin."""
    restarts: NonNegativeInt = 4
    """Further distractors that are searched from side by side where one was not enough."""
    paragraph_words: NonNegativeInt = 0
    """The most frequent content words of the paragraph that are candidates too."""


class TsvFile(Definition):
    """A tab-separated file without quoting, as GLUE is distributed."""

    reader: Literal["tsv"]
    file: DataPath
    root: Literal["data", "package"] = "data"
    columns: tuple[str, ...]
    label: str
    header: tuple[str, ...] = ()
    """Names of all columns of a file that has none, as GLUE's CoLA; empty: its first line names them."""
    rows: PositiveInt | None = None
    digest: Digest | None = None
    provenance: Literal["official", "sample", "own"] = "official"
    """`sample`: rows of the same corpus, but not the official file; `own`: of no published set."""


class AdvGlueFile(Definition):
    """One section of AdvGLUE's dev.json; `annotations` adds the benign originals where it is present."""

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
    """A regular expression; an id that ends in it is an altered form of the question named before it."""
    provenance: Literal["official", "sample", "generated", "own"] = "official"


class Partner(Definition):
    """The test set whose rows are the benign forms of another one's."""

    testset: str
    row: str
    """The column that says which: its place in the partner's file, from 0."""


class TableFile(Definition):
    """A table of one's own: CSV (quoted), TSV (quoted), JSON (a list of objects), JSONL or Parquet, by its suffix."""

    reader: Literal["table"]
    file: DataPath
    root: Literal["data", "definition"] = "data"
    """`definition`: the file lies beside the test set's own, or below it."""
    columns: tuple[str, ...]
    """The task's texts, in its order; of a SQuAD-like table the question and the context. What lies within an object
    of a JSON file goes by its path, as example.premise."""
    label: str | None = None
    """Of a task with labels: the column that holds them, as names, as indices or as distributions: a list with a
    number for each label, or an object from labels to numbers, of which the most frequent is right."""
    ties: Literal["refuse", "leave-out"] = "refuse"
    """Of distributions: what becomes of a row whose most frequent labels are equally frequent."""
    labels: dict[str, str] = Field(default_factory=dict)
    """The file's own labels to the task's, where they differ."""
    answers: str | None = None
    """Of a SQuAD-like table: the column with {text, answer_start}, or a list of such objects; of a text task: the
    column with the gold text, or with a list of them, any of which is right."""
    method: str | None = None
    """The column that says how a ready-made adversarial row was made: rows of one value are a subgroup."""
    id: str | None = None
    original: tuple[str, ...] = ()
    """Columns with the benign texts; empty cells where there are none."""
    original_answers: str | None = None
    """Of a text task: the column with the gold text of the benign texts, or with a list of them; empty cells where it
    is the row's own."""
    partner: Partner | None = None
    """In place of `original`: each row's is a row of another test set, with its gold."""
    unanswerable: tuple[str, ...] = ()
    """Of a text task: gold texts that say that a question has no answer. Results are given with and without such
    rows, whose construction is `unanswerable`."""
    original_label: str | None = None
    """Of a contrast set: the column with the label of the benign texts, in the words of `label`; empty cells where
    it is the row's own."""
    group: str | None = None
    """Rows of one source question share it."""
    rows: PositiveInt | None = None
    digest: Digest | None = None
    provenance: Literal["official", "sample", "generated", "own"] = "own"


class GeneratedSet(Definition):
    """Made here where no file of the set is at hand: deterministic for its seed."""

    generator: Literal["addansctx", "addnegans", "addany", "addanyextend", "edited", "counterfactual"]
    questions: str
    """The shipped test set whose original questions, or sentences, are altered."""
    seed: NonNegativeInt = 0
    place: Literal["before", "after"] = "after"
    """Of the distractor: before or after the paragraph."""
    search: DistractorSearch | None = None
    """Of the generators that ask a checkpoint."""
    rows: PositiveInt | None = None
    """What it makes of all its questions, originals included: for who reads the list, not checked."""

    @property
    def needs_checkpoint(self) -> bool:
        """Whether the distractor is searched for against one checkpoint."""
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
    """The task's texts where the data set calls them otherwise."""
    label: str = "label"
    answers: str | None = None
    """This and what follows: of a text task, as in tables of one's own."""
    method: str | None = None
    group: str | None = None
    original: tuple[str, ...] = ()
    original_answers: str | None = None
    unanswerable: tuple[str, ...] = ()


class Split(Definition):
    """Where a list of examples comes from: the first local file that exists, else the hub, else it is made."""

    local: tuple[Annotated[TsvFile | AdvGlueFile | SquadFile | TableFile, Field(discriminator="reader")], ...] = ()
    hub: HubDataset | None = None
    generated: GeneratedSet | None = None


class TestsetDefinition(Definition):
    """One test set, and for a clean one the training split beside it."""

    __test__ = False  # the name is the field's word, not a pytest class

    summary: str
    paper: str | None = None
    licence: str
    task: str | TaskDefinition
    """A shipped task's name, a path relative to this file, or the task itself as the table `[task]`."""
    kind: Literal["clean", "adversarial"]
    test: Split
    train: Split | None = None
