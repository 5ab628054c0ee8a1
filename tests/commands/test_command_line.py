"""What a person at the terminal does: Ctrl-C, paths that no shell spelled out, names that look like markup."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from commands import Call, one_paragraph
from robustness import RunSettings, api, machine
from robustness.progress import CellProgress, LiveScore, Progress
from robustness.runs.storage.lock import FILE_NAME as LOCK_FILE
from robustness.runs.storage.lock import LockHolder
from robustness.runs.storage.store import read_outcomes
from robustness.terminal.console import SafeConsole, fold
from robustness.terminal.progress_display import show_progress
from robustness.workers.processes import Processes

INTERRUPTS = """
import signal
from robustness import Access


class Interrupts:
    access = Access.SCORES

    def search(self, example, rng):
        yield [example]
        signal.raise_signal(signal.SIGINT)
        return example
"""


def arguments(tiny: Any, out: Path, *more: str) -> list[str]:
    given = ["run", "smoke", "--pairs", str(tiny.pairs), "--data", str(tiny.data), "--testset", str(tiny.testset)]
    return [*given, "--out", str(out), *more]


def interrupted(path: Path) -> str:
    path.write_text(INTERRUPTS)
    return f"{path}:Interrupts"


def test_ctrl_c_says_that_a_run_goes_on_and_keeps_what_it_has(tiny: Any, tmp_path: Path) -> None:
    """As a process of its own, started as a module: what Python does at its end is silent too."""
    given = arguments(tiny, tmp_path / "run", "--attack", interrupted(tmp_path / "mine.py"))

    done = subprocess.run(
        [sys.executable, "-m", "robustness", *given], capture_output=True, text=True, cwd=tmp_path, check=False
    )

    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "interrupted; the same command resumes"
    assert "Traceback" not in done.stderr
    assert len(read_outcomes(tmp_path / "run")) == 20  # the clean rows that stood before the attack


def test_ctrl_c_ends_the_workers_too(call: Call, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hired: list[subprocess.Popen[bytes]] = []
    wait = Processes.wait

    def interrupt(self: Processes, seconds: float) -> Any:
        reports = wait(self, seconds)
        hired.extend(self._processes.values())
        signal.raise_signal(signal.SIGINT)
        return reports

    monkeypatch.setattr(Processes, "wait", interrupt)

    done = call(*arguments(tiny, tmp_path / "run", "--workers", "1"))

    assert done.returncode == 130
    assert "interrupted; the same command resumes" in done.stderr and "Traceback" not in done.stderr
    assert hired and all(process.poll() is not None for process in hired)


@pytest.mark.parametrize("name", ["report", "check"])
def test_ctrl_c_of_what_starts_over_promises_nothing(call: Call, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(api, name, lambda *given, **options: signal.raise_signal(signal.SIGINT))

    done = call(name, "x")

    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_ctrl_c_in_training_says_that_it_goes_on(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "train", lambda *given, **options: signal.raise_signal(signal.SIGINT))

    done = call("train", "sst2", "--base", "b", "--method", "full", "--method", "lora", "--out", "o")

    assert (done.returncode, done.stderr) == (
        130,
        "interrupted; the same command resumes\n",
    )


def test_a_second_ctrl_c_while_the_first_is_being_dealt_with_ends_in_the_same_words(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(*given: Any, **options: Any) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(api, "report", twice)

    done = call("report", "x")

    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_an_error_that_nobody_foresaw_is_one_paragraph_and_its_traceback_is_in_a_file(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(machine, "find_data", lambda data: {}["a [bold]key"])

    done = call("doctor")

    (file,) = tmp_path.glob("robustness-fault-*.txt")
    assert done.returncode == 70
    assert one_paragraph(done.stderr), done.stderr
    assert "KeyError: 'a [bold]key'" in done.stderr and str(file) in done.stderr
    assert re.search(r"\(robustness/machine\.py line \d+\)", done.stderr)
    written = file.read_text()
    assert "command: robustness doctor" in written and "Traceback" in written and "torch " in written


def test_where_no_file_can_be_written_the_traceback_is_shown(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    monkeypatch.setattr(machine, "find_data", lambda data: {}["key"])

    done = call("doctor")

    assert done.returncode == 70 and "Traceback" in done.stderr


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a-file"
    path.write_text("mine")
    return path


BELOW = ["{file}/out", "{file}/deep/er", "{file}", "{link}/out", "{long}"]


@pytest.mark.parametrize("out", BELOW)
@pytest.mark.parametrize("option", ["run", "cache", "generate", "train", "demo"])
def test_an_out_that_cannot_be_is_refused_before_anything_is_read(
    call: Call, tiny: Any, file: Path, monkeypatch: pytest.MonkeyPatch, out: str, option: str
) -> None:
    (file.parent / "link").symlink_to("nowhere")
    given = out.format(file=file, link=file.parent / "link", long=file.parent / ("x" * 300) / "out")
    monkeypatch.setattr("robustness.runs.opening.prepare", never)
    monkeypatch.setattr("robustness.runs.generation.load_testset", never)
    monkeypatch.setattr("robustness.training.execution.context.load_rows", never)
    commands = {
        "run": arguments(tiny, Path(given)),
        "cache": arguments(tiny, file.parent / "run", "--cache", given),
        "generate": ["generate", "advsquad-addansctx", "--out", given],
        "train": ["train", "sst2", "--base", "b", "--method", "full", "--method", "lora", "--out", given],
        "demo": ["demo", "--out", given],
    }

    done = call(*commands[option])

    assert done.returncode == 2
    assert one_paragraph(done.stderr), done.stderr
    assert (
        "is a file" in done.stderr
        or "link to nothing" in done.stderr
        or "too long" in done.stderr
        or (option == "generate" and "is there already" in done.stderr)
    )
    assert file.read_text() == "mine"


def never(*given: Any, **options: Any) -> None:
    raise AssertionError("nothing should be read")


def test_an_out_that_the_disk_refuses_is_refused_before_anything_is_read(
    call: Call, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustness.runs.opening.prepare", never)

    done = call(*arguments(tiny, Path("/proc/robustness/out")))

    assert done.returncode == 2
    assert "nothing can be written to /proc" in done.stderr and one_paragraph(done.stderr)


def test_paths_that_no_shell_spelled_out_are(
    call: Call, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tiny.folder))
    monkeypatch.setenv("RUNS", str(tmp_path))

    monkeypatch.setenv("ROBUSTNESS_DATA", "~/data")

    done = call(
        *("run", "smoke", "--pairs=~/pairs.toml", "--testset", "$HOME/tiny.toml"),
        *("--attack", "deepwordbug", "--limit", "2", "--out", "${RUNS}/run"),
    )
    again = call("report", "$RUNS/run")

    assert done.returncode == again.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").is_file()
    assert list((tmp_path / "cwd").iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("$NO_SUCH_NAME/run", "$NO_SUCH_NAME/run: the variable NO_SUCH_NAME is not set"),
        ("~nobody-here/run", "~nobody-here/run: whose home ~nobody-here is, is not known"),
    ],
)
def test_a_path_that_cannot_be_spelled_out_is_refused(call: Call, tiny: Any, given: str, message: str) -> None:
    done = call(*arguments(tiny, Path(given)))

    assert done.returncode == 2
    assert message in done.stderr and one_paragraph(done.stderr)


TRAIN = ["train", "sst2", "--base", "b", "--method", "full", "--method", "lora", "--out", "o"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["run", "--seed", "-1"], "--seed -1: expected 0 to 4294967295"),
        (["run", "--seed", "4294967296"], "--seed 4294967296: expected 0 to"),
        (["run", "--limit", "-3"], "--limit -3: expected at least 1"),
        (["run", "--workers", "0"], "--workers 0: expected at least 1"),
        (["run", "--device", "gpu"], "--device gpu: unknown device"),
        (["run", "--dtype", "float"], "--dtype float: expected one of 'auto', 'float32' or 'bfloat16'"),
        (["run", "--executor", "slurm"], "--executor slurm: expected local or ray"),
        (["run", "--ray-address", "auto"], "--ray-address auto: needs --executor ray"),
        (["run", "--dry-run", "--device", "gpu"], "--device gpu: unknown device"),
        (["run", "--dry-run", "--tflops", "nan"], "--tflops nan: expected"),
        (["run", "--dry-run", "--tflops", "inf"], "--tflops inf"),
        (["run", "--dry-run", "--tflops", "-1"], "--tflops -1"),
        (["run", "--attack", "quits.py:A"], "quits.py: cannot be imported: SystemExit: 5"),
        (["check", "quits.py:A"], "quits.py: cannot be imported: SystemExit: 5"),
        ([*TRAIN, "--seed", "-1"], "--seed -1: expected 0 to 4294967295"),
        ([*TRAIN, "--seed", "0", "--seed", "5000000000"], "--seed 5000000000: expected 0 to"),
        ([*TRAIN, "--limit", "0"], "--limit 0"),
        ([*TRAIN, "--epochs", "0"], "epochs is 0"),
        ([*TRAIN, "--steps", "-1"], "max_steps is -1"),
        ([*TRAIN, "--accumulation", "0"], "accumulation is 0"),
        ([*TRAIN, "--accumulation", "3"], "3 equal parts"),
        ([*TRAIN, "--device", "gpu"], "--device gpu: unknown device"),
        (["generate", "advsquad-addansctx", "--out", "o", "--limit", "0"], "--limit 0"),
        (["generate", "advsquad-addansctx", "--out", "o", "--device", "gpu"], "--device gpu: unknown device"),
        (["verify", "RUN", "--seed", "-1"], "--seed -1: expected 0 to"),
        (["verify", "RUN", "--sample", "0"], "--sample 0: expected at least 1"),
        (["verify", "RUN", "--device", "gpu"], "--device gpu: unknown device"),
        (["check", "mine.py:Interrupts", "--seed", "-1"], "--seed -1: expected 0 to"),
        (["report", "RUN", "--margin", "nan"], "--margin nan: expected a fraction"),
        (["report", "RUN", "--margin", "2"], "--margin 2.0: expected a fraction"),
        (["report", "RUN", "--correction", "bonferroni"], "--correction bonferroni"),
        (["report", "RUN", "--mcnemar", "approximate"], "--mcnemar approximate"),
        (["report", "RUN", "--format", "xlsx"], "--format xlsx"),
    ],
)
def test_an_option_out_of_range_is_refused_first(
    call: Call, tiny: Any, finished: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], message: str
) -> None:
    monkeypatch.setattr("robustness.runs.opening.prepare", never)
    monkeypatch.setattr("robustness.runs.generation.load_testset", never)
    monkeypatch.setattr("robustness.training.execution.context.load_rows", never)
    Path("mine.py").write_text(INTERRUPTS)
    Path("quits.py").write_text("raise SystemExit(5)\n")
    name, *options = (str(finished) if word == "RUN" else word for word in given)

    done = call(*(arguments(tiny, Path("o"), *options) if name == "run" else [name, *options]))

    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert one_paragraph(done.stderr), done.stderr
    assert not Path("o").exists()


@pytest.fixture(scope="module")
def finished(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder; tests leave it as it is."""
    out = tmp_path_factory.mktemp("finished") / "run"
    api.run(
        "smoke",
        tiny.pairs,
        out,
        RunSettings(data=tiny.data, testsets=[str(tiny.testset)], attacks=["identity"], limit=4),
    )
    return out


