"""Parsers and metrics of installed packages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from robustness.definitions.catalog import TESTSETS
from robustness.definitions.tasks import find_task
from robustness.errors import DataError, DefinitionError, UsageError
from robustness.tasks.task import Task
from robustness.tasks.text.metrics import TextScore
from robustness.tasks.text.plugins import find_plugin
from robustness.testsets.loading import load_testset
from robustness.testsets.task_checks import check_task

CODE = '''
def boxed(response):
    """What stands between bars."""
    parts = response.split("|")
    if "crash" in response:
        raise KeyError("crash")
    return len(parts) if "count" in response else parts[1] if len(parts) > 2 else None

def overlap(said, gold):
    if said == "nan":
        return float("nan")
    return len(set(said) & set(gold)) / max(len(set(said)), len(set(gold)))

class Shout:
    pass
'''
TASK = """kind = "text"
fields = ["question"]
template = "Q: {question}"
[answer]
parser = "PREFIX-boxed"
metric = "PREFIX-overlap"
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[[], Task]]:
    """Installs a package under a prefix, for what is imported stays so; returns how its task is read."""

    def install_package(prefix: str, code: str = CODE) -> Callable[[], Task]:
        folder = tmp_path / prefix
        (folder / f"{prefix}-1.0.dist-info").mkdir(parents=True)
        (folder / f"{prefix}.py").write_text(code)
        (folder / f"{prefix}-1.0.dist-info" / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {prefix}\nVersion: 1.0\n"
        )
        groups = {"parsers": "boxed", "metrics": "overlap"}
        lines = [f"[robustness.{group}]\n{prefix}-{name} = {prefix}:{name}\n" for group, name in groups.items()]
        lines[0] += f"{prefix}-shout = {prefix}:Shout\n{prefix}-lost = {prefix}:lost\n"
        (folder / f"{prefix}-1.0.dist-info" / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(folder)
        (folder / "task.toml").write_text(TASK.replace("PREFIX", prefix))
        return lambda: find_task(str(folder / "task.toml"))

    return install_package


def test_a_task_names_parser_and_metric_of_an_installed_package(install: Callable[..., Callable[[], Task]]) -> None:
    task = install("alpha")()
    assert task.answer is not None

    assert task.answer.score("it is |abc|", ["|abd|", "|x|"]) == TextScore(correct=False, quality=2 / 3)
    assert task.answer.score("it is |abc|", ["|cab|"]) == TextScore(correct=True, quality=1.0)
    assert task.answer.score("it is abc", ["|abc|"]) == TextScore(correct=False, quality=0.0)
    check_task(task)


def test_what_a_plugin_does_wrong_is_said_of_the_response(install: Callable[..., Callable[[], Task]]) -> None:
    task = install("beta")()
    assert task.answer is not None

    with pytest.raises(TypeError, match="the parser beta-boxed returned a int; expected a text or None"):
        task.answer.parse("count |a|b|")
    with pytest.raises(ValueError, match="the metric beta-overlap returned nan; expected a number in"):
        task.answer.score("|nan|", ["|a|"])
    reason = str(task.answer.unreadable("crash"))
    assert "parser beta-boxed or metric beta-overlap fails on the gold 'crash': KeyError" in reason


def test_gold_that_a_plugin_cannot_read_is_refused_with_its_row(
    install: Callable[..., Callable[[], Task]], tmp_path: Path
) -> None:
    install("gamma")
    rows = [{"question": "Which?", "answer": answer} for answer in ("|a|", "crash", "b")]
    (tmp_path / "gamma/rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    testset = 'summary = ""\nlicence = ""\ntask = "task.toml"\nkind = "clean"\n[[test.local]]\nreader = "table"\n'
    testset += 'root = "definition"\nfile = "rows.jsonl"\ncolumns = ["question"]\nanswers = "answer"\n'
    (tmp_path / "gamma/set.toml").write_text(testset)

    with pytest.raises(DataError, match=r"2 of 3 rows \(2, 3\) do not score 1: .* fails on the gold 'crash'"):
        load_testset(TESTSETS.find(str(tmp_path / "gamma/set.toml")), None)


def test_another_source_is_another_task(install: Callable[..., Callable[[], Task]]) -> None:
    codes = {"eta": CODE, "theta": CODE, "iota": CODE + "#"}
    first, second, third = (install(name, code)() for name, code in codes.items())
    assert first.answer is not None and second.answer is not None and third.answer is not None

    assert first.answer.code == second.answer.code != third.answer.code
    assert find_task("viggo").answer is not None and not find_task("viggo").answer.code  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("parser", "reason"),
    [
        ("kappa-boxd", "unknown parser 'kappa-boxd'; did you mean 'kappa-boxed'"),
        ("kappa-shout", "parser kappa-shout: the plug-in kappa:Shout is no function"),
        ("kappa-lost", "parser kappa-lost: the plug-in kappa:lost cannot be imported: AttributeError"),
    ],
)
def test_a_plugin_that_is_none_is_refused_before_anything_loads(
    parser: str, reason: str, install: Callable[..., Callable[[], Task]], tmp_path: Path
) -> None:
    read = install("kappa")
    (tmp_path / "kappa/task.toml").write_text(TASK.replace("PREFIX-boxed", parser).replace("PREFIX", "kappa"))

    with pytest.raises((DefinitionError, UsageError), match=reason):
        read()


def test_a_package_that_has_gone_is_named_with_its_group() -> None:
    with pytest.raises(UsageError, match="metric lambda-gone: no installed package offers it in the group robust"):
        find_plugin("robustness.metrics", "lambda-gone")
