"""What a study will cost and can show, told before anything is trained."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from robustness.definitions.pairs import Pair
from robustness.runs.planning.admission import admit
from robustness.runs.planning.cost import START_SECONDS, Costing
from robustness.runs.planning.estimate import Rate
from robustness.runs.planning.foresight import describe_power, plan_set
from robustness.runs.planning.plan import PlanSettings, make_plan
from robustness.runs.planning.rows import Draft, use_rows
from robustness.stats.doses.trends import MIN_DOSES, MIN_SEEDS
from robustness.stats.planning import SEED_SD
from robustness.studies.design import Design, Group, Matching, PlannedCheckpoint, PlannedRun
from robustness.studies.digests import FileDigests
from robustness.studies.graph import Kind, build_graph, run_folder
from robustness.studies.journal import Journal
from robustness.studies.rows import load_group
from robustness.studies.settled import find_open
from robustness.training.examples.rows import TrainingRows
from robustness.training.methods.variants import SHORT
from robustness.training.protocol import under_protocol
from robustness.victims.files.checkpoint import Checkpoint, read_checkpoint
from robustness.victims.flops import read_architecture, read_config
from robustness.victims.heads.kinds import trained_kind
from robustness.victims.heads.registry import count_tokens

FULL_PASSES, PEFT_PASSES = 3.0, 2.0
"""Operations of a training step, in forward passes: the activations' and the weights' gradients cost one each."""
FREELB_PASS = 0.86
"""Of a plain step, what each of FreeLB's passes costs, assumed for every base and method.

