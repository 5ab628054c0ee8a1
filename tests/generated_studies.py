"""Made-up study folders, as `robustness study` leaves them: known truths, no model needed."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from robustness.definitions.tasks import find_task
from robustness.reports.tables.columns import Table, arrange
from robustness.reports.tables.csvfiles import write_table
from robustness.runs.storage.record import (
    AttackRecord,
    CheckpointRecord,
    PairRecord,
    RunRecord,
    TestsetRecord,
    write_record,
)
from robustness.spreadsheets import neutralise

BASE_PARAMETERS = 22_000_000


@dataclass(frozen=True)
class Method:
    """A method of the study and its truth."""

    name: str
    parameters: int
    """Trained ones."""
    robust: float = 0.5
    """Chance that an example that is right withstands an attack."""
    clean: float = 0.9
    varied: dict[str, object] = field(default_factory=dict)
    defence: str = ""
    added_rows: int = 0
    """Training rows that a recipe adds."""

    @property
    def plain(self) -> str:
        return re.split("[-+]", self.name)[0]

    @property
    def family(self) -> str:
        return f"{self.plain}+{self.defence}" if self.defence else self.plain

    @property
    def contrast(self) -> str:
        return "" if self.name == "full" else "full-vs-full" if self.plain == "full" else "full-vs-peft"


FULL = Method("full", BASE_PARAMETERS, robust=0.6)


def ranks(
    slope: float = 0.0, *, of: Sequence[int] = (1, 2, 4, 8, 16), robust: float = 0.5, defence: str = ""
) -> list[Method]:
    """LoRA of several ranks; `slope` is what a doubling of the rank adds to the chance to withstand."""
    return [
        Method(
            f"lora-r{rank}" + (f"+{defence}" if defence else ""),
            2_000 + 9_000 * rank,
            robust=robust + slope * np.log2(rank),
            varied={"rank": rank},
            defence=defence,
        )
        for rank in of
    ]


@dataclass(frozen=True)
class Shape:
    """The size of a study."""

    methods: Sequence[Method] = (FULL, *ranks())
    seeds: int = 3
    n: int = 60
    tasks: Sequence[str] = ("sst2",)
    sets: Sequence[str] = ("set-0",)
    """Test sets of each task."""
    attacks: Sequence[str] = ("swap", "synonym")
    baselines: Mapping[str, float] = field(default_factory=dict)
    """Attacks that are controls, and the share of what an attack breaks that each breaks."""
    rows: Sequence[int | None] = (None,)
    matchings: Sequence[str] = ("best",)
    seed_sd: float = 0.01
    """Between trainings, of the chance to withstand."""
    rows_slope: Callable[[Method], float] = lambda _: 0.0
    """What a doubling of the training rows adds to it."""
    failed: Sequence[str] = ()
    """Methods whose last seed failed to train."""
    probes: bool = False
    name: Callable[[str], str] = str
    """Makes names hostile."""

    @property
    def every_attack(self) -> tuple[str, ...]:
        """With the baselines last."""
        return (*self.attacks, *self.baselines)


def write_study(folder: Path, shape: Shape | None = None, *, seed: int = 0) -> Path:
    """Writes study.json, jobs.csv, checkpoints.csv, runs.csv and the run folders."""
    shape = shape or Shape()
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    runs, checkpoints = [], []
    for task in shape.tasks:
        for rows in shape.rows:
            for matching in shape.matchings:
                place = "-".join(["runs/" + task, *([str(rows)] if rows else []), matching])
                arms = _arms(shape, task, rows, matching)
                runs.append((task, rows or 8000, matching, "attacks-quick", place))
                checkpoints += [row for name, row in arms.items() if matching == "best" or row[2] != "full"]
                _write_run(folder / place, shape, task, rows, arms, rng)
    _write(folder / "runs.csv", ("task", "rows", "matching", "suite", "folder"), runs)
    _write(folder / "checkpoints.csv", CHECKPOINTS, checkpoints)
    jobs = [(f"j{i}", "run", run[-1], "done", 12.5, "") for i, run in enumerate(runs)]
    _write(folder / "jobs.csv", ("id", "kind", "name", "state", "seconds", "reason"), jobs)
    content = {
        "name": shape.name("made-up"),
        "digest": "0123456789abcdef",
        "modified": False,
        "shipped": False,
        "match": "clean" if "clean" in shape.matchings else "none",
        "suites": ["attacks-quick"],
        "base": "/bases/base",
        "definition": {"base": shape.name("base"), "seeds": list(range(shape.seeds)), "limit": shape.n},
        "methods": [each.name for each in shape.methods],
        "versions": {"python": "3.11"},
    }
    (folder / "study.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


CHECKPOINTS = (
    *("checkpoint", "task", "method", "family", "parameters", "train_seed", "rows", "matching", "epoch"),
    *("trainable_parameters", "parameters_total", "trainable_share", "selecting_score", "status", "reason", "folder"),
    *("contrast", "defence", "trained_rows"),
)


def _arms(shape: Shape, task: str, rows: int | None, matching: str) -> dict[str, tuple[object, ...]]:
    found = {}
    for method in shape.methods:
        for seed in range(shape.seeds):
            has_failed = method.name in shape.failed and seed == shape.seeds - 1
            of_matching = "" if method.name == "full" or matching == "best" else f"-{matching}"
            name = shape.name("-".join([task, *([str(rows)] if rows else []), method.name, str(seed)]) + of_matching)
            total = BASE_PARAMETERS + method.parameters * (method.plain != "full")
            found[name] = (
                name, task, shape.name(method.name), method.family, json.dumps(method.varied), seed, rows or 8000,
                "best" if method.name == "full" else matching, 3, method.parameters, total,
                f"{method.parameters / total:.6g}", 0.9, "failed" if has_failed else "trained",
                shape.name("the loss was not finite") if has_failed else "", f"checkpoints/{name}",
                method.contrast, method.defence, "" if has_failed else (rows or 8000) + method.added_rows,
            )  # fmt: skip
    return found


def _write_run(
    folder: Path,
    shape: Shape,
    task: str,
    rows: int | None,
    arms: dict[str, tuple[object, ...]],
    rng: np.random.Generator,
) -> None:
    folder.mkdir(parents=True)
    trained = {name: row for name, row in arms.items() if row[13] == "trained"}
    write_record(folder, _record(shape, task, trained))
    common = np.random.default_rng(len(task))  # all runs of a task have the same examples
    sets = {f"{task}-{name}": _truths(shape, common) for name in shape.sets}
    methods = {shape.name(each.name): each for each in shape.methods}
    frames = []
    for name, row in trained.items():
        method = methods[str(row[2])]
        doublings = np.log2((rows or 1) / min(each or 1 for each in shape.rows))
        withstands = method.robust + shape.rows_slope(method) * doublings + shape.seed_sd * rng.normal()
        labels = {"checkpoint": name, "adaptation": method.family, "task": task, "train_seed": row[5]}
        for testset, (hardness, clean) in sets.items():
            for number, attack in enumerate(("none", *shape.every_attack)):
                frames.append(_cell(shape, labels | {"testset": testset, "attack": attack}, number, method,
                                    withstands, (hardness, clean), rng))  # fmt: skip
    examples = pd.concat(frames, ignore_index=True)
    write_table(arrange(Table.EXAMPLES, examples), Table.EXAMPLES, folder / "examples.csv")
    _write_probes(folder, shape, task, trained, methods, rng)
    (folder / "report.html").write_text("<!DOCTYPE html><title>run</title>", encoding="utf-8")


def _truths(shape: Shape, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """How hard each example is under each attack, and on its own: the same for all arms, in [0, 1]."""
    return rng.random((len(shape.every_attack) + 1, shape.n)), rng.random(shape.n)


def _cell(
    shape: Shape,
    labels: dict[str, object],
    number: int,
    method: Method,
    withstands: float,
    truths: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> pd.DataFrame:
    hardness, clean = truths
    right = clean < method.clean
    # Four in five draws are common to all arms: pairs are alike.
    own = np.where(rng.random(shape.n) < 0.8, hardness[number], rng.random(shape.n))
    weakness = shape.baselines.get(str(labels["attack"]), 1.0)
    holds = right & (own < 1 - weakness * (1 - withstands)) if number else right
    status = np.where(~right, "skipped", np.where(holds, "failed", "succeeded"))
    n = np.arange(shape.n)
    return pd.DataFrame(
        labels
        | {
            "example_id": [shape.name(f"e{i}") for i in n],
            "group_id": [shape.name(f"g{i}") for i in n],
            "clean_correct": right.astype(int) if number else np.nan,
            "correct": holds.astype(int),
            "quality": holds.astype(float),
            "status": status,
            "queries": rng.integers(5, 50, shape.n) * (1 + 4 * max(withstands, 0)) if number else 0,
            "goal": "change-prediction" if number else None,
            "original_text": "a text, with \"quotes\"\nand lines",
        }
    )  # fmt: skip


def _record(shape: Shape, task: str, trained: dict[str, tuple[object, ...]]) -> RunRecord:
    full = {row[5]: name for name, row in trained.items() if row[2] == shape.name("full")}
    pairs = [
        PairRecord(name=name, task=task, base="base", reference=full[row[5]], candidate=name, seed=int(str(row[5])))
        for name, row in trained.items()
        if name not in full.values() and row[5] in full
    ]
    checkpoints = [
        CheckpointRecord(
            name=name, adaptation=str(row[3]), task=task, base="base", train_seed=int(str(row[5])),
            weights_digest=name,
            clean_accuracy=0.9, majority_share=0.5, n_clean=100, merge_difference=None, method_digest=str(row[2]),
            trainable_parameters=int(str(row[9])),
        )
        for name, row in trained.items()
    ]  # fmt: skip
    return RunRecord(
        suite="attacks-quick", seed=0, limit=None, device="cpu", dtype="float32", fingerprint={}, pairs=tuple(pairs),
        checkpoints=tuple(checkpoints), tasks=(find_task(task),), warnings=(), started="2026-01-01T00:00:00+00:00",
        testsets=tuple(
            TestsetRecord(name=f"{task}-{name}", task=task, kind="adversarial" if "adv" in name else "clean",
                          provenance="official", n=shape.n, n_used=shape.n, digest="d", scores_f1=False)
            for name in shape.sets
        ),
        attacks=tuple(
            AttackRecord(name=name, family="baseline" if name in shape.baselines else "character", digest="d")
            for name in shape.every_attack
        ),
        machine="machine", versions={},
    )  # fmt: skip


def _write_probes(
    folder: Path,
    shape: Shape,
    task: str,
    trained: dict[str, tuple[object, ...]],
    methods: dict[str, Method],
    rng: np.random.Generator,
) -> None:
    """Distances of examples, and properties of updates that go with how much the method withstands."""
    distances, properties = [], []
    for name, row in trained.items() if shape.probes else ():
        method = methods[str(row[2])]
        blank = {"checkpoint": name, "adaptation": method.family, "task": task, "status": "ok", "n": 1}
        for number in range(shape.n):
            distances.append(
                blank
                | {"testset": f"{task}-{shape.sets[0]}", "probe": "adversarial-distance", "example_id": f"e{number}",
                   "group_id": f"g{number}", "quantity": "relative-distance", "kind": "upper", "norm": "l2",
                   "value": float(rng.lognormal()) * method.robust, "unit": "token-norms"}
            )  # fmt: skip
        values = {"update-effective-rank": np.log(method.parameters), "update-relative-norm": 1 - method.robust,
                  "intruders": 10 * (1 - method.robust), "update-rank": 8.0}  # fmt: skip
        for quantity, value in values.items():
            properties.append(
                blank
                | {"testset": "", "probe": "update-structure", "space": "structure", "quantity": quantity,
                   "kind": "exact", "scope": "all", "value": float(value + 0.001 * rng.normal())}
            )  # fmt: skip
    write_table(
        arrange(Table.SENSITIVITY_EXAMPLES, distances),
        Table.SENSITIVITY_EXAMPLES,
        folder / "sensitivity_examples.csv",
    )
    write_table(arrange(Table.SENSITIVITY, properties), Table.SENSITIVITY, folder / "sensitivity.csv")
    write_table(arrange(Table.LAYERS, []), Table.LAYERS, folder / "layers.csv")


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([neutralise(str(cell)) for cell in row] for row in rows)
