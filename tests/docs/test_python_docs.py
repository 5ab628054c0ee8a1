"""The Python of docs/python.md runs as it stands there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs" / "python.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture(scope="module")
def world(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the page's user works: checkpoints, rows and a pairs file."""
    folder = tmp_path_factory.mktemp("python")
    for name, source in (("base", tiny.base), ("full", tiny.full), ("lora", tiny.peft)):
        shutil.copytree(source, folder / "my" / name)
    pd.DataFrame(tiny.rows, columns=["sentence", "label"]).to_csv(folder / "reviews.csv", index=False)
    arms = 'base = "my/base"\nfull = "my/full"\npeft = "my/lora"\n'
    (folder / "pairs.toml").write_text(f'[[pair]]\nname = "mine"\ntask = "sst2"\n{arms}')
    return folder


@pytest.fixture(scope="module")
def names(tiny: Any, world: Path) -> dict[str, Any]:
    """What the page's names are at its end."""
    found: dict[str, Any] = {"reports": []}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        patch.setenv("ROBUSTNESS_DATA", str(tiny.data))
        for block in blocks():
            exec(block.replace("attacks=[", f'testsets=["{tiny.testset}"], attacks=[', 1), found)
            found["reports"].append(found.get("report"))
    return found


def test_models_in_memory_are_compared_and_the_run_is_read_again(names: dict[str, Any]) -> None:
    first, loaded, *_ = names["reports"]

    assert first.n_errored == 0
    assert set(first.tables["pairs"]["contrast"]) == {"full-vs-peft"}
    assert loaded.tables["examples"].equals(first.tables["examples"])
    assert len(names["robust"]) and names["refused"] == ()


@pytest.mark.parametrize(("place", "attack"), [(2, "Double"), (3, "Step"), (4, "deepwordbug")])
def test_own_attacks_and_tasks_find_something_and_fail_at_nothing(
    names: dict[str, Any], place: int, attack: str
) -> None:
    examples = names["reports"][place].tables["examples"].query("attack == @attack")

    assert set(examples["status"]) >= {"succeeded"}
    assert "errored" not in set(examples["status"])
    assert set(examples["adaptation"]) == {"full", "lora"}


def test_the_own_task_names_the_rows(names: dict[str, Any]) -> None:
    (task,) = names["reports"][-1].record.tasks

    assert (task.name, task.labels) == ("mood", ("negative", "positive"))
    assert task.protected.patterns == ("[0-9]+",)
