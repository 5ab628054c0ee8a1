"""The public calls: what a command of the command line does, as one function."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from robustness.definitions.tasks import find_task, is_task_file
from robustness.errors import UsageError, shorten
from robustness.options import PathLike, ReportOptions, RunChoices, RunOptions, TrainOptions, read_options
from robustness.paths import DATA_VARIABLE, expand, find_data
from robustness.reports.choices import choose_format, choose_statistics
from robustness.reports.report import Report, build_report, write_report
from robustness.reports.run_comparison import RunComparison, read_comparison
from robustness.reports.tables.columns import Table
from robustness.reports.tables.export import Format, export_tables
from robustness.reports.tables.paper import export_paper
from robustness.runs.execution import Execution
from robustness.runs.progress import ProgressCallback
from robustness.runs.staging import holds_objects, staged
from robustness.runs.storage.disk import explain_failed_writes
from robustness.training.demo import train_demo, train_text_demo

if TYPE_CHECKING:
    from robustness.doctor import Diagnosis
    from robustness.recipes.assets.registry import Asset
    from robustness.runs.planning.cost import Estimate, Rate
    from robustness.runs.planning.plan import Plan
    from robustness.runs.planning.rows import Draft
    from robustness.runs.verification import Verification

MessageCallback = Callable[[str], None]


def plan(suite: PathLike, pairs: PathLike | None = None, **options: object) -> Plan:
    """Returns what `run` would do, loading no model and no data.

    Args:
        suite: a shipped suite's name or a suite file.
        pairs: a pairs.toml; without it, the options `reference`, `candidate` and `task`.
        options: of `robustness.options.RunOptions`, but for objects, which `run` writes into its folder.

    Raises:
        RobustnessError: an unknown name, a malformed file or a value out of range.
    """
    given = read_options(RunOptions, "plan", {"suite": suite, "pairs": pairs, **options})
    if holds_objects(given):
        raise UsageError("plan: takes folders and names; give objects to run, which writes them into its folder")
    return _make_plan(given)


def _make_plan(options: RunOptions) -> Plan:
    from robustness.runs.planning.given import choose_pairs
    from robustness.runs.planning.plan import RunSettings, make_plan  # brings the recipes, which a report needs not

    chosen = {name: getattr(options, name) for name in RunChoices.model_fields}
    data = find_data(options.data if isinstance(options.data, PathLike) else None)
    return make_plan(RunSettings(pairs=choose_pairs(options), data=data, **chosen))


def run(
    suite: PathLike | Plan,
    pairs: PathLike | None = None,
    out: PathLike = "run",
    *,
    on_progress: ProgressCallback | None = None,
    execution: Execution | None = None,
    **options: object,
) -> Report:
    """Runs a suite on pairs, or finishes a run that was interrupted, and writes its tables into `out`.

    Takes the options of `plan`, or a plan made before. Checkpoints may be (model, tokenizer), and `data` rows: they
    are written into `out` as the libraries save them, so that the run can be resumed and verified.

    Args:
        suite: as in `plan`, or what `plan` returned.
        pairs: as in `plan`.
        out: the run folder.
        on_progress: called with what runs and how much is done.
        execution: executor and workers; None: this process. Outcomes do not depend on it.
        options: of `robustness.options.RunOptions`.

    Raises:
        RobustnessError: bad input, a pair the gate refuses, a folder that holds another run, or workers that cannot
            be had.
    """
    folder = _folder("run", "out", out)
    if on_progress is not None and not callable(on_progress):
        raise UsageError(f"run: on_progress: expected something to call; got {shorten(repr(on_progress))}")
    from robustness.runs.planning.plan import Plan
    from robustness.runs.run import execute  # brings torch, which nothing else here needs

    if isinstance(suite, Plan):
        if pairs is not None or options:
            given = next(iter(options), "pairs")
            raise UsageError(f"run: {given} is an option of the plan, which is made already; give it to plan")
        execute(suite, folder, on_progress, execution)
        return report(folder)
    wanted = read_options(RunOptions, "run", {"suite": suite, "pairs": pairs, **options})
    with staged(wanted, folder) if holds_objects(wanted) else nullcontext(wanted) as written:
        execute(_make_plan(written), folder, on_progress, execution)
    return report(folder)


def _folder(call: str, name: str, given: object) -> Path:
    if not isinstance(given, PathLike):
        raise UsageError(f"{call}: {name}: expected a path; got {shorten(repr(given))}")
    return Path(expand(given))


def load(folder: PathLike) -> Report:
    """Returns the tables of a run folder, built from its stored rows; writes nothing.

    Raises:
        RunError: the folder is not a run, or its store cannot be read.
    """
    return build_report(_folder("load", "folder", folder)).report


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


def report(folder: PathLike, **options: object) -> Report:
    """Writes the tables and the page of a run folder again, from its stored rows.

    Args:
        folder: of the run.
        options: of `robustness.options.ReportOptions`.

    Raises:
        RobustnessError: the folder is not a run, or a value out of range.
    """
    given = read_options(ReportOptions, "report", options)
    chosen = choose_format(given.form)
    path = _folder("report", "folder", folder)
    statistics = choose_statistics(path, given.model_dump(exclude={"form"}, exclude_none=True))
    with explain_failed_writes(path):
        made = write_report(path, statistics)
        if chosen is Format.PAPER:
            export_paper(made.tables[Table.PAIRS], made.record, path)
        else:
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


def check(attack: str | object, *, seed: int = 0, data: PathLike | None = None) -> str:
    """Runs the conformance suite on one's own attack, or task; returns the name it would have in tables.

    Of a test set's file its rows are read too, and gold texts must be right by their own parser and metric.

    Args:
        attack: as `plan` takes it, or the path of a task's file, or of a test set's.
        seed: of an attack's searches.
        data: folder with a test set's local files; None: ROBUSTNESS_DATA.

    Raises:
        RobustnessError: it cannot be found, or the first rule that it breaks.
    """
    from robustness.recipes.building import find_attack, name_attack
    from robustness.testing import check_attack, check_rows, check_task

    if isinstance(attack, str) and is_task_file(expand(attack)):
        task = find_task(expand(attack))
        check_task(task)
        check_rows(expand(attack), find_data(data))
        return task.name
    named = find_attack(expand(attack)) if isinstance(attack, str) else name_attack(attack)
    check_attack(named, seed=seed)
    return named.name


def train(testset: PathLike, *, on_message: MessageCallback | None = None, **options: object) -> Path:
    """Trains checkpoints by one protocol for all methods; returns the path of the pairs.toml it wrote.

    Args:
        testset: a clean test set with a training split: sst2, qqp, mnli, qnli, rte, squad, viggo, gsm8k or a path.
        on_message: called with one line after every epoch.
        options: of `robustness.options.TrainOptions`.

    Raises:
        RobustnessError: an unknown name, a value out of range, missing data, or a folder with other checkpoints.
    """
    given = read_options(TrainOptions, "train", {"testset": testset, **options})
    from robustness.training.protocol import TrainingSettings
    from robustness.training.training import train as train_checkpoints

    settings = TrainingSettings(
        protocol=given.protocol,  # type: ignore[arg-type]  # it refuses other words
        match=given.match,  # type: ignore[arg-type]
        grid=given.grid,  # type: ignore[arg-type]
        targets=given.targets,  # type: ignore[arg-type]
        dev_limit=given.dev_limit,
        max_steps=given.steps,
        accumulation=given.accumulation,
        checkpointing=given.checkpointing,
        bf16=given.bf16,
    )
    settings = settings if given.epochs is None else replace(settings, epochs=given.epochs)
    return train_checkpoints(
        expand(given.testset),
        base=expand(given.base),
        methods=tuple(map(expand, given.methods)),
        seeds=given.seeds,
        out=Path(expand(given.out)),
        data=find_data(given.data),
        limit=given.limit,
        settings=settings,
        device=given.device,
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
    """Writes a generated test set; returns its number of rows. Started again, it goes on.

    Questions are written in SQuAD's format, sentences as JSON lines beside what they were made of.

    Args:
        testset: advsquad-addany, advsquad-addanyextend, advsquad-addansctx, advsquad-addnegans, viggo-edited or
            viggo-counterfactual; or the path of a definition of one's own, with another seed perhaps.
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
    out: PathLike,
    *,
    text: bool = False,
    data: PathLike | None = None,
    on_message: MessageCallback | None = None,
    on_progress: ProgressCallback | None = None,
) -> Report:
    """Trains a full and a LoRA checkpoint, attacks both and reports; needs no network.

    Args:
        out: folder for checkpoints and run.
        text: a language model that writes meaning representations, in place of an encoder that tells moods.
        data: of `text`, the folder with ViGGO; None: ROBUSTNESS_DATA.
        on_message: called with one line after every epoch.
        on_progress: called with what runs and how much is done.

    Raises:
        RobustnessError: the package with the demo's base model is not installed, its data are missing, or `out` holds
            something else.
    """
    folder = _folder("demo", "out", out)
    if not text:
        return run(plan("demo", train_demo(folder, on_message)), out=folder / "run", on_progress=on_progress)
    pairs = train_text_demo(folder, find_data(data), on_message)
    return run(plan("demo-text", pairs, data=data), out=folder / "run", on_progress=on_progress)
