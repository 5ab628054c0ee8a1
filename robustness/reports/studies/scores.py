"""What each checkpoint of a study scored on each example: arms of one task side by side, on common examples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.engine.named_attack import Effort
from robustness.engine.outcome import Status
from robustness.errors import RunError
from robustness.reports.comparisons.controls import CLEAN, control_attacks
from robustness.reports.comparisons.originals import implausible_originals
from robustness.reports.studies.folder import Matching, Study, StudyCheckpoint, StudyRun
from robustness.reports.tables.columns import Table
from robustness.reports.tables.csvfiles import read_columns
from robustness.reports.tables.examples import UNKNOWN, judge, keeps_prediction
from robustness.runs.cells import NO_ATTACK, WORST_CASE

COLUMNS = (
    *("checkpoint", "testset", "attack", "example_id", "group_id", "clean_correct", "correct"),
    *("clean_quality", "quality", "gold", "original_gold", "status", "goal", *Effort),
)
POOLED = "all"
"""The test set and the attack of all planned cells as one."""
MOST_MISSING = 0.2
"""A checkpoint that lacks more of a cell's examples is left out of it; else the examples are, on all checkpoints."""
Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scores:
    """One test set under one attack: the same examples under every arm."""

    task: str
    testset: str
    attack: str
    arms: tuple[StudyCheckpoint, ...]
    robust: Column
    """Right before and after, or the score of the row as it stands; shape (arms, n)."""
    clean: Column
    """Right before the attack, or the score of the original; nan where it is not known of every arm that the task
    has there; shape (arms, n)."""
    effort: Column
    """What broke the example: infinite where the attack gave up, nan where it had nothing to break; (arms, n)."""
    examples: NDArray[np.int64]
    """Number of each example within its test set, shape (n,)."""
    groups: NDArray[np.int64]
    """Shape (n,)."""
    metric: str
    """`accuracy`, or `f1` of questions as they stand."""
    is_control: bool
    """A clean test set as it stands, or an attack without a claim."""
    n_left_out: int = 0
    """Examples that some arm has no outcome of."""
    left_out_arms: tuple[str, ...] = ()
    """Checkpoints that lack too many examples."""
    effort_kind: str = ""
    """What the effort counts."""

    @property
    def n(self) -> int:
        """Number of common examples."""
        return int(self.robust.shape[1])

    @property
    def clean_known(self) -> NDArray[np.bool_]:
        """Which examples have a score before the attack under every arm, shape (n,)."""
        return np.asarray(~np.isnan(self.clean).any(axis=0))

    def where(self, mask: NDArray[np.bool_]) -> Scores:
        """Returns the scores of the examples that the mask keeps."""
        return replace(
            self,
            robust=self.robust[:, mask],
            clean=self.clean[:, mask],
            effort=self.effort[:, mask],
            examples=self.examples[mask],
            groups=self.groups[mask],
        )

    def of(self, arms: Sequence[StudyCheckpoint]) -> Scores:
        """Returns the scores of these arms alone, in their order."""
        places = [self.arms.index(arm) for arm in arms]
        return replace(
            self,
            arms=tuple(arms),
            robust=self.robust[places],
            clean=self.clean[places],
            effort=self.effort[places],
        )


@dataclass(frozen=True, slots=True)
class Block:
    """What is compared: the arms of one task, number of training rows and matching."""

    task: str
    rows: float
    matching: Matching
    arms: tuple[StudyCheckpoint, ...]
    """The ones in its runs; none if every pair is refused."""

    @property
    def label(self) -> str:
        """For readers: the task, and its rows where known."""
        rows = "" if np.isnan(self.rows) else f", {int(self.rows):,} rows"
        return f"{self.task}{rows}" + (", matched on clean score" if self.matching is Matching.CLEAN else "")


