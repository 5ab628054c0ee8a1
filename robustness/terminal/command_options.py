"""The options of the commands that have many, as data."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, TypeVar, get_type_hints

import typer

from robustness.terminal.command_help import complete_shipped

Command = TypeVar("Command")

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Local data files; default $ROBUSTNESS_DATA, else the hub."),
]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda|cuda:N", help="What computes.")]
Executor = Annotated[str, typer.Option(metavar="local|ray", help="Where work is computed.")]
Workers = Annotated[int | None, typer.Option(help="Processes; on CUDA each has a GPU of its own.")]
RayAddress = Annotated[str | None, typer.Option(metavar="HOST:PORT|auto", help="Of a Ray cluster.")]
Tflops = Annotated[
    float | None, typer.Option(help="Of --dry-run: this machine's 10^12 operations a second; default: timed.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="All comparisons, controls, probes and warnings, in place of the short end.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainCommand:
    """`robustness train`."""

    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="sst2, qqp, mnli, qnli, rte, squad, viggo, gsm8k or a file.toml.",
            autocompletion=complete_shipped("tasks"),
        ),
    ]
    base: Annotated[str, typer.Option(metavar="MODEL", help="Pretrained model: a folder or a hub id.")]
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for checkpoints and pairs.toml.")]
    method: Annotated[
        list[str],
        typer.Option(
            metavar="NAME|file.toml",
            help="full and a PEFT method, as lora or lora:rank=4; repeat the option.",
            autocompletion=complete_shipped("methods"),
        ),
    ]
    seed: Annotated[list[int] | None, typer.Option(help="Training seed; repeat for several. Default 0.")] = None
    data: Data = None
    limit: Annotated[int | None, typer.Option(help="At most so many training rows.")] = None
    epochs: Annotated[int | None, typer.Option(help="Passes over the rows, for every method. Default 3.")] = None
    steps: Annotated[int | None, typer.Option(help="Optimiser steps, in place of epochs.")] = None
    grid: Annotated[
        str,
        typer.Option(
            metavar="shipped|wide|one",
            help="wide: two learning rates more a method, one at either end; one: its largest alone.",
        ),
    ] = "shipped"
    targets: Annotated[
        str,
        typer.Option(
            metavar="method|attention|linear",
            help="Layers that LoRA and its kin adapt; method: as each method's file says.",
        ),
    ] = "method"
    dev_limit: Annotated[
        int | None, typer.Option(help="At most so many development rows select. Default 1000, of text tasks 100.")
    ] = None
    report_limit: Annotated[
        int | None, typer.Option(help="At most so many report the score. Default 1000, of text tasks 200.")
    ] = None
    accumulation: Annotated[int, typer.Option(help="Parts in which a batch of 16 is run, to fit a GPU.")] = 1
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Compute activations twice, to fit a GPU.")
    ] = False
    bf16: Annotated[bool, typer.Option("--bf16", help="Matrix products in bfloat16, where that is faster.")] = False
    protocol: Annotated[
        str, typer.Option(metavar="equal|paper", help="equal for all methods, or paper: as arXiv 2505.22355.")
    ] = "equal"
    match: Annotated[
        str, typer.Option(metavar="none|clean", help="clean: take the epochs at which a pair is closest.")
    ] = "none"
    adversarial: Annotated[
        str | None,
        typer.Option(metavar="freelb[:KEY=VALUE,...]", help="Also train each method adversarially (METHOD+freelb)."),
    ] = None
    augment: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="Also train each method on rows that the recipe's edits changed (METHOD+RECIPE).",
            autocompletion=complete_shipped("attacks"),
        ),
    ] = None
    device: Device = "auto"
    executor: Executor = "local"
    workers: Workers = None
    ray_address: RayAddress = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCommand:
    """`robustness run`."""

    suite: Annotated[
        str,
        typer.Argument(
            metavar="SUITE",
            help="A name of `robustness list suites`, or a file.toml.",
            autocompletion=complete_shipped("suites"),
        ),
    ]
    out: Annotated[Path, typer.Option(metavar="DIR", help="Run folder; the same command again resumes.")]
    pairs: Annotated[Path | None, typer.Option(metavar="FILE", help="The pairs.toml.")] = None
    reference: Annotated[str | None, typer.Option(metavar="CHECKPOINT", help="In place of --pairs: one arm.")] = None
    candidate: Annotated[str | None, typer.Option(metavar="CHECKPOINT", help="The other arm.")] = None
    task: Annotated[str | None, typer.Option(help="What both arms are fine-tuned for.")] = None
    base: Annotated[
        str | None, typer.Option(metavar="MODEL", help="What both arms were made of; default: as an adapter says.")
    ] = None
    label: Annotated[
        list[str] | None, typer.Option(metavar="NAME=LABEL", help="A label name of the arms, and the task's.")
    ] = None
    data: Data = None
    testset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Replaces the suite's list.", autocompletion=complete_shipped("testsets")),
    ] = None
    attack: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|file.py:Name",
            help="Replaces the suite's list.",
            autocompletion=complete_shipped("attacks"),
        ),
    ] = None
    probe: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|file.py:Name",
            help="Replaces the suite's list.",
            autocompletion=complete_shipped("probes"),
        ),
    ] = None
    limit: Annotated[
        int | None,
        typer.Option(help="At most so many examples of each test set, drawn by --seed: labels in proportion."),
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of all searches, and of which examples --limit draws.")] = 0
    attack_field: Annotated[
        list[str] | None, typer.Option(metavar="FIELD", help="Open to attack in place of the task's own.")
    ] = None
    base_precision: Annotated[
        str | None,
        typer.Option(metavar="4bit|full", help="The base under adapters; default: as in pairs file or training."),
    ] = None
    device: Device = "auto"
    dtype: Annotated[str, typer.Option(metavar="auto|float32|bfloat16", help="auto: float32.")] = "auto"
    allow_untrained: Annotated[
        bool, typer.Option("--allow-untrained", help="Let a base that has not learnt the task be an arm.")
    ] = False
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VERDICT[:POINTS]",
            help="Exit with 3 where a comparison has this verdict; below: which there are.",
        ),
    ] = None
    allow_changed_testset: Annotated[
        bool, typer.Option("--allow-changed-testset", help="Evaluate sets that are not the published ones.")
    ] = False
    compile_model: Annotated[
        bool, typer.Option("--compile", help="Score with kernels made by torch.compile, where that works.")
    ] = False
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep scores there, for other attacks and later runs.")
    ] = None
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the cells, their cost, what they can show; gets checkpoints from the hub.",
        ),
    ] = False
    like: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Of --dry-run: a run of few examples to count by.")
    ] = None
    tflops: Tflops = None
    executor: Executor = "local"
    workers: Workers = None
    ray_address: RayAddress = None
    verbose: Verbose = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyCommand:
    """`robustness study`."""

    study: Annotated[
        str,
        typer.Argument(
            metavar="STUDY",
            help="A name of `robustness list studies`, or a file.toml.",
            autocompletion=complete_shipped("studies"),
        ),
    ]
    out: Annotated[Path, typer.Option(metavar="DIR", help="The study's folder; the same command again resumes.")]
    data: Data = None
    device: Device = "auto"
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the jobs, hours and gigabytes, and what they can show.")
    ] = False
    tflops: Tflops = None
    executor: Executor = "local"
    workers: Workers = None
    ray_address: RayAddress = None


def takes(kind: type[Command]) -> Callable[[Callable[[Command], None]], Callable[..., None]]:
    """Makes a command of a function of options, whose fields typer reads from the signature as its arguments."""
    hints = get_type_hints(kind, include_extras=True)
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(kind)  # type: ignore[arg-type]  # a dataclass, as all of them
    ]

    def make(function: Callable[[Command], None]) -> Callable[..., None]:
        def command(**given: object) -> None:
            function(kind(**given))

        command.__name__, command.__doc__ = function.__name__, function.__doc__
        command.__annotations__ = hints
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return command

    return make
