"""What a plan will cost, told before it runs: forwards of every cell times the operations of a forward."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import final

from robustness.engine.attack import Access
from robustness.engine.named_attack import NamedAttack
from robustness.errors import UsageError
from robustness.runs.cells import NO_ATTACK, Cell, ProbeCell
from robustness.runs.planning.estimate import CellCost, Estimate, Rate
from robustness.runs.planning.measured_costs import (
    ATTACKS,
    PROBES,
    SEARCHED,
    UNMEASURED,
    MeasuredCost,
    Passes,
    read_attacked_shares,
    read_measured_costs,
)
from robustness.runs.planning.rows import Draft
from robustness.runs.preparation import GATE_EXAMPLES
from robustness.victims.files.checkpoint import Checkpoint
from robustness.victims.flops import (
    Architecture,
    describe_device,
    measure_rate,
    read_architecture,
    read_config,
)
from robustness.victims.heads.kinds import head_kind
from robustness.victims.heads.registry import count_tokens
from robustness.victims.loading import place

REPLAYS = 3
"""Forward passes that each success costs once it is found."""
GATE_FORWARDS = GATE_EXAMPLES + 56
"""Clean examples that the gate scores, and the few texts of its other checks."""
ATTACKED_SHARE = {"clean": 0.9, "adversarial": 0.5}
"""Of a test set: what is answered rightly and so attacked, where no pilot says."""
TIMED_EXAMPLES = 64
START_SECONDS = 15.0
"""For the program to start and, at the end, to write tables and page."""
LOADS = 2
"""Of each checkpoint: for its checks, then for its cells."""
LOAD_SECONDS = 2.0
"""Beside the reading of its weights."""
BYTES_A_SECOND = 5e8
"""Of weights that are read."""


@final
class Costing:
    """A draft with all that its costs follow from: examples, tokens and models.

    Args:
        draft: what is to run, read.
        pilot: folder of a run whose counts stand for those of this one; None: the shipped figures.

    Raises:
        RunError: a pilot that is none.
    """

    def __init__(self, draft: Draft, pilot: Path | None = None) -> None:
        self._plan = draft.plan
        self._typical: Mapping[tuple[str, str], MeasuredCost] = read_measured_costs(pilot) if pilot else {}
        self._shares = read_attacked_shares(pilot) if pilot else {}
        self._checkpoints, self._tasks = draft.admission.checkpoints, draft.admission.tasks
        self._rows, self._examples = draft.rows, draft.examples
        self._bases: dict[Path, tuple[Checkpoint, Architecture]] = {}
        self._means: dict[tuple[Path, str], float] = {}

    def estimate(self) -> Estimate:
        """Returns what every cell asks for."""
        cells = [self._attack_cell(cell) for cell in self._plan.cells]
        cells += [self._probe_cell(cell) for cell in self._plan.probe_cells]
        left_out = tuple(f"{name}: {rows.left_out}" for name, rows in self._rows.items() if rows.n_selecting)
        checks = GATE_FORWARDS * len(self._checkpoints)
        return Estimate(tuple(cells), sum(self._gate_flops()), checks, self._fixed_seconds(), left_out)

    def measure(self, *, seconds: float = 2.0, clock: Callable[[], float] = time.perf_counter) -> Rate:
        """Times this machine on texts of the plan's first test set, for about so many seconds."""
        placement = place(self._plan.settings.device, self._plan.settings.dtype)
        checkpoint = self._checkpoints[self._plan.cells[0].checkpoint]
        config, tokenizer = read_config(checkpoint)
        texts = [example.texts for example in self._examples[self._plan.cells[0].testset][:TIMED_EXAMPLES]]
        rate = measure_rate(config, tokenizer, texts, placement, seconds=seconds, clock=clock)
        return Rate(rate, f"{describe_device(placement)}; measured now")

    def _fixed_seconds(self) -> float:
        """What a run takes however few its examples are; a checkpoint is loaded for its checks and for its cells."""
        folders = {folder for each in self._checkpoints.values() for folder in (each.folder, each.base)}
        sizes = {folder: sum(file.stat().st_size for file in folder.glob("*.safetensors")) for folder in folders}
        read = sum(sizes[folder] for each in self._checkpoints.values() for folder in {each.folder, each.base})
        return START_SECONDS + LOADS * (LOAD_SECONDS * len(self._checkpoints) + read / BYTES_A_SECOND)

    def _gate_flops(self) -> Iterator[float]:
        for name in self._checkpoints:
            testset = next(cell.testset for cell in self._plan.cells if cell.checkpoint == name)
            yield GATE_FORWARDS * self._mean_flops(name, testset)

    def _attack_cell(self, cell: Cell) -> CellCost:
        examples = self._examples[cell.testset]
        if cell.attack == NO_ATTACK:
            forwards = self._search_forwards(cell.testset)
            forwards += sum(1 + (example.original is not None) for example in examples)
            return CellCost(cell, forwards, 0, forwards * self._mean_flops(cell.checkpoint, cell.testset))
        attack = next(attack for attack in self._plan.attacks if attack.name == cell.attack)
        words = fmean(len(example.words) for example in examples)
        typical = self._typical.get((cell.testset, cell.attack))
        is_guess = typical is None and cell.attack not in ATTACKS
        typical = typical or guess(attack).at(words)
        share = self._shares.get(cell.testset, ATTACKED_SHARE[self._rows[cell.testset].testset.kind])
        limit = self._plan.attacked  # rows that are known to be answered rightly
        passes = (
            count_passes(len(examples), share, typical)
            if limit is None
            else count_passes(min(limit, len(examples)), 1.0, typical)
        )
        flops = passes.in_forwards * self._mean_flops(cell.checkpoint, cell.testset)
        return CellCost(cell, passes.forwards, passes.backwards, flops, is_guess)

    def _search_forwards(self, testset: str) -> float:
        """What a test set that is made against each checkpoint asks for before it is scored."""
        generated = self._rows[testset].testset.generated
        if generated is None or not generated.needs_checkpoint:
            return 0.0
        return len({example.group for example in self._examples[testset]}) * SEARCHED[generated.generator]

    def _probe_cell(self, cell: ProbeCell) -> CellCost:
        testset = cell.testset or next(c.testset for c in self._plan.cells if c.checkpoint == cell.checkpoint)
        probe = next(probe for probe in self._plan.probes if probe.name == cell.probe)
        used = len(self._examples[testset][: probe.examples])
        one = PROBES.get(cell.probe, Passes(1, 0))
        passes = Passes(one.forwards * used, one.backwards * used)
        flops = passes.in_forwards * self._mean_flops(cell.checkpoint, testset)
        return CellCost(cell, passes.forwards, passes.backwards, flops, cell.probe not in PROBES)

    def _mean_flops(self, name: str, testset: str) -> float:
        """Operations of a forward pass over one of the test set's texts; checkpoints of one base share them."""
        checkpoint = self._checkpoints[name]
        if (checkpoint.base, testset) not in self._means:
            config, tokenizer = read_config(checkpoint)
            if checkpoint.base not in self._bases:
                self._bases[checkpoint.base] = checkpoint, read_architecture(config)
            task = self._tasks[name]
            texts = [example.texts for example in self._examples[testset]]
            tokens = count_tokens(head_kind(checkpoint, task), task, tokenizer, config, texts)
            self._means[checkpoint.base, testset] = float(self._bases[checkpoint.base][1].flops(tokens).mean())
        return self._means[checkpoint.base, testset]