@dataclass(frozen=True, slots=True)
class StudyScores:
    """All scores of a study."""

    blocks: tuple[Block, ...]
    cells: tuple[Scores, ...]
    """One for each task, test set and attack, `worst-case` among them; arms of all blocks of the task."""
    chosen: tuple[str, ...] = ()
    """Suites whose attacked examples depend on a pair: their attacks are in no table of the study."""

    def of(self, block: Block) -> Iterator[Scores]:
        """Yields the cells of a block, with its arms alone."""
        for cell in self.cells:
            arms = [arm for arm in block.arms if arm in cell.arms]
            if cell.task == block.task and arms:
                yield cell.of(arms)


def gather_scores(study: Study) -> StudyScores:
    """Returns the scores of all arms of each task on the examples that all of them have.

    A population that depends on a pair would differ between methods. So the examples of a test set and attack are the
    ones that every checkpoint of the task has judged. Attacks on rows chosen by both arms of a pair are left out.
    """
    cells: list[Scores] = []
    for task in dict.fromkeys(run.task for run in study.runs):
        runs = [run for run in study.runs if run.task == task]
        gathered = _Gathered.read(study, runs)
        of_task = [cell for testset in gathered.testsets for cell in _cells(gathered, task, testset)]
        pooled = pool(of_task)
        cells += of_task if pooled is None else [*of_task, pooled]
    chosen = dict.fromkeys(run.suite for run in study.runs if run.record.attacked is not None)
    return StudyScores(tuple(_blocks(study)), tuple(cells), tuple(chosen))


def _blocks(study: Study) -> Iterator[Block]:
    """The blocks of runs, then without arms the ones that have no run, such as where all pairs are refused."""
    blocks: dict[tuple[str, str, Matching], dict[StudyCheckpoint, None]] = {}
    for run in study.runs:
        blocks.setdefault(_block_of(run), {}).update(dict.fromkeys(_arms_of(study, run)))
    in_runs = {arm for arms in blocks.values() for arm in arms}
    lost = [each for each in study.checkpoints if each not in in_runs]
    for each in sorted(lost, key=lambda each: math.isnan(each.rows)):
        # Unknown rows are no further group where another is known: a study of several says their rows.
        is_reached = any((task, matching) == (each.task, each.matching) for task, _, matching in blocks)
        if not is_reached or not math.isnan(each.rows):
            blocks.setdefault(_block_of(each), {})
    for (task, rows, matching), arms in blocks.items():
        yield Block(task, float(rows), matching, tuple(arms))


def _block_of(each: StudyRun | StudyCheckpoint) -> tuple[str, str, Matching]:
    """Task, rows as text, for nan equals nothing, and matching."""
    return each.task, str(each.rows), each.matching


def _arms_of(study: Study, run: StudyRun) -> list[StudyCheckpoint]:
    found = (study.find_checkpoint(each.name, run) for each in run.record.checkpoints)
    return [arm for arm in found if arm is not None]


@dataclass(frozen=True, slots=True)
class _Gathered:
    """The rows of all runs of a task, with numbers in place of names."""

    frame: pd.DataFrame
    """Columns arm, testset, attack, example_id, group_id, robust, clean (-1: not known), and numbers."""
    arms: tuple[StudyCheckpoint, ...]
    runs: tuple[StudyRun, ...]

    @classmethod
    def read(cls, study: Study, runs: Sequence[StudyRun]) -> _Gathered:
        arms: dict[StudyCheckpoint, int] = {}
        frames = []
        for run in runs:
            path = run.folder / f"{Table.EXAMPLES}.csv"
            if not path.is_file():
                raise RunError(f"{path}: is missing; `robustness report {run.folder}` writes it")
            rows = read_columns(Table.EXAMPLES, path, COLUMNS)
            named = {each.name: study.find_checkpoint(each.name, run) for each in run.record.checkpoints}
            numbers = {name: arms.setdefault(arm, len(arms)) for name, arm in named.items() if arm is not None}
            robust, clean = judge(rows)
            implausible = rows["testset"].isin(list(implausible_originals(rows, run.record)))
            clean[(implausible & (rows["attack"] == NO_ATTACK)).to_numpy(dtype=bool)] = UNKNOWN
            rows = rows.assign(arm=rows["checkpoint"].map(numbers).astype("float64"), robust=robust, clean=clean)
            kept = rows["arm"].notna() & ~keeps_prediction(rows)
            if run.record.attacked is not None:
                kept &= rows["attack"] == NO_ATTACK
            frames.append(rows[kept])
        frame = pd.concat(frames, ignore_index=True)
        # Full checkpoints serve both matchings: what two runs found of one checkpoint is the same.
        frame = frame.drop_duplicates(["arm", "testset", "attack", "example_id"])
        return cls(frame.assign(arm=frame["arm"].astype(np.int64)), tuple(arms), tuple(runs))

    @property
    def testsets(self) -> list[str]:
        """In the order of the runs."""
        present = set(self.frame["testset"])
        names = dict.fromkeys(each.name for run in self.runs for each in run.record.testsets)
        return [name for name in names if name in present]