Three of them were measured to take 2.49 times the processor time of full fine-tuning, and 2.66 times that of LoRA
(tests/benchmarks/results/adversarial_training.json)."""
STEP_SECONDS, TRIAL_SECONDS = 0.02, 4.0
"""Beside the operations, assumed: of the trainer for a step, and for a trial's start, scoring and saving."""
CONFIG = "config.json"
FLOAT_BYTES, TOKENIZER_BYTES = 4, 3_000_000
"""Of a parameter as it is saved, and of a checkpoint's tokenizer."""
OUTCOME_BYTES = 3_000
"""Of one outcome in the store, the tables and the page; assumed."""
SAMPLED_ROWS = 256
"""Whose tokens are counted."""
POWER_SUM = 2.8
"""Normal quantiles of a two-sided test at .05 and of power .80, added."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one part of a study asks for, as far as it is not done."""

    name: str
    jobs: int
    flops: float
    seconds: float
    """Beside the operations."""
    size: float
    """Bytes on the disk at the end."""

    def hours(self, rate: float) -> float:
        """Returns the hours on a device that does `rate` operations a second."""
        return (self.flops / rate + self.seconds) / 3600


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a study costs and can show."""

    parts: tuple[Part, ...]
    done: int
    jobs: int
    rate: Rate
    lines: tuple[str, ...]
    """What it can show, and what the figures rest on."""


def forecast(design: Design, out: Path, device: str, rate: Rate | None = None) -> Forecast:
    """Returns what the missing jobs of a study cost, and what the whole can show.

    Args:
        design: the study.
        out: its folder, which need not be there.
        device: auto, cpu, cuda or cuda:N.
        rate: of the device; None: timed for two seconds.

    Raises:
        RobustnessError: rows that cannot be read, or a base of unknown architecture.
    """
    graph = build_graph(design, FileDigests(out))
    journal = Journal(out)
    missing = {job.id for job in find_open(graph, journal, out)}
    rows = {group.label: load_group(design, group) for group in design.groups}
    wanted = {each.name for key, each in graph.trainings.items() if key in missing}
    parts = [_train_part(design, group, rows[group.label], wanted) for group in design.groups]
    open_runs = {job.name for job in graph.jobs if job.id in missing and job.kind is Kind.RUN}
    with TemporaryDirectory() as folder:
        drafts = {run.name: _draft(design, run, rows[run.group.label], device, Path(folder)) for run in design.runs}
        parts += [_run_part(run, drafts[run.name], is_open=run.name in open_runs) for run in design.runs]
        found = rate or Costing(next(iter(drafts.values()))).measure()
    lines = (*_power(design, drafts), *_trends(design, drafts), *_assumptions(out, design))
    return Forecast(tuple(parts), len(graph.jobs) - len(missing), len(graph.jobs), found, lines)


def _as_checkpoint(design: Design, name: str) -> Checkpoint:
    """The base in place of a checkpoint that is not trained yet; both have one architecture."""
    return read_checkpoint(name, str(design.base), str(design.base))


def _train_part(design: Design, group: Group, rows: TrainingRows, wanted: set[str]) -> Part:
    config, tokenizer = read_config(_as_checkpoint(design, group.label))
    architecture, kind = read_architecture(config), trained_kind(group.task)
    texts = [example.texts for example in rows.train[:SAMPLED_ROWS]]
    tokens = count_tokens(kind, group.task, tokenizer, config, texts)
    forward = float(architecture.flops(tokens).mean())
    mine = [each for each in group.checkpoints if each.name in wanted]
    costs = [_cost(each, group.task.name, rows, forward) for each in mine]
    size = sum(_size(each, architecture.parameters) for each in mine)
    flops, seconds = (sum(each[place] for each in costs) for place in (0, 1))
    return Part(f"train {group.label}", len(mine), flops, seconds, size)


def _cost(checkpoint: PlannedCheckpoint, task: str, rows: TrainingRows, forward: float) -> tuple[float, float]:
    """Operations of all trials of a checkpoint, and seconds beside them."""
    entry, settings = under_protocol(checkpoint.variant.method, task, checkpoint.settings)
    method = entry.definition
    trials = len(method.learning_rates)
    trained = len(rows.train) * (2 if checkpoint.variant.defence.recipe else 1)  # each row once more, changed
    steps = settings.steps(trained)
    epochs = math.ceil(steps * settings.batch_size / trained)
    plain_steps = steps * (FREELB_PASS * settings.adversarial.steps if settings.adversarial else 1)
    passes = PEFT_PASSES if method.is_peft else FULL_PASSES
    texts = passes * plain_steps * settings.batch_size + epochs * len(rows.selecting)
    return trials * texts * forward, trials * (TRIAL_SECONDS + STEP_SECONDS * plain_steps)


def _size(checkpoint: PlannedCheckpoint, parameters: float) -> float:
    """Bytes of a checkpoint: a full one whole; an adapter's are few. Once more where an epoch is matched."""
    saved = parameters / 100 if checkpoint.is_peft else parameters
    return (2 if checkpoint.settings.match == "clean" else 1) * (TOKENIZER_BYTES + FLOAT_BYTES * saved)


