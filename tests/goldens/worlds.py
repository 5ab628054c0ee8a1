"""What a golden run is made of: checkpoints, rows and recipes in one folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from goldens.weights import Labelled
from robustness.definitions.catalog import ATTACKS, definitions_root
from robustness.definitions.tasks import find_task

SMALL_DISTRACTORS = """summary = "addany with a tiny budget."
family = "sentence"
access = "scores"

[search]
kind = "distractor-search"
words = 2
candidates = 3
epochs = 1
restarts = 0
place = "after"
"""
FEW_QUERIES = 12
ON_QUESTIONS = ("deepwordbug", "pruthi", "pwws", "input-reduction", "hotflip", "identity")


@dataclass(frozen=True, slots=True)
class World:
    """A pair and test sets of its task, as files."""

    folder: Path
    task: str
    base: Path
    testsets: tuple[str, ...]

    def write_pairs(self) -> Path:
        """Writes the pairs file; checkpoints are called `full` and `lora`."""
        path = self.folder / "pairs.toml"
        path.write_text(
            f'[[pair]]\nname = "{self.folder.name}"\ntask = "{self.task}"\nbase = {json.dumps(str(self.base))}\n'
            'full = "full"\npeft = "lora"\nseed = 0\n'
        )
        return path

    def locate_testset(self, name: str) -> Path:
        """Returns the path of a test set's definition."""
        return self.folder / f"{name}.toml"

    @property
    def answers(self) -> bool:
        """Whether its examples are questions."""
        return self.task == "squad"


@dataclass(frozen=True, slots=True)
class Run:
    """Some recipes on some test sets of a world."""

    name: str
    world: World
    testsets: tuple[str, ...]
    attacks: tuple[str, ...]
    """Names, or paths of recipe files; none: the test sets as they stand."""
    left_out: dict[str, str]
    """Reasons of recipes that it has not."""
    limit: int | None = None
    """Examples of each test set."""


def write_rows(folder: Path, name: str, task: str, rows: Sequence[Labelled]) -> None:
    """Writes labelled rows, each with an id of its own, and the definition of their test set."""
    fields = find_task(task).fields
    with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", *fields, "label"])
        writer.writerows([key, *texts, label] for key, texts, label in rows)
    (folder / f"{name}.toml").write_text(
        f'summary = "Rows of the goldens."\nlicence = "as their source"\ntask = "{task}"\nkind = "clean"\n\n'
        f'[[test.local]]\nreader = "table"\nfile = "{name}.csv"\ncolumns = {json.dumps(list(fields))}\n'
        'label = "label"\nid = "id"\n'
    )


def write_questions(folder: Path, name: str, kind: str, paragraphs: Sequence[dict[str, object]]) -> None:
    """Writes questions in SQuAD's format and the definition of their test set."""
    content = {"version": "1.1", "data": [{"title": name, "paragraphs": list(paragraphs)}]}
    (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / f"{name}.toml").write_text(
        f'summary = "Questions of the goldens."\nlicence = "as their source"\ntask = "squad"\nkind = "{kind}"\n\n'
        f'[[test.local]]\nreader = "squad"\nfile = "{name}.json"\n'
    )


def write_small_distractors(folder: Path) -> str:
    """Writes addany with a budget that takes seconds; returns its path."""
    path = folder / "addany-small.toml"
    path.write_text(SMALL_DISTRACTORS)
    return str(path)


def write_few_queries(folder: Path) -> str:
    """Writes deepwordbug with a budget that ends most searches; returns its path."""
    path = folder / "deepwordbug-few-queries.toml"
    recipe = (definitions_root() / "attacks" / "deepwordbug.toml").read_text(encoding="utf-8")
    path.write_text(f"{recipe}\n[budget]\nmax_queries = {FEW_QUERIES}\n", encoding="utf-8")
    return str(path)


def recipes_for(world: World) -> tuple[list[str], dict[str, str]]:
    """Returns the shipped recipes that run on the world, and why the others do not."""
    fitting, others = [], {}
    for name in ATTACKS.names():
        if ATTACKS.find(name).definition.search.kind == "distractor-search":
            others[name] = "takes minutes; questions have the same search with a tiny budget"
        elif world.answers and name not in ON_QUESTIONS:
            others[name] = "does on questions what it does on labels; a few recipes stand for all"
        else:
            fitting.append(name)
    return fitting, others
