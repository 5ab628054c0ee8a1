"""Selects the rows of each test set: a draw among rows that selected no checkpoint of the run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace

from robustness.runs.planning.admission import Admission, admit
from robustness.runs.planning.plan import Plan, digest_of
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
    """A run's part of one test set, the same for all checkpoints."""

    testset: Testset
    """Without the rows that selected a checkpoint."""
    examples: tuple[Example, ...]
    """After the limit."""
    n_selecting: int
    """Number of rows left out because they chose a checkpoint's learning rate and epoch."""

    @property
    def drawn(self) -> str:
        """How the examples were drawn from the usable rows."""
        return "all" if len(self.examples) == len(self.testset.examples) else DRAWN

    @property
    def left_out(self) -> str:
        """The unused rows and the reason, in words."""
        return describe_left_out(self.n_selecting, self.n_selecting + len(self.testset.examples))


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan with its test sets and its checkpoints' configs, which determine cost and power."""

    admission: Admission
    selected: dict[str, frozenset[str]]
    """By task: digests of the sets on which checkpoints were selected."""
    rows: dict[str, UsedRows]
    """By test set."""

    @property
    def plan(self) -> Plan:
        """Without refused pairs."""
        return self.admission.plan

    @property
    def examples(self) -> dict[str, tuple[Example, ...]]:
        """By test set, after the limit."""
        return {name: rows.examples for name, rows in self.rows.items()}


def read_draft(plan: Plan) -> Draft:
    """Reads a plan's test sets and checkpoint configs once, without weights.

    Raises:
        DataError: a test set cannot be read.
        RobustnessError: no pair has existing and safe checkpoints.
    """
    admission = admit(plan)
    selected = selecting_digests(admission.checkpoints, admission.tasks)
    return Draft(admission, selected, use_rows(admission.plan, selected))


def use_rows(plan: Plan, selected: Mapping[str, frozenset[str]]) -> dict[str, UsedRows]:
    """Loads the test sets of a plan; returns the used part of each by name.

    Raises:
        DataError: a test set cannot be read.
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
    """Returns, by task, the digests of the sets that selected checkpoints, where recorded."""
    found: dict[str, set[str]] = {task.name: set() for task in tasks.values()}
    for name, checkpoint in checkpoints.items():
        digest = selecting_digest(checkpoint.folder)
        if digest is not None:
            found[tasks[name].name].add(digest)
    return {task: frozenset(digests) for task, digests in found.items()}


def without_selecting(testset: Testset, selected: Mapping[str, frozenset[str]]) -> Testset:
    """Returns the reporting half of a test set if a checkpoint of its task was selected on the other half."""
    if testset.digest not in selected.get(testset.task.name, frozenset()):
        return testset
    return replace(testset, examples=halve(testset.examples).reporting)


def digest_examples(examples: Iterable[Example]) -> str:
    """Returns a digest of what each id stands for: groups, originals and golds too.

    The order matters only where ids number the rows.
    """
    names = [each.name for each in fields(Example) if each.compare]
    return digest_of(sorted(json.dumps([getattr(e, name) for name in names], default=asdict) for e in examples))


def draw_examples(testset: Testset, limit: int | None, seed: int) -> tuple[Example, ...]:
    """Draws by the run's seed and the test set's contents alone."""
    return draw(testset.examples, limit, _key(testset, seed))


def draw_groups(testset: Testset, limit: int | None, seed: int) -> tuple[Example, ...]:
    """Draws at most `limit` whole groups, the first ones of `draw_examples`."""
    groups = proportional_order(testset.examples, _key(testset, seed))[:limit]
    return tuple(testset.examples[index] for index in sorted(index for group in groups for index in group))


def shuffle_examples(testset: Testset, seed: int) -> tuple[Example, ...]:
    """Returns the examples in the order of drawing, so that the first few are a fair sample."""
    order = proportional_order(testset.examples, _key(testset, seed))
    return tuple(testset.examples[index] for group in order for index in group)


def _key(testset: Testset, seed: int) -> str:
    return f"{seed} {testset.digest}"