def _cells(gathered: _Gathered, task: str, testset: str) -> Iterator[Scores]:
    rows = gathered.frame[gathered.frame["testset"] == testset]
    record = next(each for run in gathered.runs for each in run.record.testsets if each.name == testset)
    controls = frozenset().union(*(control_attacks(run.record) for run in gathered.runs))
    examples, names = pd.factorize(rows["example_id"])
    groups = np.zeros(len(names), dtype=np.int64)
    groups[examples] = pd.factorize(rows["group_id"])[0]
    found = []
    for attack in rows["attack"].drop_duplicates():
        mine = (rows["attack"] == attack).to_numpy()
        is_static = attack == NO_ATTACK
        answers = record.answers and is_static
        scores = _Filled(rows[mine], examples[mine], len(gathered.arms), len(names)).scores(
            answers=answers, effort=_effort_of(gathered, str(attack))
        )
        made = Scores(
            task=task,
            testset=testset,
            attack=str(attack),
            arms=gathered.arms,
            robust=scores[0],
            clean=scores[1],
            effort=scores[2],
            examples=np.arange(len(names)),
            groups=groups,
            metric="f1" if answers else "accuracy",
            is_control=record.kind == CLEAN if is_static else attack in controls,
            effort_kind="" if is_static else _effort_of(gathered, str(attack)),
        )
        found.append(made)
    attacked = [each for each in found if each.attack != NO_ATTACK and not each.is_control]
    yield from (on_common_examples(each) for each in found)
    if len(attacked) > 1:
        yield on_common_examples(_worst(attacked))


def _effort_of(gathered: _Gathered, attack: str) -> str:
    found = (each.effort for run in gathered.runs for each in run.record.attacks if each.name == attack)
    return str(next(found, Effort.QUERIES))


@dataclass(frozen=True, slots=True)
class _Filled:
    """Rows of one cell as tables of arms by examples."""

    rows: pd.DataFrame
    examples: NDArray[np.int64]
    n_arms: int
    n: int

    def scores(self, *, answers: bool, effort: str) -> tuple[Column, Column, Column]:
        """Robust, clean and effort; nan where not known."""
        robust, clean = (
            np.where(codes == UNKNOWN, np.nan, codes.astype(float))
            for codes in (self.rows["robust"].to_numpy(), self.rows["clean"].to_numpy())
        )
        if answers:
            robust, clean = (
                np.where(np.isnan(robust), np.nan, self._numbers(name)) for name in ("quality", "clean_quality")
            )
            robust = np.where(np.isnan(clean), np.nan, robust)  # the altered rows are the headline
        status = self.rows["status"].to_numpy()
        spent = np.where(status == Status.SUCCEEDED, self._numbers(effort), np.inf)
        spent[status == Status.SKIPPED] = np.nan
        return self._table(robust), self._table(clean), self._table(spent)

    def _numbers(self, name: str) -> Column:
        return np.asarray(self.rows[name].to_numpy(dtype=np.float64, na_value=np.nan))

    def _table(self, values: Column) -> Column:
        table = np.full((self.n_arms, self.n), np.nan)
        table[self.rows["arm"].to_numpy(), self.examples] = values
        return table