def test_names_are_printed_as_they_are_written(call: Call, tiny: Any, tmp_path: Path) -> None:
    """In the dry run's list, the progress, the errors, the tables and the sentences."""
    name = ":fire: [bold]p[/] \\"
    folder = tmp_path / ":smile:[red]"
    folder.symlink_to(tiny.folder)
    tiny_pairs = (tiny.folder / "pairs.toml").read_text()
    written = tiny_pairs.replace('"tiny"', "'" + name + "'").replace('"full"', "':smile:[red]/full'")
    written = written.replace('"lora"', "':smile:[red]/lora'").replace('"base"', "':smile:[red]/base'")
    (tmp_path / "p.toml").write_text(written)
    out = tmp_path / "out:tada:"
    given = ["run", "smoke", "--pairs", str(tmp_path / "p.toml"), "--data", str(tiny.data)]
    given += ["--testset", str(tiny.testset), "--attack", "identity", "--limit", "4"]

    dry = call(*given, "--out", str(out), "--dry-run")
    done = call(*given, "--out", str(out), "--verbose")
    compared = call("compare", str(out), str(out))
    refused = call("report", "[i]:bomb:[/i]")

    assert dry.stdout.startswith("checkpoints: :smile:[red]/full, :smile:[red]/lora\n")
    assert f"pair {name}: LoRA (candidate)" in done.stdout
    assert str(out) in done.stdout.replace("\n", "")
    assert ":smile:" in compared.stdout and "[red]" in compared.stdout
    assert "error: [i]:bomb:[/i]: no run.json" in refused.stderr