def count_passes(examples: int, attacked_share: float, typical: MeasuredCost) -> Passes:
    """Returns what attacking so many examples takes, replays included.

    A success is replayed on the partner and on the untuned base, which reads the clean text too. An example that is
    answered wrongly is read once.

    >>> count_passes(10, 0.5, MeasuredCost(forwards=20, successes=1.0, backwards=3))
    Passes(forwards=120.0, backwards=15.0)
    """
    attacked = attacked_share * examples
    forwards = (examples - attacked) + attacked * (typical.forwards + REPLAYS * typical.successes)
    return Passes(forwards, attacked * typical.backwards)


def guess(attack: NamedAttack) -> MeasuredCost:
    """Returns the shipped figure of an attack, or of a similar attack, or the median by access."""
    known = ATTACKS.get(UNMEASURED.get(attack.name, attack.name))
    if known is None:
        by_gradient = getattr(attack.attack, "access", None) is Access.GRADIENTS
        alike = sorted((t for t in ATTACKS.values() if bool(t.backwards) == by_gradient), key=lambda t: t.forwards)
        known = alike[len(alike) // 2]
    if attack.max_queries is None or known.forwards <= attack.max_queries + 2:
        return known
    return MeasuredCost(attack.max_queries + 2, known.successes, None, known.backwards)


def given_rate(teraflops: float) -> Rate:
    """Returns the rate that a caller names, in 10^12 operations a second; raises UsageError for what is no rate."""
    if not 0 < teraflops < math.inf:
        raise UsageError(f"--tflops {teraflops:g}: expected a number above 0, in 10^12 operations a second")
    return Rate(teraflops * 1e12, "given by --tflops")
