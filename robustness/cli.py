"""The command line: argv to one API call to an exit code; the only printer."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustness.errors import RobustnessError, UsageError
from robustness.quiet import quieten_libraries
from robustness.terminal.command_help import complete_kinds, complete_shipped, epilog
from robustness.terminal.command_options import Data, Device, RunCommand, StudyCommand, TrainCommand, Verbose, takes
from robustness.terminal.fault_report import describe_fault
from robustness.terminal.given_settings import choose_pairs, execution_of, run_settings, train_settings
from robustness.terminal.interruption import Commands, Interrupted, describe_interruption
from robustness.terminal.printing import finish, foretell, print_error, say, stderr, stdout
from robustness.terminal.progress_display import show_download, show_progress
from robustness.terminal.study_printing import finish_study, finish_study_report, foretell_study, holds_study
from robustness.versions import OWN, version_of

if TYPE_CHECKING:
    from robustness.progress import Progress

NAME_COLUMN = 23
"""Width of the names in lists, which the longest fit."""
INTERRUPTED, FAULT = 130, 70
"""Exit codes: as a shell counts Ctrl-C, and sysexits.h an internal error."""
app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Entry point.

    Exit codes: 0 done, 1 done with errored rows or refused pairs, 2 wrong usage or input, 3 a verdict of --fail-on,
    70 a fault of this program.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.getLogger("huggingface_hub").propagate = False  # it prints its warnings itself
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        app(prog_name="robustness")
    except RobustnessError as error:
        print_error(str(error))
        sys.exit(2)
    except (Interrupted, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what Python still does at its end can be cut short in silence
        say(describe_interruption(sys.argv[1:]))
        sys.exit(INTERRUPTED)
    except Exception as error:  # no traceback reaches a user; a file has it
        print_error(describe_fault(error))
        sys.exit(FAULT)


def _print_version(wanted: bool) -> None:
    if wanted:
        stdout.print(f"{OWN} {version_of(OWN)}", markup=False)
        raise typer.Exit


@app.callback()
def answer(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """What does a PEFT checkpoint lose under attack that its fully fine-tuned partner keeps, and where?"""
    del version  # its callback has answered


@app.command(epilog=epilog("demo"))
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for checkpoints and run.")] = Path("demo-run"),
    text: Annotated[bool, typer.Option("--text", help="A language model that writes what sentences mean.")] = False,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Of --text: folder with ViGGO; default $ROBUSTNESS_DATA.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Train a small full / LoRA pair offline, attack both, and report."""
    from robustness import api

    quieten_libraries()
    with show_progress(stderr) as report_progress:
        report = api.demo(out, text=text, data=data, on_message=say, on_progress=report_progress)
    finish(report, verbose=verbose)


@app.command("list", epilog=epilog("list"))
def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]",
            help="attacks, suites, studies, testsets, tasks, probes, methods or parts.",
            autocompletion=complete_kinds,
        ),
    ] = None,
) -> None:
    """List what is shipped of one kind; alone, the kinds."""
    from robustness.listing import list_kind, list_kinds

    for name, summary in list_kinds() if kind is None else list_kind(kind):
        stdout.tell(f"{name:<{NAME_COLUMN}} {summary}", indent=" " * (NAME_COLUMN + 1))


@app.command(epilog=epilog("show"))
def show(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Of anything that `robustness list KIND` lists.",
            autocompletion=complete_shipped("attacks", "suites", "studies", "testsets", "tasks", "probes", "methods"),
        ),
    ] = None,
) -> None:
    """Print the definition of what is shipped; of a part, its keys."""
    from robustness.listing import list_kinds, show_definition

    if name is None:
        kinds = ", ".join(kind for kind, _ in list_kinds())
        raise UsageError(f"show: expected a NAME; `robustness list KIND` has them, of the kinds {kinds}")
    stdout.print(show_definition(name), markup=False, soft_wrap=True)


