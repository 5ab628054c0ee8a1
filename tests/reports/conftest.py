"""Fixtures for pages: synthetic run folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustness.definitions.tasks import find_task
from robustness.engine.outcome import Outcome, Status
from robustness.reports.tables.columns import Table, arrange
from robustness.runs.cells import Cell
from robustness.runs.storage.measurements import COLUMNS
from robustness.runs.storage.record import (
    AttackRecord,
    CheckpointRecord,
    PairRecord,
    RunRecord,
    StatisticsRecord,
    TestsetRecord,
    write_record,
)
from robustness.runs.storage.store import Store
from robustness.tasks.grading import Grade

LABELS = ("negative", "positive")

HOSTILE = (
    "<script>document.title='run'</script>",
    '"><img src=x onerror="document.title=1">',
    "</style></script></textarea><h1>out</h1>",
    "=cmd|' /C calc'!A0",
    "-1+1 @SUM(A1) {{ 717 * 3 }} {% raw %} ${x}",
    "$x^2 & _{y} % # \\alpha ~",
    "\u202eright to left\u202c \u200bnothing\u2060",
    "bell\x07 back\x08 escape\x1b[31m del\x7f",
    "line\nand\rreturn\tand tab",
    "]]> --> <!-- & &amp; &#x3c;",
    "' OR 1=1 --",
    "|pipe|`tick`",
)


class RunWriter:
    """Writes run folders of made-up outcomes, no model needed."""

    def record(self, name: Callable[[str], str] = str, seeds: int = 1, n: int = 40) -> RunRecord:
        """A record of `seeds` pairs; `name` may make every name hostile."""
        pairs, checkpoints = [], []
        for seed in range(seeds):
            full, peft = name(f"full-{seed}"), name(f"lora-{seed}")
            pairs.append(
                PairRecord(
                    name=name(f"pair-{seed}"),
                    task="sst2",
                    base=name("base"),
                    reference=full,
                    candidate=peft,
                    seed=seed,
                )
            )
            for checkpoint, adaptation in ((full, "full"), (peft, "lora")):
                checkpoints.append(
                    CheckpointRecord(
                        name=checkpoint,
                        adaptation=adaptation,
                        task="sst2",
                        base=name("base"),
                        train_seed=seed,
                        weights_digest=name("weights"),
                        clean_accuracy=0.9,
                        majority_share=0.5,
                        n_clean=100,
                        merge_difference=None,
                    )
                )
        kinds = {"clean-set": "clean", "adversarial-set": "adversarial"}
        return RunRecord(
            suite=name("suite"),
            seed=0,
            limit=None,
            device=name("cpu"),
            dtype="float32",
            fingerprint={},
            pairs=tuple(pairs),
            tasks=tuple(find_task(name) for name in ("sst2", "squad")),
            checkpoints=tuple(checkpoints),
            testsets=tuple(
                TestsetRecord(
                    name=name(testset),
                    task="sst2",
                    kind=kind,
                    provenance=name("official"),
                    n=n,
                    n_used=n,
                    digest="d",
                    scores_f1=False,
                    labels=LABELS,
                )
                for testset, kind in kinds.items()
            ),
            attacks=tuple(
                AttackRecord(name=name(attack), family=family, digest="d")
                for attack, family in (("swap", "character"), ("synonym", "word"))
            ),
            warnings=(name("a warning"),),
            started="2026-01-01T00:00:00+00:00",
            machine=name("machine"),
            versions={name("library"): name("1.0")},
            command=("robustness", "run", name("suite")),
        )

    def mixed(self) -> RunRecord:
        """A record of LoRA with three seeds, `pair-0` to `pair-2`, and of DoRA with one, `pair-3`."""
        record = self.record(seeds=4)
        *others, last = record.checkpoints
        return record.model_copy(update={"checkpoints": (*others, last.model_copy(update={"adaptation": "dora"}))})

    def write(
        self,
        folder: Path,
        record: RunRecord,
        text: Callable[[int], str] = lambda i: f"text number {i} is" + " very" * (i % 7) + " fine",
        word: Callable[[int], str] | None = None,
    ) -> Path:
        """Writes outcomes in which PEFT breaks more often, and answers to replayed texts.

        `word` fills the columns that are empty otherwise, makes ids of its own, and errors the last example.
        """
        folder.mkdir()
        write_record(folder, record)
        store = Store(folder)
        rng = np.random.default_rng(0)
        for number, checkpoint in enumerate(record.checkpoints):
            weakness = 0.35 if checkpoint.adaptation == "full" else 0.75
            for testset in record.testsets:
                for attack in ("none", *(attack.name for attack in record.attacks)):
                    cell = Cell(checkpoint.name, testset.name, attack)
                    outcomes = [_outcome(i, attack, rng, weakness, text) for i in range(testset.n_used)]
                    store.add(cell, outcomes if word is None else [_name(o, i, word) for i, o in enumerate(outcomes)])
                    if attack != "none":
                        partner = record.checkpoints[number ^ 1].name
                        found = [example_id for example_id, _ in store.unreplayed_successes(cell, partner)]
                        store.add_replays(cell, partner, [(name, _grade(bool(rng.integers(2)))) for name in found])
        store.close()
        return folder


def _outcome(i: int, attack: str, rng: np.random.Generator, weakness: float, text: Callable[[int], str]) -> Outcome:
    label = i % 2
    skipped = i % 10 == 0
    broken = bool(rng.random() < weakness) and not skipped
    status = Status.SKIPPED if skipped else Status.SUCCEEDED if broken else Status.FAILED
    clean = 1 - label if skipped else label
    return Outcome(
        example_id=f"e{i}",
        group_id=f"g{i}",
        clean_correct=not skipped,
        correct=not (skipped or broken),
        clean_quality=float(rng.uniform(0.5, 1)),
        quality=0.3,
        clean_response=LABELS[clean],
        response=LABELS[1 - label if broken else clean],
        gold=LABELS[label],
        status=status,
        queries=0 if attack == "none" else int(rng.integers(5, 200)),
        forwards=5,
        modified_words=1,
        modified_share=0.2,
        similarity=0.9,
        seconds=0.01,
        original_text=(text(i),),
        adversarial_text=(text(i) + " changed",),
    )


def _grade(correct: bool) -> Grade:
    return Grade(correct, float(correct), LABELS[int(correct)])


def _name(outcome: Outcome, i: int, word: Callable[[int], str]) -> Outcome:
    named = replace(
        outcome,
        example_id=f"e{i} {word(i)}",
        group_id=f"g{i} {word(i)}",
        method=word(i % 3),
        construction=word(3 + i % 2),
        clean_response=word(i),
        response=word(i),
        norm=word(i),
    )
    return replace(named, status=Status.ERRORED, error=word(i)) if i == 39 else named


def plant(**cells: object) -> dict[str, object]:
    """A row of pairs.csv: 400 examples of `set` under `swap`, nothing found, with what a test says of it."""
    row: dict[str, object] = {
        "pair": "pair-0",
        "contrast": "full-vs-peft",
        "base": "base",
        "reference": "full-0",
        "candidate": "lora-0",
        "method": "lora",
        "task": "sst2",
        "testset": "set",
        "attack": "swap",
        "metric": "robust_accuracy",
        "population": "all",
        "n": 400,
        "reference_value": 0.5,
        "candidate_value": 0.48,
        "difference": 0.02,
        "low": -0.03,
        "high": 0.07,
        "test": "mcnemar-exact",
        "p_value": 0.4,
        "p_adjusted": 0.8,
        "verdict": "inconclusive",
        "n_seeds": 1,
        "aggregation": "mean",
        "family": "planned",
        "n_left_out": 0,
    }
    return row | cells


def plant_table(*rows: dict[str, object]) -> pd.DataFrame:
    """pairs.csv of these rows."""
    return arrange(Table.PAIRS, list(rows))


@pytest.fixture(scope="session")
def planted() -> Any:
    """Makes rows and tables of pairs.csv: `planted.row(...)`, `planted.table(...)`."""
    return SimpleNamespace(row=plant, table=plant_table)


@pytest.fixture(scope="session")
def run_writer() -> RunWriter:
    return RunWriter()


@pytest.fixture(scope="session")
def hostile() -> tuple[str, ...]:
    return HOSTILE


class Measured:
    """Made-up readings of one pair, full and LoRA, no model needed."""

    arms = ("full", "lora")

    def __init__(self) -> None:
        self.record: Any = SimpleNamespace(
            seed=0,
            statistics=StatisticsRecord(),
            pairs=[PairRecord(name="pair", task="sst2", base="base", reference="full", candidate="lora", seed=0)],
            find_checkpoint=lambda name: SimpleNamespace(
                adaptation=name, method=name, task="sst2", base_precision="", settings={}
            ),
        )

    def rows(self, values: dict[str, Sequence[float | None]], **columns: Any) -> pd.DataFrame:
        """Readings of examples 0, 1, ... of both arms."""
        blank = dict.fromkeys(COLUMNS) | {
            "testset": "t", "probe": "p", "space": "input", "quantity": "q", "unit": "1", "direction": "robust",
            "aggregate": "median", "scale_free": 1, "target": "f", "kind": "upper", "status": "ok",
            "scope": "content", "forwards": 1, "backwards": 2, "seconds": 0.5, "reason": "",
        }  # fmt: skip
        return pd.DataFrame(
            [
                blank | {"checkpoint": arm, "example_id": str(n), "group_id": str(n), "value": value} | columns
                for arm in self.arms
                for n, value in enumerate(values[arm])
            ]
        )


@pytest.fixture
def measured() -> Measured:
    return Measured()
