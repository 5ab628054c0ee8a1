"""Trains the checkpoints of pairs: every method on the same rows, with the same choice of learning rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path

from robustness.definitions.catalog import TESTSETS, Entry
from robustness.definitions.pairs import PairEntry, change_pairs, stored_pairs
from robustness.definitions.seeds import refuse_seed
from robustness.errors import CheckpointError, RunError, UsageError
from robustness.paths import refuse_unwritable
from robustness.progress import ProgressCallback
from robustness.tasks.graders import grader_for
from robustness.tasks.task import Task
from robustness.training.adaptation import Base
from robustness.training.adapters import PromptAdapter
from robustness.training.defences import TrainedMethod, find_trained_method
from robustness.training.examples.augmentation import Rewriting, write_augmented
from robustness.training.examples.encoding import FORMS
from robustness.training.examples.loading import load_rows
from robustness.training.examples.rows import TrainingRows
from robustness.training.execution.context import TrainingContext
from robustness.training.execution.meter import Meter
from robustness.training.execution.results import TrainingResult, explain
from robustness.training.job import TrainingJob, checkpoint_name
from robustness.training.jobs import Progress, by_rows, computable, find_device, ignore, train_jobs
from robustness.training.methods import MethodDefinition
from robustness.training.metrics import selection_metric
from robustness.training.pairing import AGAINST, Arm, Pairing, pair_arms
from robustness.training.protocol import TrainingSettings
from robustness.training.quantised import refuse_quantised, refuse_unready
from robustness.training.record import is_complete
from robustness.victims.files.checkpoint import ADAPTER_CONFIG, locate
from robustness.workers.execution import Execution
from robustness.workers.pool import check_workers

PAIRS_FILE = "pairs.toml"


def train(
    testset: str,
    *,
    base: str,
    methods: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    data: Path | None = None,
    limit: int | None = None,
    settings: TrainingSettings | None = None,
    find_rewriting: Callable[[str], Rewriting] | None = None,
    device: str = "auto",
    execution: Execution | None = None,
    progress: Progress | None = None,
    on_steps: ProgressCallback | None = None,
) -> Path:
    """Trains one checkpoint per method and seed into `out` and returns the path of the pairs file.

    Each method tries every learning rate of its grid. The best one by the task's metric on one half of the clean
    development rows is kept (the smaller among equals), at its best epoch (the earlier among equals). The chosen
    checkpoint is scored once on the other half. Calling again resumes: finished checkpoints are not trained again. A
    checkpoint without a finite loss at any learning rate is recorded as failed and left out of the pairs file.
    Existing pairs of other names stay in the pairs file.

    Args:
        testset: a clean test set with a training split, such as sst2 or demo-sentiment.
        base: a folder or a hub id.
        methods: `full` and at least one PEFT method, or a method with and without an addition such as lora+freelb;
            parameters as in `lora:rank=8`.
        seeds: training seeds, 0 or more; one pair per seed and PEFT method.
        out: the folder of checkpoints and pairs.toml.
        data: the folder with official files; None for packaged files and the hub.
        limit: number of training rows, the same for all methods and seeds.
        settings: None for the defaults. `adversarial` holds for methods with +freelb alone.
        find_rewriting: finds what changes rows, by a recipe's name such as in lora+deepwordbug.
        device: auto, cpu or cuda.
        execution: executor and workers; None: this process. Checkpoints do not depend on it.
        progress: called with one line after each epoch.
        on_steps: called about once a second with the steps done and the time left.

    Raises:
        UsageError: an argument is out of range, or no pair would result.
        DefinitionError: an unknown method or test set, or a pairs file in `out` that cannot be read.
        DataError: the rows cannot be read.
        CheckpointError: the base cannot be loaded.
        RunError: `out` has a checkpoint with other settings, or no pair resulted.
    """
    trained = [find_trained_method(name) for name in dict.fromkeys(methods)]
    seeds = tuple(dict.fromkeys(seeds))
    _check_arguments(trained, seeds, limit)
    rewritings = _find_rewritings(trained, find_rewriting)
    say = progress or ignore
    execution, context = execution or Execution(), TrainingContext(find_device(device))
    check_workers(execution, context.device)
    refuse_unwritable(out)
    if packed := [each.method.name for each in trained if each.method.definition.on_four_bit]:
        refuse_unready(", ".join(packed), context.device)
    settings, name = settings or TrainingSettings(), TESTSETS.find(testset).name
    start = _find_base(base, testset)
    rows = load_rows(testset, data, limit, settings.dev_limit, settings.report_limit)
    _refuse_prompts([each.method for each in trained], rows.task)
    files = {each.name: write_augmented(rows, each, out, say) for each in rewritings}
    planned = [
        TrainingJob(
            testset=testset,
            base=start,
            method=each.method,
            seed=seed,
            folder=out / checkpoint_name(name, each.method, settings, seed),
            settings=settings.under(each.defence),
            data=data,
            limit=limit,
            augmented=files.get(each.defence.recipe),
        )
        for seed, each in product(seeds, trained)
    ]
    jobs = by_rows(computable(planned, context.device, say))
    complete = [is_complete(job.folder, context.fingerprint(job)) for job in jobs]
    stored_pairs(out / PAIRS_FILE)  # an unreadable file is refused before hours of training
    if pending := [job for job, there in zip(jobs, complete, strict=True) if not there]:
        context.encoded(jobs[0], max(context.virtual_tokens(job) for job in jobs))
        _try_methods(pending, context, say)
    results = train_jobs(jobs, context, execution, say, Meter(on_steps))
    pairing = Pairing(
        rows.task.file or rows.task.name, start, out, _floor(rows, settings), selection_metric(rows.task), say
    )
    plain = {each.method.name: each.plain for each in trained}
    arms = [
        Arm(
            folder=result.job.folder,
            seed=result.job.seed,
            method=result.job.method.name,
            plain=plain[result.job.method.name],
            is_peft=result.job.method.definition.is_peft,
            selecting_scores=result.selecting_scores,
        )
        for result in results
    ]
    return _write_pairs(results, arms, pairing)


def _find_rewritings(methods: Sequence[TrainedMethod], find: Callable[[str], Rewriting] | None) -> list[Rewriting]:
    recipes = dict.fromkeys(each.defence.recipe for each in methods if each.defence.recipe)
    if recipes and find is None:
        raise UsageError(f"--method: nothing is known that changes rows by {', '.join(recipes)}")
    return [] if find is None else [find(recipe) for recipe in recipes]


def _check_arguments(methods: Sequence[TrainedMethod], seeds: Sequence[int], limit: int | None) -> None:
    kinds = {each.method.definition.is_peft for each in methods}
    names = [each.method.name for each in methods]
    has_twins = any(each.plain in names for each in methods if each.plain != each.method.name)
    if kinds != {True, False} and not has_twins:
        named = ", ".join(names) or "none"
        raise UsageError(f"--method: got {named}; a pair needs --method full and one PEFT method")
    if not seeds:
        raise UsageError("--seed: got none; expected one or more")
    for seed in seeds:
        refuse_seed(seed)
    if limit is not None and limit <= 0:
        raise UsageError(f"--limit {limit}: expected 1 or more training rows, or no --limit for all")


def _find_base(given: str, testset: str) -> Base:
    folder = locate(given, f"train {testset}: --base")
    if (folder / ADAPTER_CONFIG).is_file():
        raise CheckpointError(
            f"--base {given}: holds {ADAPTER_CONFIG}, so it is an adapter; give the base that it was trained on, or "
            "remove that file where the adapter has been merged"
        )
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"--base {given}: {folder} has no config.json; expected a folder that save_pretrained wrote, or a hub id"
        )
    refuse_quantised(folder)
    return Base(folder, str(folder) if Path(given).is_dir() else given)


def _refuse_prompts(methods: Sequence[Entry[MethodDefinition]], task: Task) -> None:
    named = [m.name for m in methods if isinstance(m.definition.adapter, PromptAdapter)]
    reason = FORMS[task.kind].against_prompts
    if named and reason:
        raise UsageError(
            f"--method {', '.join(named)}: learnt vectors before the text are not trained for {task.name}: {reason}; "
            "leave these methods out"
        )


def _try_methods(jobs: Sequence[TrainingJob], context: TrainingContext, say: Progress) -> None:
    """Tries every method before training the first arm, because a failure after hours would leave no pair.

    Raises:
        CheckpointError: the message names the failing methods and the reasons.
    """
    failed: dict[str, list[str]] = {}
    for name, job in {job.method.name: job for job in jobs}.items():
        try:
            context.take_first_step(job, partial(_say_of, name, say))
        except Exception as error:  # transformers, peft and torch raise errors of many classes
            failed.setdefault(explain(error), []).append(name)
    if failed:
        reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in failed.items())
        raise CheckpointError(f"--method: nothing is trained, for a first step failed: {reasons}")


def _say_of(method: str, say: Progress, line: str) -> None:
    say(f"{method}: {line}")


def _floor(rows: TrainingRows, settings: TrainingSettings) -> float | None:
    """The floor on the selecting rows, if epochs are matched by accuracy."""
    return None if settings.match == "none" else grader_for(rows.task).blind_answer(rows.selecting).points


def _write_pairs(results: Sequence[TrainingResult], arms: Sequence[Arm], pairing: Pairing) -> Path:
    pairs = pair_arms(arms, pairing)
    path = pairing.out / PAIRS_FILE
    folders = {arm.folder.name for arm in arms}

    def join(stored: list[PairEntry]) -> list[PairEntry]:
        return [*(each for each in stored if each.name.partition(AGAINST)[0] not in folders), *pairs]

    if pairs or path.is_file():
        change_pairs(path, join)
    errors = [f"{result.job.folder.name}: {result.reason}" for result in results if result.outcome is None]
    if errors:
        made = f"the other pairs are in {path}" if pairs else "no pair resulted"
        raise RunError(
            f"train: {len(errors)} of {len(results)} checkpoints ended by an error: {'; '.join(errors)}; {made}; the "
            "same command tries again what is missing"
        )
    if not pairs:
        failed = ", ".join(result.job.folder.name for result in results if result.failed)
        raise RunError(
            f"{path}: no pair resulted: failed were {failed}; is the base itself finite? Otherwise lower "
            "learning_rates in a method's file, and remove the failed folders to try again"
            if failed
            else f"{path}: no pair resulted: no arm has learnt the task in any epoch; train longer"
        )
    return path