@pytest.mark.parametrize("width", [40, 100])
def test_bars_show_names_whole_and_as_they_are_written(width: int) -> None:
    """Beside the bars, and in their markup, a name would be cut off or turn into a picture."""
    written = StringIO()
    console = SafeConsole(file=written, force_terminal=True, width=width)
    scores = (LiveScore(":fire: [red]full[/]", 0.5, 20),)

    with show_progress(console) as report:
        report(
            Progress(":fire: [bold]a-checkpoint[/] \x1b[31m | set | attack", 1, 2, CellProgress(3, 7, 9.0, scores))
        )
        time.sleep(0.4)

    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\s+", "", written.getvalue())
    assert ":fire:[bold]a-checkpoint[/]\\x1b[31m|set|attack" in shown
    assert ":fire:[red]full[/]0.500(n=20)" in shown and "3/7" in shown
    assert "\u2026" not in shown


@pytest.mark.parametrize("command", ["report", "verify", "compare"])
def test_a_run_folder_that_another_process_keeps_to_itself_is_refused_with_its_name(
    call: Call, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("robustness.runs.storage.store.READ_SECONDS", 0.05)
    folder = shutil.copytree(finished, tmp_path / "run")
    holder = LockHolder(pid=1, host=socket.gethostname(), since="2026-01-02T03:04:05+00:00")
    (folder / LOCK_FILE).write_text(holder.model_dump_json())
    with closing(sqlite3.connect(folder / "run.sqlite", isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")

        done = call(command, str(folder), *([str(finished)] if command == "compare" else []))

    assert done.returncode == 2
    assert (
        f"is locked: process 1 on {socket.gethostname()}, since 2026-01-02T03:04:05+00:00, is running" in done.stderr
    )
    assert one_paragraph(done.stderr), done.stderr


def test_a_report_beside_a_run_says_that_it_goes_on_and_not_that_it_was_interrupted(
    call: Call, finished: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    with closing(sqlite3.connect(folder / "run.sqlite")) as connection, connection:
        connection.execute("DELETE FROM outcomes WHERE attack = 'identity' AND checkpoint = 'lora'")
    stopped = call("report", str(folder)).stdout
    holder = LockHolder(pid=1, host=socket.gethostname(), since="then")
    (folder / LOCK_FILE).write_text(holder.model_dump_json())
    going_on = call("report", str(folder)).stdout

    assert "4 outcomes are missing: the run was interrupted; the same command resumes" in stopped
    assert f"4 outcomes are missing: process 1 on {socket.gethostname()}, since then, is still at it" in going_on


def test_what_is_pasted_out_of_a_message_has_no_line_break_inside() -> None:
    advice = 'labels = { LABEL_0 = "negative", LABEL_1 = "positive" }'
    options = "--label LABEL_0=negative --label 'LABEL_1=very positive' --label LABEL_2=neutral"
    text = f"checkpoint mine: its labels cannot be mapped by name; give the pair {advice}, or {options}, or see to it"

    lines = fold(text, 60).splitlines()

    assert all(any(pasted in line for line in lines) for pasted in (advice, options))
    assert " ".join(lines) == text