def _stand_in(design: Design, group: Group, folder: Path) -> Path:
    """The base under a group's labels, in place of its checkpoints: links to the base's files, and a config."""
    made = folder / group.label
    if not made.is_dir():
        made.mkdir()
        for file in design.base.iterdir():
            if file.is_file() and file.name != CONFIG:
                (made / file.name).symlink_to(file.resolve())
        config = json.loads((design.base / CONFIG).read_text(encoding="utf-8"))
        if group.task.labels:
            names = {str(index): label for index, label in enumerate(group.task.labels)}
            config |= {"id2label": names, "label2id": {label: int(index) for index, label in names.items()}}
        (made / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    return made


def _draft(design: Design, run: PlannedRun, rows: TrainingRows, device: str, folder: Path) -> Draft:
    """The plan of a run with the base in place of its checkpoints, and without the rows that will select them."""
    arm = str(_stand_in(design, run.group, folder))
    pair = Pair("pair", run.group.task, str(design.base), arm, arm, "full", "peft", None)
    plan = make_plan(
        PlanSettings(
            suite=run.reference,
            pairs=pair,
            data=design.data,
            limit=design.definition.limit,
            seed=design.definition.seed,
            device=device,
        )
    )
    selected = {run.group.task.name: frozenset({rows.dev_digest})}
    admission = admit(plan)
    return Draft(admission, selected, use_rows(admission.plan, selected))


def _run_part(run: PlannedRun, draft: Draft, *, is_open: bool) -> Part:
    """The estimate of one pair, times the checkpoints that the run computes anew."""
    if not is_open:
        return Part(f"run {run.name}", 0, 0.0, 0.0, 0.0)
    estimate = Costing(draft).estimate()
    arms = [each for each in run.group.checkpoints if run.matching is Matching.BEST or not each.is_reference]
    share = len(arms) / 2
    outcomes = sum(len(draft.examples[cell.testset]) for cell in draft.plan.cells)
    seconds = START_SECONDS + share * (estimate.engine_seconds + estimate.fixed_seconds - START_SECONDS)
    return Part(f"run {run.name}", 3, share * estimate.flops, seconds, share * outcomes * OUTCOME_BYTES)


def _power(design: Design, drafts: Mapping[str, Draft]) -> Iterator[str]:
    seeds = len(design.definition.seeds)
    said = set()
    for run in design.runs:
        draft = drafts[run.name]
        sets = [plan_set(draft.plan, rows.testset, rows.examples) for rows in draft.rows.values()]
        lines = tuple(describe_power(sets, seeds))
        if run.matching is Matching.BEST and (run.suite.name, lines) not in said:
            said.add((run.suite.name, lines))
            yield f"suite {run.suite.name} on {run.group.label}:"
            yield from lines


def _trends(design: Design, drafts: Mapping[str, Draft]) -> Iterator[str]:
    """The slopes over a rank, and over rows, that seeds of the assumed spread would show."""
    seeds = len(design.definition.seeds)
    n = max(len(examples) for draft in drafts.values() for examples in draft.examples.values())
    doses: dict[str, list[float]] = {}
    for each in design.variants:
        for key in SHORT.keys() & each.parameters.keys():
            doses.setdefault(f"the {key} of {each.family}", []).append(each.parameters[key])
    for word, values in (*doses.items(), ("training rows", design.definition.rows)):
        if len(set(values)) >= MIN_DOSES and seeds < MIN_SEEDS:
            yield f"a trend over {word} needs {MIN_SEEDS} training seeds; this study has {seeds}"
        elif len(set(values)) >= MIN_DOSES:
            slope = detectable_slope(values, seeds, n)
            yield (
                f"a trend over {word}: about {100 * slope:.1f} points per doubling would be found, over "
                f"{len(set(values))} values and {seeds} seed{'s' if seeds > 1 else ''} on {n:,} examples"
            )


def detectable_slope(values: Sequence[float], seeds: int, n: int) -> float:
    r"""Returns the smallest true slope of an accuracy per doubling that is found with power .80.

    The standard error is $\sigma / \sqrt{S \sum_i (x_i - \bar x)^2}$, x in binary logarithms. The variance of one
    accuracy is that between seeds and a binomial one at a half.

    >>> round(detectable_slope([1, 2, 4, 8, 16, 32, 64], seeds=3, n=1000), 4)
    0.0057
    """
    doses = [math.log2(value) for value in values]
    mean = sum(doses) / len(doses)
    spread = sum((dose - mean) ** 2 for dose in doses)
    return POWER_SUM * math.sqrt((SEED_SD**2 + 0.25 / n) / (seeds * spread))


def _assumptions(out: Path, design: Design) -> Iterator[str]:
    yield (
        f"hours of training: {FULL_PASSES:g} forward passes a row for full fine-tuning, {PEFT_PASSES:g} for an "
        f"adapter, {STEP_SECONDS:g} s a step and {TRIAL_SECONDS:g} s a learning rate beside them; assumed"
    )
    if any(each.defence.is_adversarial for each in design.variants):
        yield f"a pass of FreeLB: {FREELB_PASS:g} of a plain step, so three take {3 * FREELB_PASS:.1f} steps; assumed"
    if any(each.defence.recipe for each in design.variants):
        yield "rows that a recipe adds: as many as it is given, the most there can be; assumed"
    if design.definition.match == "clean":
        yield "matched runs take over what the unmatched ones have of the same checkpoints"
    started = [run for run in design.runs if run_folder(out, run).is_dir()]
    if started:
        yield f"{len(started)} of {len(design.runs)} run folders are started; what they hold is not computed again"
