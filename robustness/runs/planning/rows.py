"""Which rows of each test set a run uses: none that selected one of its checkpoints, and a draw of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from robustness.runs.planning.admission import Admission, admit
from robustness.runs.planning.plan import Plan
from robustness.runs.storage.record import DRAWN, describe_left_out
from robustness.tasks.task import Task
from robustness.testsets.drawing import draw, proportional_order
from robustness.testsets.example import Example
from robustness.testsets.halves import halve
from robustness.testsets.loading import Testset, load_testset
from robustness.victims.files.checkpoint import Checkpoint
from robustness.victims.files.selection import selecting_digest


@dataclass(frozen=True, slots=True)
class UsedRows:
    """One test set as a run uses it, the same for all of its checkpoints."""

    testset: Testset
    """Without the rows that selected a checkpoint."""
    examples: tuple[Example, ...]
    """After the limit."""
    n_selecting: int
    """Rows left out because learning rate and epoch of a checkpoint were chosen on them."""

    @property
    def drawn(self) -> str:
        """How the examples were taken from the rows that may be used."""
        return "all" if len(self.examples) == len(self.testset.examples) else DRAWN

    @property
    def left_out(self) -> str:
        """What is not used and why, in words."""
        return describe_left_out(self.n_selecting, self.n_selecting + len(self.testset.examples))


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan with its test sets and the configs of its checkpoints read: what it costs and can show follows."""

    admission: Admission
    selected: dict[str, frozenset[str]]
    """By task: digests of the sets on which checkpoints were selected."""
    rows: dict[str, UsedRows]
    """By test set."""

    @property
    def plan(self) -> Plan:
        """Without the pairs that are refused."""
        return self.admission.plan

    @property
    def examples(self) -> dict[str, tuple[Example, ...]]:
        """By test set, after the limit."""
        return {name: rows.examples for name, rows in self.rows.items()}


def read_draft(plan: Plan) -> Draft:
    """Reads a plan's test sets and checkpoint configs, once for all that asks about them; no weights.

    Raises:
        DataError: a test set that cannot be read.
        RobustnessError: no pair has checkpoints that are there and safe to load.
    """
    admission = admit(plan)
    selected = selecting_digests(admission.checkpoints, admission.tasks)
    return Draft(admission, selected, use_rows(admission.plan, selected))


def use_rows(plan: Plan, selected: Mapping[str, frozenset[str]]) -> dict[str, UsedRows]:
    """Loads the test sets of a plan; returns by name what is used of each.

    Raises:
        DataError: a test set that cannot be read.
    """
    used = {}
    fields = plan.settings.attack_fields
    for entry in plan.testsets:
        whole = load_testset(entry, plan.settings.data, allow_changed=plan.settings.allow_changed, attacked=fields)
        rest = without_selecting(whole, selected)
        examples = draw_examples(rest, plan.limit, plan.settings.seed)
        used[whole.name] = UsedRows(rest, examples, len(whole.examples) - len(rest.examples))
    return used


def selecting_digests(checkpoints: Mapping[str, Checkpoint], tasks: Mapping[str, Task]) -> dict[str, frozenset[str]]:
    """Returns by task the digests of the sets on which checkpoints were selected, as far as it is recorded."""
    found: dict[str, set[str]] = {task.name: set() for task in tasks.values()}
    for name, checkpoint in checkpoints.items():
        digest = selecting_digest(checkpoint.folder)
        if digest is not None:
            found[tasks[name].name].add(digest)
    return {task: frozenset(digests) for task, digests in found.items()}


def without_selecting(testset: Testset, selected: Mapping[str, frozenset[str]]) -> Testset:
    """Returns the half of a test set that reports, where a checkpoint of its task was selected on the other half."""
    if testset.digest not in selected.get(testset.task.name, frozenset()):
        return testset
    return replace(testset, examples=halve(testset.examples).reporting)


def draw_examples(testset: Testset, limit: int | None, seed: int) -> tuple[Example, ...]:
    """Draws by the run's seed and the test set's contents: nothing else of a run changes which rows it uses."""
    return draw(testset.examples, limit, _key(testset, seed))


def draw_groups(testset: Testset, limit: int | None, seed: int) -> tuple[Example, ...]:
    """Draws at most `limit` whole groups: those that `draw_examples` draws first."""
    groups = proportional_order(testset.examples, _key(testset, seed))[:limit]
    return tuple(testset.examples[index] for index in sorted(index for group in groups for index in group))


def shuffle_examples(testset: Testset, seed: int) -> tuple[Example, ...]:
    """Returns the examples in the order in which they are drawn: whoever takes the first few has a fair sample."""
    order = proportional_order(testset.examples, _key(testset, seed))
    return tuple(testset.examples[index] for group in order for index in group)


def _key(testset: Testset, seed: int) -> str:
    return f"{seed} {testset.digest}"