@app.command(epilog=epilog("doctor"))
def doctor(data: Data = None) -> None:
    """Say which attacks and test sets are ready, and what is missing."""
    from robustness import machine
    from robustness.doctor import summarise

    found = machine.doctor(data)
    for diagnosis in found:
        style = {"ready": "green", "missing": "red"}.get(diagnosis.state, "default")
        line = f"{diagnosis.kind:<9} {diagnosis.name:<38} {diagnosis.detail}".rstrip()
        stdout.tell(line, head=f"[{style}]{diagnosis.state:<8}[/]", indent=" " * 8)
    for line in summarise(found, [asset for asset, place in machine.list_assets(data) if place is None]):
        stdout.tell(line)


assets_app = typer.Typer(no_args_is_help=True, help="Word lists, taggers and models that recipes read.")
app.add_typer(assets_app, name="assets")


@assets_app.command("list", epilog=epilog("assets list"))
def list_assets(data: Data = None) -> None:
    """List what recipes read, with its size, its licence, and where it lies."""
    from robustness import machine

    for asset, place in machine.list_assets(data):
        size = f"{asset.size / 1e6:,.1f} MB" if asset.size is not None else "size unknown"
        state = "[green]ready[/]   " if place else "[red]missing[/] "
        found = place or f"robustness assets get {asset.name} --data DIR"
        line = f"{asset.name:<32} {size:>13}  {asset.licence}; {asset.source}; {found}"
        stdout.tell(line, head=state, indent=" " * 8)


@assets_app.command("get", epilog=epilog("assets get"))
def get_assets(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME...", help="Of `robustness assets list`.", autocompletion=complete_shipped("assets")
        ),
    ] = None,
    missing: Annotated[bool, typer.Option("--missing", help="All that are not there, in place of names.")] = False,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Where to; default $ROBUSTNESS_DATA.")
    ] = None,
) -> None:
    """Download assets into the data folder, verified; nothing is downloaded otherwise."""
    from robustness import machine

    if bool(names) == missing:
        raise UsageError("assets get: expected NAMEs or --missing; `robustness assets list` has the names")
    # Without a folder to put them in, the call below says so.
    wanted = names or [asset.name for asset, place in machine.list_assets(data) if place is None]
    if not wanted:
        say("nothing is missing")
    with show_download(stderr) as on_bytes:
        for path in machine.get_assets(wanted, data=data, on_message=say, on_bytes=on_bytes):
            stdout.print(str(path), markup=False, soft_wrap=True)


@app.command(epilog=epilog("train"))
@takes(TrainCommand)
def train(given: TrainCommand) -> None:
    """Train pairs, every method by one protocol and on the same data."""
    from robustness import api

    settings, execution = train_settings(given), execution_of(given)
    quieten_libraries()
    with show_progress(stderr) as report_progress:

        def tell(told: str | Progress) -> None:
            if isinstance(told, str):
                say(told)
            else:
                report_progress(told)

        pairs = api.train(
            given.task, given.base, given.method, given.out, settings, on_progress=tell, execution=execution
        )
    stdout.print(f"wrote {pairs}", markup=False, soft_wrap=True)


@app.command(epilog=epilog("run"))
@takes(RunCommand)
def run(given: RunCommand) -> None:
    """Run a suite on pairs of checkpoints."""
    from robustness import api
    from robustness.reports.failing import read_rule

    rules = [read_rule(words) for words in given.fail_on or ()]
    execution = execution_of(given)
    plan = api.plan(given.suite, choose_pairs(given), run_settings(given))
    quieten_libraries()
    if given.dry_run:
        foretell(plan, given.like, given.tflops)
        return
    with show_progress(stderr) as report_progress:
        report = api.execute(plan, given.out, on_progress=report_progress, execution=execution)
    finish(report, rules, verbose=given.verbose)


