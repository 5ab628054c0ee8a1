"""Bad input of text tasks through the command line: refused in one paragraph before anything loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import Call, caller

TASK = """kind = "text"
fields = ["question"]
template = "Q: {question}"

[answer]
parser = "number"
metric = "exact"
"""
SET = """summary = "Sums."
licence = "Apache-2.0"
task = "sums.toml"
kind = "clean"

[[test.local]]
reader = "table"
root = "definition"
file = "rows.jsonl"
columns = ["question"]
answers = "answer"
"""
PAIRS = """[[pair]]
name = "p"
task = "sums.toml"
base = "nowhere"
reference = "nowhere/a"
candidate = "nowhere/b"
"""


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"number"', '"numbr"', "sums.toml [answer]: parser: unknown parser 'numbr'; did you mean 'number'?"),
        ('"exact"', '"exat"', "sums.toml [answer]: metric: unknown metric 'exat'; did you mean 'exact'?"),
        ("parser", "parsr", "sums.toml [answer]: unknown key 'parsr'; did you mean 'parser'?"),
        ("{question}", "{qestion}", "sums.toml: template: unknown field 'qestion'; did you mean 'question'?"),
        (TASK[TASK.index("[answer]") :], "", 'sums.toml: kind = "text" needs the table [answer] with parser and'),
        ('"number"', '"regex"\npattern = "(a"', "sums.toml [answer]: pattern: '(a' is no regular expression"),
    ],
)
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_text_task_that_is_wrong_is_refused_with_file_key_and_nearest_name(
    command: str, old: str, new: str, said: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sums.toml").write_text(TASK.replace(old, new, 1))
    (tmp_path / "pairs.toml").write_text(PAIRS)

    further = {"check": ["sums.toml"], "run": ["smoke", "--pairs", "pairs.toml", "--out", "run"]}
    done = call(command, *further[command])

    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ('{"question": "What is 2?", "answer": "two"}', "rows (1) do not score 1: the parser number finds no answer"),
        ('{"question": "What is 2?"}', "row 1: column 'answer' is missing; there are 'question'"),
        ('{"question": " ", "answer": "2"}', "row 1: column 'question' is empty or not text"),
        ('{"question": "What is 2?", "answer": null}', "is empty or not text; expected a gold text, or a list"),
    ],
)
def test_rows_that_could_not_be_answered_are_named(
    rows: str, said: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sums.toml").write_text(TASK)
    (tmp_path / "set.toml").write_text(SET)
    (tmp_path / "rows.jsonl").write_text(rows)

    done = call("check", "set.toml")

    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
