"""How a run was made, in words for its page."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from robustness.definitions.attacks import Deviation
from robustness.definitions.catalog import ATTACKS
from robustness.errors import DefinitionError
from robustness.runs.planning.foresight import Assumptions, count_seeds, describe_power, recorded_sets
from robustness.runs.storage.record import DRAWN, AttackRecord, RunRecord, describe_left_out


@dataclass(frozen=True, slots=True)
class AttackFacts:
    """What a reader must know of one attack of the run."""

    name: str
    family: str
    budget: str
    digest: str
    summary: str = ""
    paper: str | None = None
    deviations: tuple[Deviation, ...] = ()


def attack_facts(attack: AttackRecord) -> AttackFacts:
    """Returns the recipe's own words where this release still has the very recipe that ran."""
    try:
        entry = ATTACKS.find(attack.name)
    except DefinitionError:
        return AttackFacts(attack.name, attack.family, "budget as the attack sets it", attack.digest)
    if entry.digest != attack.digest:
        return AttackFacts(attack.name, attack.family, "a recipe that has changed since", attack.digest)
    definition = entry.definition
    queries = definition.budget.max_queries
    budget = f"at most {queries} queries an example" if queries else "no query budget"
    paper = None if definition.paper is None else str(definition.paper)
    return AttackFacts(
        attack.name, attack.family, budget, attack.digest, definition.summary, paper, definition.deviations
    )


def command_line(record: RunRecord, folder: Path) -> str:
    """The command that repeats the run; an older run's says what is known of it."""
    words = record.command or ("robustness", "run", record.suite, "--seed", str(record.seed))
    return shlex.join([*words, "--out", str(folder)])


def run_facts(record: RunRecord) -> list[tuple[str, str]]:
    """Name and value of what the whole run shares."""
    statistics = record.statistics
    tests = sum(len(members) for members in statistics.families.values())
    return [
        ("started", record.started),
        ("suite", record.suite),
        ("seed of all searches", str(record.seed)),
        (
            "examples of each test set",
            "all" if record.limit is None else f"at most {record.limit}, {DRAWN}",
        ),
        *([] if record.attacked is None else [("attacked", f"at most {record.attacked} that both arms have right")]),
        *((f"rows of {t.name}", describe_left_out(t.n_selecting, t.n)) for t in record.testsets if t.n_selecting),
        ("device", f"{record.device}, {record.dtype}"),
        ("machine", record.machine),
        (
            "intervals",
            "95 %: Wilson for rates; paired bootstrap of whole groups for differences, computed or 10,000 draws",
        ),
        (
            "test",
            f"McNemar's {statistics.mcnemar} test; permutation of groups where rows share a source; "
            "signed rank of effort",
        ),
        (
            "many comparisons",
            f"{statistics.correction}, {tests} tests in {len(statistics.families)} families (run.json)",
        ),
        ("verdict", f"margin {100 * statistics.margin:g} points, level {statistics.alpha:g}"),
        ("what it could show", _foreseen(record)),
    ]


def _foreseen(record: RunRecord) -> str:
    """What was to be expected of the plan: on the page, beside what was found."""
    assumed = Assumptions(margin=record.statistics.margin, alpha=record.statistics.alpha)
    seeds = count_seeds([(pair.task, pair.base, pair.seed) for pair in record.pairs])
    lines = (line.strip() for line in describe_power(recorded_sets(record), seeds, assumed))
    return "; ".join(lines).replace(":; ", ": ")