def _worst(cells: Sequence[Scores]) -> Scores:
    """Several attacks as one: an example withstands if it withstands all, on arms that have all of them."""
    robust = np.stack([each.robust for each in cells]).min(axis=0)  # nan where one attack has no outcome
    before = np.stack([each.clean for each in cells])
    robust = np.where((before == 0).any(axis=0), 0.0, robust)  # wrong before one attack is wrong before all
    clean = np.fmin.reduce(before)
    blank = np.full_like(robust, np.nan)
    return replace(cells[0], attack=WORST_CASE, robust=robust, clean=clean, effort=blank, effort_kind="")


def on_common_examples(cell: Scores) -> Scores:
    """Returns a cell's arms that have most of its examples, on the examples that all of these have.

    A score before the attack that one of these arms lacks is no longer known of any: it would compare nothing.
    """
    known = ~np.isnan(cell.robust)
    has_any = np.asarray(known.any(axis=1))
    seen = known.any(axis=0)
    missing = 1 - known[:, seen].mean(axis=1) if seen.any() else np.ones(len(cell.arms))
    kept_arms = has_any & (missing <= MOST_MISSING)
    common = np.asarray(known[kept_arms].all(axis=0) if kept_arms.any() else np.zeros_like(seen))
    left = [
        arm.name for arm, any_, is_kept in zip(cell.arms, has_any, kept_arms, strict=True) if any_ and not is_kept
    ]
    kept = cell.of([arm for arm, is_kept in zip(cell.arms, kept_arms, strict=True) if is_kept]).where(common)
    return replace(
        kept,
        clean=np.where(kept.clean_known, kept.clean, np.nan),
        n_left_out=int((seen & ~common).sum()),
        left_out_arms=tuple(left),
    )


def pool(cells: Sequence[Scores]) -> Scores | None:
    """Returns all planned cells of a task as one; None without any.

    The score of an example is its mean over the attacks of its test set, so that every example counts once. Arms are
    the ones of all cells. The worst case, which the attacks determine, is left out.
    """
    planned = [cell for cell in cells if not cell.is_control and cell.attack != WORST_CASE and cell.n]
    arms = [arm for arm in planned[0].arms if all(arm in cell.arms for cell in planned)] if planned else []
    if not arms:
        return None
    parts = []
    for testset in dict.fromkeys(cell.testset for cell in planned):
        mine = [cell.of(arms) for cell in planned if cell.testset == testset]
        common = np.array(sorted(set.intersection(*(set(cell.examples.tolist()) for cell in mine))), dtype=np.int64)
        places = [np.searchsorted(cell.examples, common) for cell in mine]
        parts.append(
            (
                np.mean([cell.robust[:, place] for cell, place in zip(mine, places, strict=True)], axis=0),
                np.fmin.reduce([cell.clean[:, place] for cell, place in zip(mine, places, strict=True)]),
                mine[0].groups[places[0]],
            )
        )
    offsets = np.cumsum([0, *(int(part[2].max(initial=0)) + 1 for part in parts)])
    robust, clean = (np.concatenate([part[place] for part in parts], axis=1) for place in (0, 1))
    return Scores(
        task=planned[0].task,
        testset=POOLED,
        attack=POOLED,
        arms=tuple(arms),
        robust=robust,
        clean=clean,
        effort=np.full_like(robust, np.nan),
        examples=np.arange(robust.shape[1]),
        groups=np.concatenate([part[2] + offset for part, offset in zip(parts, offsets[:-1], strict=True)]),
        metric=planned[0].metric if len({cell.metric for cell in planned}) == 1 else "score",
        is_control=False,
        n_left_out=max(cell.n_left_out for cell in planned),
        left_out_arms=tuple(sorted({name for cell in planned for name in cell.left_out_arms})),
    )
