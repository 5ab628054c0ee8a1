"""examples.csv: one row per outcome, with the names of what it belongs to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.engine.outcome import Status
from robustness.reports.tables.columns import Table, arrange
from robustness.reports.tables.parses import parse_columns
from robustness.runs.cells import NO_ATTACK
from robustness.runs.storage.record import RunRecord
from robustness.tasks.objective import ObjectiveKind

RIGHT, WRONG, UNKNOWN = 1, 0, -1
_HALVES = re.compile("[\ud800-\udfff]")
"""Halves of surrogate pairs: no file and no page can hold one."""


def build_examples(outcomes: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns examples.csv's rows in the order checkpoint, test set, attack of the run."""
    checkpoints = {checkpoint.name: checkpoint for checkpoint in record.checkpoints}
    testsets = {testset.name: testset for testset in record.testsets}
    attacks = {attack.name: attack for attack in record.attacks}
    order = {name: rank for rank, name in enumerate([*checkpoints, *testsets, NO_ATTACK, *attacks])}
    ranks = [_each(outcomes[name], order.get) for name in ("attack", "testset", "checkpoint")]
    frame = outcomes.iloc[np.lexsort([np.asarray(rank, dtype=float) for rank in ranks])].reset_index(drop=True)
    named = {
        "adaptation": _each(frame["checkpoint"], lambda name: checkpoints[name].adaptation),
        "task": _each(frame["checkpoint"], lambda name: checkpoints[name].task),
        "base_precision": _each(frame["checkpoint"], lambda name: checkpoints[name].base_precision),
        "train_seed": _each(frame["checkpoint"], lambda name: checkpoints[name].train_seed),
        "provenance": _each(frame["testset"], lambda name: testsets[name].provenance),
        "attack_digest": _each(frame["attack"], lambda name: attacks[name].digest if name in attacks else None),
        "goal": _each(frame["attack"], lambda name: attacks[name].goal if name in attacks else None),
        "seed": record.seed,
    }
    texts = {name: _each(frame[name], _readable) for name in ("original_text", "adversarial_text")}
    frame = frame.assign(**named, **texts)
    return arrange(Table.EXAMPLES, frame.assign(**parse_columns(frame, record)))


def _each(column: pd.Series, make: Callable[[Any], object]) -> pd.Series:
    """What is made of each value, made once for equal ones; nothing of a missing one."""
    codes, known = pd.factorize(column)
    return pd.Series([make(value) for value in known]).reindex(codes).set_axis(column.index)


def add_judgements(examples: pd.DataFrame) -> pd.DataFrame:
    """Adds `robust_right` and `clean_right` (true, false, missing), the two things every table is made of.

    For an attack, robust means right before and after it; for a test set as it stands, right on the row itself. Under
    an attack that keeps the prediction, it means not reduced to so few words. That is known only where the clean text
    was answered rightly. The original of a ready-made row is held against its own gold where that is known.
    """
    robust, clean = judge(examples)
    return examples.assign(
        robust_right=_as_boolean(robust, examples.index), clean_right=_as_boolean(clean, examples.index)
    )


def judge(examples: pd.DataFrame) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Returns what `add_judgements` adds as numbers: 1 right, 0 wrong, -1 unknown, shape (rows,) each."""
    correct, clean_correct = (
        examples[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in ("correct", "clean_correct")
    )
    status = examples["status"]
    static, errored = (
        (column == value).to_numpy() for column, value in ((examples["attack"], NO_ATTACK), (status, Status.ERRORED))
    )
    robust = np.where(static, correct == 1, (status == Status.FAILED).to_numpy()).astype(np.int8)
    robust[(keeps_prediction(examples) & (status == Status.SKIPPED)).to_numpy() | errored] = UNKNOWN
    clean = (clean_correct == 1).astype(np.int8)
    clean[np.isnan(clean_correct) | errored] = UNKNOWN
    return robust, clean


def _as_boolean(judged: NDArray[np.int8], index: pd.Index) -> pd.Series:
    return pd.Series(pd.arrays.BooleanArray(judged == RIGHT, judged == UNKNOWN), index=index)


def keeps_prediction(examples: pd.DataFrame) -> pd.Series[bool]:
    """Whether each row is of an attack whose success is no wrong answer, so that no accuracy may count it."""
    return examples["goal"] == ObjectiveKind.KEEP_PREDICTION


def _readable(texts: str) -> str:
    """One segment unchanged; a pair as a JSON list, which can be split again."""
    inside = texts[2:-2]
    if '"' not in inside and "\\" not in inside:  # one segment as it stands: most texts are
        return inside
    segments = json.loads(texts)
    text = str(segments[0]) if len(segments) == 1 else json.dumps(segments, ensure_ascii=False)
    return _HALVES.sub("\ufffd", text)
