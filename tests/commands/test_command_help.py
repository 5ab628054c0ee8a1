"""What the command line says about itself: version, choices, examples, names that a shell completes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import typer

import robustness
from commands import Call
from robustness import api, machine, study_call
from robustness.cli import app
from robustness.doctor import Diagnosis, summarise
from robustness.options import RunSettings, TrainSettings
from robustness.recipes.assets.registry import ASSETS
from robustness.reports.failing import read_rule
from robustness.reports.tables.export import Format
from robustness.stats import Correction, Verdict
from robustness.terminal.command_help import EXAMPLES, NOTES
from robustness.workers.execution import LOCAL, RAY


def walk(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its name."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name.strip(), command
    for each, below in (inner or {}).items():
        yield from walk(below, f"{name} {each}")


COMMANDS = dict(walk(typer.main.get_command(app)))


def metavar(command: str, option: str) -> list[str]:
    return next(p.metavar for p in COMMANDS[command].params if option in p.opts).split("|")


def test_the_version_is_told(call: Call) -> None:
    done = call("--version")

    assert (done.returncode, done.stdout) == (0, f"peft-robustness {robustness.__version__}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_commands_help_ends_with_examples_that_it_takes(
    command: str, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    shown = call(*command.split(), "--help").stdout

    for example in EXAMPLES[command]:
        program, *words = shlex.split(example)
        assert f"    {example}\n" in shown and len(example) <= 76
        assert program == "robustness" and words[: len(command.split())] == command.split()
        with COMMANDS[command].make_context(command, words[len(command.split()) :]) as context:
            assert context.params
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_the_list_of_commands_says_what_each_does_in_a_whole_line(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    listed = call("--help").stdout.partition("Commands:\n")[2].splitlines()

    assert len(listed) == 13 and all(line.endswith(".") and not line.endswith("...") for line in listed)


def test_no_example_is_of_a_command_that_is_none() -> None:
    assert set(EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize("name", ["grid", "targets", "protocol", "match"])
def test_the_choices_of_training_are_those_that_it_takes(name: str) -> None:
    assert set(metavar("train", f"--{name}")) == set(get_args(TrainSettings.model_fields[name].annotation))


def test_the_choices_of_a_run_and_a_report_are_those_that_they_take() -> None:
    assert set(metavar("run", "--dtype")) == set(get_args(RunSettings.model_fields["dtype"].annotation))
    assert metavar("run", "--executor") == [LOCAL, RAY]
    assert set(metavar("report", "--format")) == set(Format)
    assert set(metavar("report", "--correction")) == set(Correction)
    words = [word.strip(",.") for line in NOTES["run"] for word in line.split()]
    named = {word for word in words if word in set(Verdict)}
    assert len(named) == 5 and all(read_rule(f"{word}:2") for word in named)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("robustness run attacks-", ["attacks-quick", "attacks-strong"]),
        ("robustness run smoke --attack deepw", ["deepwordbug"]),
        ("robustness list testse", ["testsets"]),
        ("robustness show deepw", ["deepwordbug"]),
        ("robustness assets get wor", ["wordnet"]),
    ],
)
def test_a_shell_completes_names(line: str, expected: list[str], call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_ROBUSTNESS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))

    assert call().stdout.split() == expected


def test_list_alone_lists_the_kinds(call: Call) -> None:
    shown = call("list").stdout.splitlines()

    assert [line.split()[0] for line in shown][:4] == ["attacks", "suites", "studies", "testsets"]


def test_the_doctor_ends_in_how_many_are_ready_and_how_to_get_the_rest() -> None:
    states = [("attack", "ready"), ("attack", "ready"), ("attack", "missing"), ("test set", "hub")]
    found = [Diagnosis(kind, "name", state, "") for kind, state in states]

    lines = list(summarise(found, [ASSETS["wordnet"], ASSETS["distilroberta-base"]]))

    assert lines == [
        "attacks: 2 ready, 1 missing",
        "test sets: 1 to be downloaded from the hub at first use",
        "assets: 2 missing; `robustness assets get --missing` downloads them (at least 11 MB)",
    ]
    assert len(list(summarise(found, []))) == 2


def test_what_is_missing_is_downloaded_without_being_named(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    there = {"wordnet", "universal_tagset"}
    listed = [(asset, "x" if asset.name in there else None) for asset in ASSETS.values()]
    monkeypatch.setattr(machine, "list_assets", lambda data: listed)
    monkeypatch.setattr(machine, "get_assets", lambda names, **_: asked.append(list(names)) or [])

    done = call("assets", "get", "--missing")
    both, neither = call("assets", "get", "--missing", "wordnet"), call("assets", "get")

    assert done.returncode == 0 and asked == [[name for name in ASSETS if name not in there]]
    assert both.returncode == neither.returncode == 2
    assert "expected NAMEs or --missing" in both.stderr and "expected NAMEs or --missing" in neither.stderr


def test_ctrl_c_says_how_to_go_on_where_anything_is_kept(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*given: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(machine, "get_assets", interrupt)
    monkeypatch.setattr(api, "plan", interrupt)

    got = call("assets", "get", "wordnet")
    ran, foretold = (call("run", "smoke", "--pairs", "p", "--out", "o", *more) for more in ([], ["--dry-run"]))

    assert got.stderr == ran.stderr == "interrupted; the same command resumes\n"
    assert foretold.stderr == "interrupted\n"


def test_ctrl_c_in_a_study_says_that_it_goes_on_and_in_its_forecast_promises_nothing(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*given: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(study_call, "study", interrupt)
    monkeypatch.setattr(study_call, "forecast_study", interrupt)

    studied, foretold = (call("study", "smoke", "--out", "o", *more) for more in ([], ["--dry-run"]))

    assert (studied.returncode, studied.stderr) == (130, "interrupted; the same command resumes\n")
    assert (foretold.returncode, foretold.stderr) == (130, "interrupted\n")
