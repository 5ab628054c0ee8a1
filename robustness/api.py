"""The public calls: what a command of the command line does, as one function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from robustness.definitions.tasks import find_task, is_task_file
from robustness.errors import UsageError, shorten
from robustness.options import CheckpointPair, PathLike, RunSettings, TrainSettings
from robustness.paths import expand, find_data
from robustness.progress import Progress, ProgressCallback
from robustness.reports.choices import choose_format, choose_statistics
from robustness.reports.report import Report, build_report, write_report
from robustness.reports.run_comparison import RunComparison, read_comparison
from robustness.reports.tables.columns import Table
from robustness.reports.tables.export import Format, export_tables
from robustness.reports.tables.paper import export_paper
from robustness.runs.staging import holds_objects, staged
from robustness.runs.storage.disk import explain_failed_writes
from robustness.study_call import study as study
from robustness.training.demo import train_demo, train_text_demo
from robustness.workers.execution import Execution

if TYPE_CHECKING:
    from robustness.runs.planning.plan import Plan
    from robustness.runs.verification import Verification

MessageCallback = Callable[[str], None]


def plan(suite: PathLike, pairs: PathLike | CheckpointPair, settings: RunSettings | None = None) -> Plan:
    """Returns what `run` would do, loading no model and no data.

    Args:
        suite: a shipped suite's name or a suite file.
        pairs: a pairs.toml, or two checkpoints as `CheckpointPair` of folders or hub ids.
        settings: None for the suite's own. Rows in memory are for `run`, which writes them into its folder.

    Raises:
        RobustnessError: an unknown name, a malformed file or a value out of range.
    """
    chosen = _check("plan", suite, pairs, settings)
    if holds_objects(pairs, chosen):
        raise UsageError("plan: takes folders and names; give objects to run, which writes them into its folder")
    return _make_plan(suite, pairs, chosen)


def _check(call: str, suite: PathLike, pairs: PathLike | CheckpointPair, settings: RunSettings | None) -> RunSettings:
    """Returns the settings; refuses what is of another type, which no type checker saw."""
    _name(call, "suite", suite)
    if not isinstance(pairs, PathLike | CheckpointPair):
        raise UsageError(
            f"{call}: pairs: expected the path of a pairs.toml, or CheckpointPair; got {shorten(repr(pairs))}"
        )
    if settings is not None and not isinstance(settings, RunSettings):
        raise UsageError(f"{call}: settings: expected RunSettings; got {shorten(repr(settings))}")
    return settings or RunSettings()


def _make_plan(suite: PathLike, pairs: PathLike | CheckpointPair, settings: RunSettings) -> Plan:
    from robustness.runs.planning.given import choose_pairs
    from robustness.runs.planning.plan import PlanSettings, make_plan  # brings the recipes, which a report needs not

    chosen = {name: getattr(settings, name) for name in RunSettings.model_fields}
    chosen["data"] = find_data(settings.data if isinstance(settings.data, PathLike) else None)
    return make_plan(PlanSettings(suite=expand(suite), pairs=choose_pairs(pairs), **chosen))


def run(
    suite: PathLike,
    pairs: PathLike | CheckpointPair,
    out: PathLike,
    settings: RunSettings | None = None,
    *,
    on_progress: ProgressCallback | None = None,
    execution: Execution | None = None,
) -> Report:
    """Runs a suite on pairs of checkpoints, and writes tables and page into `out`.

    The same call resumes an interrupted run. Models, tokenizers and rows in memory are written into `out/given` as
    their libraries save them, so that the run can be resumed and verified.

    Args:
        suite: a shipped suite's name, such as attacks-quick, or a suite file.
        pairs: a pairs.toml, or two checkpoints as `CheckpointPair`.
        out: the run folder.
        settings: replace the suite's own attacks, test sets and the like; None for the unchanged suite.
        on_progress: called with what runs and how much is done.
        execution: executor and workers; None: this process. Outcomes do not depend on it.

    Returns:
        The tables of the run, and its verdict.

    Raises:
        RobustnessError: bad input, a pair that cannot be compared, a folder that holds another run, or workers that
            cannot be started.

    Example:
        ```python
        settings = robustness.RunSettings(attacks=["deepwordbug"], limit=20)
        report = robustness.run("attacks-quick", "ck/pairs.toml", "runs/quick", settings)
        print(report.verdict)
        ```
    """
    chosen = _check("run", suite, pairs, settings)
    folder = _folder("run", "out", out)
    _refuse_uncallable("run", on_progress)
    from robustness.runs.run import execute as execute_plan  # imports torch, which nothing else here needs

    given = (pairs, chosen)
    with staged(*given, folder) if holds_objects(*given) else nullcontext(given) as written:
        execute_plan(_make_plan(suite, *written), folder, on_progress, execution)
    return report(folder)


def execute(
    plan: Plan,
    out: PathLike,
    *,
    on_progress: ProgressCallback | None = None,
    execution: Execution | None = None,
) -> Report:
    """Does what a plan says; otherwise as `run`."""
    folder = _folder("execute", "out", out)
    _refuse_uncallable("execute", on_progress)
    from robustness.runs.run import execute as execute_plan

    execute_plan(plan, folder, on_progress, execution)
    return report(folder)


def _refuse_uncallable(call: str, on_progress: object) -> None:
    if on_progress is not None and not callable(on_progress):
        raise UsageError(f"{call}: on_progress: expected something to call; got {shorten(repr(on_progress))}")


def _name(call: str, name: str, given: object) -> str:
    if not isinstance(given, PathLike):
        raise UsageError(f"{call}: {name}: expected a name or a path; got {shorten(repr(given))}")
    return expand(given)


def _folder(call: str, name: str, given: object) -> Path:
    if not isinstance(given, PathLike):
        raise UsageError(f"{call}: {name}: expected a path; got {shorten(repr(given))}")
    return Path(expand(given))


def load(folder: PathLike) -> Report:
    """Returns the report of a run folder, built from its stored rows; writes nothing.

    An interrupted run is read as far as it went: `Report.missing` counts the outcomes that it lacks.

    Args:
        folder: of the run.

    Raises:
        RunError: the folder is not a run, or its store cannot be read.

    Example:
        ```python
        report = robustness.load("runs/quick")
        robust = report.attacks.set_index(["checkpoint", "attack"])["robust_accuracy"]
        ```
    """
    return build_report(_folder("load", "folder", folder)).report


def verify(
    folder: str | Path,
    *,
    sample: int = 100,
    seed: int = 0,
    device: str = "auto",
    on_progress: ProgressCallback | None = None,
) -> Verification:
    """Judges a random sample of a run's stored texts again with its checkpoints; says where the two disagree.

    `on_progress` is called before each checkpoint with the number of texts judged.

    Raises:
        RobustnessError: a folder that is no run, a sample below 1, or a checkpoint that cannot be loaded.
    """
    from robustness.runs.verification import verify as judge_again  # imports torch

    return judge_again(Path(expand(folder)), sample=sample, seed=seed, device=device, on_progress=on_progress)


def report(
    folder: PathLike,
    *,
    form: str = "csv",
    correction: str | None = None,
    margin: float | None = None,
    mcnemar: str | None = None,
    model_card: bool = False,
) -> Report:
    """Writes the tables and the page of a run folder again, from its stored rows.

    Args:
        folder: of the run.
        form: csv, or beside it parquet, latex, markdown or paper.
        correction: holm or benjamini-hochberg; None keeps what run.json says, as for the next two.
        margin: the largest difference that does not matter, a fraction such as 0.02.
        mcnemar: exact or mid-p.
        model_card: also write `model-card-NAME.md` for each checkpoint.

    Raises:
        RobustnessError: the folder is not a run, or a value out of range.
    """
    chosen = choose_format(form)
    path = _folder("report", "folder", folder)
    given: dict[str, object] = {"correction": correction, "margin": margin, "mcnemar": mcnemar}
    statistics = choose_statistics(path, {name: value for name, value in given.items() if value is not None})
    with explain_failed_writes(path):
        made = write_report(path, statistics)
        if chosen is Format.PAPER:
            export_paper(made.tables[Table.PAIRS], made.record, path)
        else:
            export_tables(made.tables, path, chosen)
        if model_card:
            from robustness.reports.model_card import write_model_cards  # brings the hub's library

            write_model_cards(path, made.record, made.tables)
    return made


def compare(first: str | Path, second: str | Path) -> RunComparison:
    """Compares two run folders cell by cell, with paired statistics on the examples both have.

    Examples of one id whose text or gold differs are left out, and counted in `other_examples`.
    Raises RunError where a folder is not a run, or the two share no cell or no example.
    """
    return read_comparison(Path(expand(first)), Path(expand(second)))


def check(attack: str | object, *, seed: int = 0, data: PathLike | None = None) -> str:
    """Runs the conformance suite on your own attack or task; returns its name in tables.

    The rows of a test set's file are read too, and gold texts must be right by their own parser and metric.

    Args:
        attack: a class, an instance, `file.py:Name`, or the path of a recipe, a task or a test set.
        seed: of an attack's searches.
        data: folder with a test set's local files; None: ROBUSTNESS_DATA.

    Raises:
        RobustnessError: it cannot be found, or the first rule that it breaks.

    Example:
        ```python
        robustness.check("my_attack.py:Swap")  # 'Swap'
        ```
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


