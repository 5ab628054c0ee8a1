"""The public calls: what a command of the command line does, as one function."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from robustness.definitions.tasks import find_task, is_task_file
from robustness.errors import UsageError
from robustness.paths import DATA_VARIABLE, expand, find_data
from robustness.reports.choices import choose_format, choose_statistics
from robustness.reports.report import Report, write_report
from robustness.reports.run_comparison import RunComparison, read_comparison
from robustness.reports.tables.export import export_tables
from robustness.runs.execution import LOCAL, Execution
from robustness.runs.progress import ProgressCallback
from robustness.runs.storage.disk import explain_failed_writes
from robustness.training.demo_base import find_demo_base

if TYPE_CHECKING:
    from robustness.definitions.pairs import Pair
    from robustness.doctor import Diagnosis
    from robustness.recipes.assets.registry import Asset
    from robustness.runs.planning.cost import Estimate, Rate
    from robustness.runs.planning.plan import Plan
    from robustness.runs.planning.rows import Draft
    from robustness.runs.verification import Verification

DEMO_ROWS = 400
"""Training rows of the demo: enough to learn the task, few enough for minutes on two cores."""
MessageCallback = Callable[[str], None]


def plan(
    suite: str,
    pairs: str | Path | None = None,
    *,
    reference: str | Path | None = None,
    candidate: str | Path | None = None,
    task: str | None = None,
    base: str | Path | None = None,
    labels: Mapping[str, str] | None = None,
    data: str | Path | None = None,
    testsets: Sequence[str] = (),
    attacks: Sequence[str | object] = (),
    probes: Sequence[str | object] = (),
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    allow_untrained: bool = False,
    allow_changed: bool = False,
    compile: bool = False,
    cache: str | Path | None = None,
    attack_fields: Sequence[str] = (),
) -> Plan:
    """Returns what `run` would do, loading no model and no data.

    Args:
        suite: a shipped suite's name or a suite file.
        pairs: a pairs.toml; or None, and the next three.
        reference: folder or hub id of one checkpoint.
        candidate: folder or hub id of the other.
        task: what both are fine-tuned for.
        base: what both were made of; None: as an adapter among them names it.
        labels: label names in the checkpoints' configs, with the task's.
        data: folder with local data files; default: the variable ROBUSTNESS_DATA, else the hub.
        testsets: replace the suite's own list.
        attacks: replace the suite's own list: names, recipe files, `file.py:Name`, attack classes or instances.
        probes: replace the suite's own list: names, definition files, `file.py:Name`, probe classes or instances.
        limit: at most so many examples of each test set, drawn by the seed: labels in proportion, groups whole.
        seed: of all searches, and of which examples are drawn.
        device: auto, cpu, cuda or cuda:N.
        dtype: float32, bfloat16 or auto, which is float32: what arms are compared in exactly.
        allow_untrained: let a base that has not learnt the task be an arm; the page says so.
        allow_changed: evaluate test sets whose rows are not the published ones; tables then say `changed`.
        compile: have torch.compile make the kernels that score; a model it cannot compile is used as it is.
        cache: folder of scores that later runs, and other attacks of this one, need not compute again.
        attack_fields: fields that are open to attack in place of the tasks' own.

    Raises:
        RobustnessError: an unknown name, a malformed file or a value out of range.
    """
    from robustness.runs.planning.plan import RunSettings, make_plan  # brings the recipes, which a report needs not

    settings = RunSettings(
        suite=expand(suite),
        pairs=_choose_pairs(pairs, reference, candidate, task, base, labels),
        data=find_data(data),
        testsets=tuple(map(expand, testsets)),
        attacks=tuple(expand(attack) if isinstance(attack, str) else attack for attack in attacks),
        probes=tuple(expand(probe) if isinstance(probe, str) else probe for probe in probes),
        limit=limit,
        seed=seed,
        device=device,
        dtype="float32" if dtype == "auto" else dtype,
        allow_untrained=allow_untrained,
        allow_changed=allow_changed,
        compile=compile,
        cache=None if cache is None else Path(expand(cache)),
        attack_fields=tuple(attack_fields),
    )
    return make_plan(settings)


def run(
    suite: str | Plan,
    pairs: str | Path | None = None,
    out: str | Path = "run",
    *,
    on_progress: ProgressCallback | None = None,
    executor: str = LOCAL,
    workers: int | None = None,
    ray_address: str | None = None,
    **options: object,
) -> Report:
    """Runs a suite on pairs, or finishes a run that was interrupted, and writes its tables into `out`.

    Takes the options of `plan`, or a plan made before.

    Args:
        suite: as in `plan`, or what `plan` returned.
        pairs: as in `plan`.
        out: the run folder.
        on_progress: called with what runs and how much is done.
        executor: local, or ray; outcomes do not depend on it.
        workers: processes to share the work; None: none but this one or, with ray, one a GPU or node.
        ray_address: HOST:PORT of a Ray cluster, or auto; None starts Ray on this machine.
        options: as in `plan`.

    Raises:
        RobustnessError: bad input, a pair the gate refuses, a folder that holds another run, or workers that cannot
            be had.
    """
    execution = Execution(executor, workers, ray_address)
    from robustness.runs.planning.plan import Plan
    from robustness.runs.run import execute  # brings torch, which nothing else here needs

    made = suite if isinstance(suite, Plan) else plan(suite, pairs, **options)  # type: ignore[arg-type]
    folder = Path(expand(out))
    execute(made, folder, on_progress, execution)
    return report(folder)


def _choose_pairs(
    pairs: str | Path | None,
    reference: str | Path | None,
    candidate: str | Path | None,
    task: str | None,
    base: str | Path | None,
    labels: Mapping[str, str] | None,
) -> Path | Pair:
    """The pairs file, or the pair of the arms that are given."""
    given = {"reference": reference, "candidate": candidate, "task": task}
    named = [name for name, value in {**given, "base": base, "labels": labels}.items() if value]
    if pairs:
        if named:
            raise UsageError(f"--pairs {pairs}: stands in place of --{named[0]}; give one of the two")
        return Path(expand(pairs))
    missing = [f"--{name}" for name, value in given.items() if not value]
    if missing or not (reference and candidate and task):
        raise UsageError(
            f"no pairs: give --pairs FILE, or --reference, --candidate and --task (missing: {', '.join(missing)})"
        )
    from robustness.runs.planning.given import make_pair  # brings torch

    return make_pair(
        str(reference), str(candidate), task=task, base=None if base is None else str(base), labels=labels
    )


def draft(plan: Plan) -> Draft:
    """Reads a plan's test sets and checkpoint configs, for `estimate` and `foresee`; loads no weights.

    Raises:
        RobustnessError: a test set that cannot be read, or no pair whose checkpoints can be.
    """
    from robustness.runs.planning.rows import read_draft  # brings torch

    return read_draft(plan)


def estimate(
    plan: Plan | Draft, *, pilot: str | Path | None = None, teraflops: float | None = None
) -> tuple[Estimate, Rate]:
    """Returns what a plan will ask of its checkpoints, and the rate of this machine; loads no weights.

    Args:
        plan: what is to run, or its draft.
        pilot: a run folder whose counts stand for those of this plan, such as one of a few examples.
        teraflops: the rate, in 10^12 operations a second; None: timed for two seconds.

    Raises:
        RobustnessError: a test set or a checkpoint that cannot be read, a pilot that is none, or a rate of 0 or less.
    """
    from robustness.runs.planning.cost import Costing, given_rate  # brings torch
    from robustness.runs.planning.rows import Draft

    rate = None if teraflops is None else given_rate(teraflops)
    read = plan if isinstance(plan, Draft) else draft(plan)
    costing = Costing(read, None if pilot is None else Path(expand(pilot)))
    return costing.estimate(), rate or costing.measure()


def foresee(plan: Plan | Draft, *, pilot: str | Path | None = None) -> tuple[str, ...]:
    """Returns lines that say which gaps a plan can find; of a `pilot`, a run folder, discordant examples are counted.

    Raises:
        RobustnessError: a test set that cannot be read, or a pilot that is none.
    """
    from robustness.runs.planning.foresight import foresee as foresee_draft
    from robustness.runs.planning.rows import Draft

    read = plan if isinstance(plan, Draft) else draft(plan)
    return tuple(foresee_draft(read, None if pilot is None else Path(expand(pilot))))


def verify(folder: str | Path, *, sample: int = 100, seed: int = 0, device: str = "auto") -> Verification:
    """Judges a random sample of a run's stored texts again with its checkpoints; says where the two disagree.

    Raises:
        RobustnessError: a folder that is no run, a sample below 1, or a checkpoint that cannot be loaded.
    """
    from robustness.runs.verification import verify as judge_again  # brings torch

    return judge_again(Path(expand(folder)), sample=sample, seed=seed, device=device)


def report(
    folder: str | Path,
    *,
    form: str = "csv",
    correction: str | None = None,
    margin: float | None = None,
    mcnemar: str | None = None,
) -> Report:
    """Writes the tables and the page of a run folder again, from its stored rows.

    Args:
        folder: of the run.
        form: csv, or beside it parquet, latex or markdown.
        correction: holm or benjamini-hochberg; None keeps what run.json says, as for the next two.
        margin: the largest difference that does not matter, a fraction.
        mcnemar: exact or mid-p.

    Raises:
        RobustnessError: the folder is not a run, or a value out of range.
    """
    chosen = choose_format(form)
    path = Path(expand(folder))
    given = {"correction": correction, "margin": margin, "mcnemar": mcnemar}
    with explain_failed_writes(path):
        made = write_report(path, choose_statistics(path, {k: v for k, v in given.items() if v is not None}))
        export_tables(made.tables, path, chosen)
    return made


def compare(first: str | Path, second: str | Path) -> RunComparison:
    """Compares two run folders cell by cell, with paired statistics on the examples both have.

    Raises:
        RunError: a folder is not a run, or the two share no cell.
    """
    return read_comparison(Path(expand(first)), Path(expand(second)))


def doctor(data: str | Path | None = None) -> list[Diagnosis]:
    """Returns for every attack and test set whether it is ready, or what is missing; downloads nothing."""
    from robustness.doctor import diagnose

    return list(diagnose(find_data(data)))


def list_assets(data: str | Path | None = None) -> list[tuple[Asset, Path | None]]:
    """Returns every asset that recipes read, with where it lies, or None."""
    from robustness.recipes.assets.pretrained import locate
    from robustness.recipes.assets.registry import ASSETS
    from robustness.recipes.assets.resources import Resources

    resources = Resources.of(find_data(data))
    return [(asset, locate(asset, resources)) for asset in ASSETS.values()]


def get_assets(
    names: Sequence[str], *, data: str | Path | None = None, on_message: MessageCallback | None = None
) -> list[Path]:
    """Downloads assets into the data folder, which is made where it is not there; returns their paths.

    Raises:
        UsageError: no data folder is named, or no such asset.
        DataError: one could not be had or is not the published file; those before it are kept.
    """
    from robustness.recipes.assets.downloading import get_asset

    given = data if data is not None else os.environ.get(DATA_VARIABLE)
    if not given:
        raise UsageError(f"assets get: no folder to put them in; give --data DIR or set {DATA_VARIABLE}")
    return [get_asset(name, Path(expand(given)), on_message or (lambda _: None)) for name in names]


def check(attack: str | object, *, seed: int = 0) -> str:
    """Runs the conformance suite on one's own attack, or task; returns the name it would have in tables.

    Args:
        attack: as `plan` takes it, or the path of a task's file.
        seed: of an attack's searches.

    Raises:
        RobustnessError: it cannot be found, or the first rule that it breaks.
    """
    from robustness.recipes.building import find_attack, name_attack
    from robustness.testing import check_attack, check_task

    if isinstance(attack, str) and is_task_file(expand(attack)):
        task = find_task(expand(attack))
        check_task(task)
        return task.name
    named = find_attack(expand(attack)) if isinstance(attack, str) else name_attack(attack)
    check_attack(named, seed=seed)
    return named.name


def train(
    testset: str,
    *,
    base: str,
    methods: Sequence[str],
    seeds: Sequence[int] = (0,),
    out: str | Path,
    data: str | Path | None = None,
    limit: int | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    grid: str = "shipped",
    accumulation: int = 1,
    bf16: bool = False,
    protocol: str = "equal",
    match: str = "none",
    device: str = "auto",
    on_message: MessageCallback | None = None,
) -> Path:
    """Trains checkpoints by one protocol for all methods; returns the path of the pairs.toml it wrote.

    Args:
        testset: a clean test set with a training split: sst2, qqp, mnli, qnli, rte, squad, demo-sentiment or a path.
        base: folder or hub id of the pretrained model.
        methods: `full` and at least one PEFT method.
        seeds: training seeds; a pair for each.
        out: folder for the checkpoints.
        data: as in `plan`.
        limit: at most so many training rows.
        epochs: passes over the rows; None for the default.
        steps: optimiser steps, in place of epochs.
        grid: `wide` tries two learning rates more for every method, one beyond either end.
        accumulation: parts in which a batch of 16 is run.
        bf16: matrix products in bfloat16; weights and optimiser stay in float32.
        protocol: `equal` for all methods, or `paper`: each method as arXiv 2505.22355 trained it.
        match: `clean` takes, for each pair, the epochs at which its arms are closest in clean accuracy.
        device: auto, cpu, cuda or cuda:N.
        on_message: called with one line after every epoch.

    Raises:
        RobustnessError: an unknown name, a value out of range, missing data, or a folder with other checkpoints.
    """
    from robustness.training.protocol import TrainingSettings
    from robustness.training.training import train as train_checkpoints

    settings = TrainingSettings(
        protocol=protocol,  # type: ignore[arg-type]  # it refuses other words
        match=match,  # type: ignore[arg-type]
        grid=grid,  # type: ignore[arg-type]
        max_steps=steps,
        accumulation=accumulation,
        bf16=bf16,
    )
    settings = settings if epochs is None else replace(settings, epochs=epochs)
    return train_checkpoints(
        expand(testset),
        base=expand(base),
        methods=tuple(map(expand, methods)),
        seeds=seeds,
        out=Path(expand(out)),
        data=find_data(data),
        limit=limit,
        settings=settings,
        device=device,
        progress=on_message,
    )


def generate(
    testset: str,
    out: str | Path,
    *,
    against: str | None = None,
    data: str | Path | None = None,
    limit: int | None = None,
    device: str = "auto",
) -> int:
    """Writes a generated test set in SQuAD's format; returns its number of rows. Started again, it goes on.

    Args:
        testset: advsquad-addany, advsquad-addanyextend, advsquad-addansctx or advsquad-addnegans.
        out: the file.
        against: the checkpoint that the first two search against: a folder or a hub id.
        data: as in `plan`.
        limit: at most so many questions, those that a run of seed 0 draws.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        RobustnessError: an unknown name, missing data, a checkpoint that cannot be loaded, or a file that is there.
    """
    from robustness.runs.generation import generate as generate_set  # brings torch

    return generate_set(
        expand(testset),
        against=None if against is None else expand(against),
        data=find_data(data),
        out=Path(expand(out)),
        limit=limit,
        device=device,
    )


def demo(
    out: str | Path, *, on_message: MessageCallback | None = None, on_progress: ProgressCallback | None = None
) -> Report:
    """Trains a full and a LoRA checkpoint on the packaged sentences, attacks both and reports; needs no network.

    Raises:
        RobustnessError: the package with the demo's base model is not installed, or `out` holds something else.
    """
    folder = Path(expand(out))
    pairs = train(
        "demo-sentiment",
        base=str(find_demo_base()),
        methods=("full", "lora"),
        out=folder / "checkpoints",
        limit=DEMO_ROWS,
        on_message=on_message,
    )
    return run(plan("demo", pairs), out=folder / "run", on_progress=on_progress)