@app.command(epilog=epilog("study"))
@takes(StudyCommand)
def study(given: StudyCommand) -> None:
    """Train, attack and report a whole study; again: what is missing."""
    from robustness import study_call
    from robustness.options import StudySettings

    execution = execution_of(given)
    settings = StudySettings.model_validate({"data": given.data, "device": given.device})
    quieten_libraries()
    if given.dry_run:
        foretell_study(given.study, given.out, settings, given.tflops)
        return
    with show_progress(stderr) as report_progress:
        result = study_call.study(
            given.study, given.out, settings, on_message=say, on_progress=report_progress, execution=execution
        )
    finish_study(result)


@app.command(epilog=epilog("generate"))
def generate(
    testset: Annotated[
        str,
        typer.Argument(
            metavar="TESTSET",
            help="advsquad-addany, viggo-edited and their like.",
            autocompletion=complete_shipped("testsets"),
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="SQuAD's JSON, or JSON lines; the same command resumes.")],
    against: Annotated[
        str | None, typer.Option(metavar="CHECKPOINT", help="What addany and addanyextend search against.")
    ] = None,
    data: Data = None,
    limit: Annotated[int | None, typer.Option(help="At most so many questions, drawn as by a run of seed 0.")] = None,
    device: Device = "auto",
) -> None:
    """Write a generated test set as a file, to replay it anywhere."""
    from robustness import api

    quieten_libraries()
    with show_progress(stderr) as report_progress:
        rows = api.generate(
            testset, out, against=against, data=data, limit=limit, device=device, on_progress=report_progress
        )
    stdout.print(f"wrote {out}: {rows} rows", markup=False, soft_wrap=True)


@app.command(epilog=epilog("report"))
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR")],
    form: Annotated[
        str, typer.Option("--format", metavar="csv|parquet|latex|markdown|paper", help="Beside the CSV files.")
    ] = "csv",
    correction: Annotated[
        str | None, typer.Option(metavar="holm|benjamini-hochberg", help="Of p-values; default: as before.")
    ] = None,
    margin: Annotated[float | None, typer.Option(help="Largest difference that does not matter, a fraction.")] = None,
    mcnemar: Annotated[
        str | None, typer.Option(metavar="exact|mid-p", help="The paired test; default: as before.")
    ] = None,
    model_card: Annotated[
        bool, typer.Option("--model-card", help="Also write model-card-NAME.md for each checkpoint.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Write tables and page of a run or study again, from stored rows."""
    from robustness import api

    if holds_study(folder):
        finish_study_report(
            folder, is_plain=form == "csv" and not model_card and {correction, margin, mcnemar} == {None}
        )
        return
    made = api.report(folder, form=form, correction=correction, margin=margin, mcnemar=mcnemar, model_card=model_card)
    finish(made, verbose=verbose)


@app.command(epilog=epilog("compare"))
def compare(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B")],
) -> None:
    """Say what changed between two runs, on examples both have."""
    from robustness import api
    from robustness.reports.summaries.terminal import render_comparison

    for part in render_comparison(api.compare(run_a, run_b)):
        stdout.print(part, soft_wrap=isinstance(part, str))


@app.command(epilog=epilog("verify"))
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR")],
    sample: Annotated[int, typer.Option(help="Texts to judge again.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    device: Device = "auto",
) -> None:
    """Judge stored texts again; exit with 1 where some disagree."""
    from robustness import api

    quieten_libraries()
    with show_progress(stderr) as report_progress:
        found = api.verify(folder, sample=sample, seed=seed, device=device, on_progress=report_progress)
    for disagreement in found.disagreements:
        stderr.tell(disagreement)
    stdout.print(
        f"{found.sampled} of {found.stored} stored texts judged again: {len(found.disagreements)} disagreements"
    )
    if found.disagreements:
        raise typer.Exit(1)


@app.command(epilog=epilog("check"))
def check(
    attack: Annotated[str, typer.Argument(metavar="file.py:Name|task.toml")],
    seed: Annotated[int, typer.Option(help="Of the searches.")] = 0,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder with the files of a test set.")] = None,
) -> None:
    """Run the conformance suite on your own attack, task or test set."""
    from robustness import api

    stdout.print(f"{api.check(attack, seed=seed, data=data)}: keeps every rule", markup=False, soft_wrap=True)