def train(
    testset: PathLike,
    base: PathLike,
    methods: Sequence[PathLike],
    out: PathLike,
    settings: TrainSettings | None = None,
    *,
    on_progress: Callable[[str | Progress], None] | None = None,
    execution: Execution | None = None,
) -> Path:
    """Trains checkpoints by one protocol for all methods; returns the path of the pairs.toml it wrote.

    The same call again trains only what is missing.

    Args:
        testset: a clean test set with a training split: sst2, qqp, mnli, qnli, rte, squad, viggo, gsm8k or a path.
        base: folder or hub id of the pretrained model.
        methods: `full` and at least one PEFT method, by name or file. `+freelb` after a name adds adversarial
            training, `+deepwordbug` or another recipe rows that its edits have changed.
        out: folder for the checkpoints and pairs.toml.
        settings: seeds, rows, epochs and the like; None for the defaults.
        on_progress: called with a line after every epoch, and about once a second with how much is done.
        execution: executor and workers; None: this process. Checkpoints do not depend on it.

    Raises:
        RobustnessError: an unknown name, a value out of range, missing data, a folder with other checkpoints, or
            workers that cannot be started. Also a checkpoint that ended by an error, after the others are made.

    Example:
        ```python
        settings = robustness.TrainSettings(seeds=[0, 1, 2], limit=2000)
        pairs = robustness.train("sst2", "roberta-base", ["full", "lora"], "ck", settings)
        report = robustness.run("attacks-quick", pairs, "runs/quick")
        ```
    """
    if isinstance(methods, PathLike) or not isinstance(methods, Sequence):
        raise UsageError(f"train: methods: expected a list; got {shorten(repr(methods))}")
    if settings is not None and not isinstance(settings, TrainSettings):
        raise UsageError(f"train: settings: expected TrainSettings; got {shorten(repr(settings))}")
    chosen = settings or TrainSettings()
    from robustness.recipes.assets.resources import Resources
    from robustness.recipes.augmenting import find_random_edits
    from robustness.training.defences import add_to_each
    from robustness.training.protocol import TrainingSettings
    from robustness.training.training import train as train_checkpoints

    recipes = Resources.of(find_data(chosen.data))
    own = find_random_edits(expand(chosen.augment), recipes) if chosen.augment else None
    given = [_name("train", "methods", method) for method in methods]
    return train_checkpoints(
        _name("train", "testset", testset),
        base=_name("train", "base", base),
        methods=add_to_each(given, adversarial=bool(chosen.adversarial), recipe=own.name if own else None),
        seeds=chosen.seeds,
        out=_folder("train", "out", out),
        data=find_data(chosen.data),
        limit=chosen.limit,
        settings=TrainingSettings.of(chosen, match=chosen.match, adversarial=chosen.adversarial),
        find_rewriting=lambda name: own if own and name == own.name else find_random_edits(name, recipes),
        device=chosen.device,
        execution=execution,
        progress=on_progress,
        on_steps=on_progress,
    )


