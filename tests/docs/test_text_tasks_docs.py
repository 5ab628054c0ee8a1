"""What docs/tasks.md says of text tasks holds as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from robustness.definitions.catalog import TESTSETS
from robustness.definitions.tasks import find_task
from robustness.tasks.task import Protected
from robustness.tasks.text.metrics import TextScore
from robustness.testsets.loading import load_testset
from robustness.testsets.task_checks import check_task

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_pages_text_task_is_read_and_checked(tmp_path: Path) -> None:
    (tmp_path / "refunds.toml").write_text(blocks("toml")[3], encoding="utf-8")

    task = find_task(str(tmp_path / "refunds.toml"))

    check_task(task)
    assert task.answer is not None
    assert task.answer.score("Owed: $1,200.50, not 3", ["1200.5"]).correct
    assert task.protected == Protected(words=("not", "no refund"), numbers=True)


def test_another_seed_makes_other_partners(tmp_path: Path, shared_data: Path) -> None:
    (tmp_path / "second.toml").write_text(blocks("toml")[4], encoding="utf-8")

    first = load_testset(TESTSETS.find("viggo-edited"), shared_data)
    second = load_testset(TESTSETS.find(str(tmp_path / "second.toml")), shared_data)

    assert len(first.examples) == len(second.examples)
    assert sum(a.texts != b.texts for a, b in zip(first.examples, second.examples, strict=True)) > 500


def test_the_pages_plugins_are_installed_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_package.py").write_text(blocks("python")[0])
    folder = tmp_path / "my_package-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1.0\n")
    groups = re.sub(r'project\.entry-points\."(.*)"', r"\1", blocks("ini")[0]).replace('"', "")
    (folder / "entry_points.txt").write_text(groups)
    monkeypatch.syspath_prepend(tmp_path)
    task = 'kind = "text"\nfields = ["q"]\ntemplate = "{q}"\n[answer]\nparser = "boxed"\nmetric = "overlap"\n'
    (tmp_path / "mine.toml").write_text(task)

    answer = find_task(str(tmp_path / "mine.toml")).answer

    assert answer is not None
    assert answer.score(r"so \boxed{a b}", [r"\boxed{b c}"]) == TextScore(correct=False, quality=1 / 3)
    assert answer.score(r"so \boxed{a b}", [r"\boxed{b a}"]).correct
    assert not answer.score("a b", [r"\boxed{b a}"]).correct