def generate(
    testset: str,
    out: str | Path,
    *,
    against: str | None = None,
    data: str | Path | None = None,
    limit: int | None = None,
    device: str = "auto",
    on_progress: ProgressCallback | None = None,
) -> int:
    """Writes a generated test set; returns its number of rows. A second call resumes.

    Args:
        testset: a generated set such as advsquad-addany, or the path of your own definition with another seed.
        out: the file; questions are in SQuAD's format, sentences are JSON lines beside what they were made of.
        against: the checkpoint that addany and addanyextend search against: a folder or a hub id.
        data: as in `plan`.
        limit: maximum of questions, the draw of a run with seed 0.
        device: auto, cpu, cuda or cuda:N.
        on_progress: called before a search and after each question with the number of those searched.

    Raises:
        RobustnessError: an unknown name, missing data, a checkpoint that cannot be loaded, or a file that is there.
    """
    from robustness.runs.generation import generate as generate_set  # imports torch

    return generate_set(
        expand(testset),
        against=None if against is None else expand(against),
        data=find_data(data),
        out=Path(expand(out)),
        limit=limit,
        device=device,
        on_progress=on_progress,
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
        return run("demo", train_demo(folder, on_message, on_progress), folder / "run", on_progress=on_progress)
    pairs = train_text_demo(folder, find_data(data), on_message, on_progress)
    return run("demo-text", pairs, folder / "run", RunSettings(data=data), on_progress=on_progress)
