"""Bad input through the command line: its own rows are errored with the reason, the run goes on, exit code 1."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import pytest

from commands import Call
from robustness.cli import main
from robustness.engine.scheduler import Scheduler
from robustness.engine.turns import MAX_WORDS

TEXTS = {
    "empty": "",
    "one-word": "fine",
    "punctuation": "... !? ,",
    "right-to-left": "\u05e1\u05e8\u05d8 \u05d8\u05d5\u05d1 fine \u202e film \u202c",
    "combining": "fine\u0301\u0302\u0303 fi\u0308lm Z\u0351\u036b\u0343\u036a",
    "long": "fine film " * 5_000,
    "plain": "the film is fine .",
}
ATTACKS = """
import time
from robustness import Access, Gradients
from robustness.recipes.embedding.trial import Loss, Trial

PLAIN = "the film is fine ."


class Raises:
    access = Access.SCORES

    def search(self, example, rng):
        yield [example]
        if example.id.endswith(":plain"):
            raise RuntimeError("broken on purpose")
        return example


class AlwaysRaises(Raises):
    def search(self, example, rng):
        yield [example]
        raise RuntimeError("broken on purpose")


class ReturnsNothing(Raises):
    def search(self, example, rng):
        yield [example]
        if not example.id.endswith(":plain"):
            return example


class Loops(Raises):
    def search(self, example, rng):
        yield [example]
        while example.id.endswith(":plain"):
            pass
        return example


class AsksForGradients(Raises):
    def search(self, example, rng):
        if example.id.endswith(":plain"):
            yield Gradients([example])
        yield [example]
        return example


class PerturbRaises:
    access = Access.GRADIENTS
    norm = "l2"

    def perturb(self, victim, examples, generators):
        if any(PLAIN in example.texts for example in examples):
            raise RuntimeError("broken on purpose")
        return Trial(victim.embed(examples), Loss.MARGIN).result()


class PerturbAlwaysRaises(PerturbRaises):
    def perturb(self, victim, examples, generators):
        raise RuntimeError("broken on purpose")
"""
REASONS = {
    "Raises": "RuntimeError: broken on purpose",
    "ReturnsNothing": "returned NoneType; expected the Example it proposes",
    "Loops": "took more than 0.5 seconds for this example",
    "AsksForGradients": "asked for gradients; its access is scores",
    "PerturbRaises": "RuntimeError: broken on purpose",
}


def write_data(folder: Path, rows: list[tuple[str, str, str]]) -> Path:
    """The tiny task's sentences, which the gate measures accuracy on, and more rows of id, text and label."""
    (folder / "tiny").mkdir(parents=True)
    lines = ["id\tsentence\tlabel", *(f"{key}\t{text}\t{label}" for key, text, label in rows)]
    (folder / "tiny" / "dev.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def run(tiny: Any, folder: Path, rows: list[tuple[str, str, str]], *attacks: str, monkeypatch: Any) -> Any:
    """Returns the exit code and the rows of examples.csv of the full checkpoint."""
    good = [(f"good-{i}", text, str(label)) for i, (text, label) in enumerate(tiny.dev[:8])]
    data = write_data(folder / "data", [*rows, *good])
    arguments = ["run", "smoke", "--pairs", str(tiny.pairs), "--data", str(data), "--testset", str(tiny.testset)]
    for attack in attacks:
        arguments += ["--attack", attack]
    monkeypatch.setattr(sys, "argv", ["robustness", *arguments, "--out", str(folder / "run")])
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    with (folder / "run" / "examples.csv").open(encoding="utf-8", newline="") as stream:
        return code, [row for row in csv.DictReader(stream) if row["adaptation"] == "full"]


def test_unusual_texts_end_no_run_and_only_the_endless_one_is_errored(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacks = ("deepwordbug", "pruthi", "input-reduction", "stress-append", "random-chars", "fgsm")
    rows = [(f"{name}-{label}", text, str(label)) for name, text in TEXTS.items() for label in (0, 1)]

    code, examples = run(tiny, tmp_path, rows[:12], *attacks, monkeypatch=monkeypatch)

    errored = [row for row in examples if row["status"] == "errored"]
    assert code == 1
    assert len(examples) == 20 * (1 + len(attacks))
    assert {row["example_id"].split(":")[1] for row in errored} <= {"long-0", "long-1"}
    assert {row["attack"] for row in errored} == {*attacks} - {"fgsm"}  # which reads what the model reads
    assert all(
        row["error"] == f"10000 words are too many to attack: at most {MAX_WORDS:,}; shorten the text"
        for row in errored
    )


def test_a_label_that_the_task_has_not_is_refused_before_any_text_is_scored(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "robustness.victims.heads.labels.Victim.scores", lambda *given: pytest.fail("a text was scored")
    )

    with pytest.raises(FileNotFoundError):  # no table was written
        run(tiny, tmp_path, [("odd", TEXTS["plain"], "7")], "identity", monkeypatch=monkeypatch)

    assert (
        "1 of 9 rows have a label that sst2 does not have, first the row 'odd' with label 7; it has labels 0 to 1 "
        "(negative, positive); mend or remove these rows"
    ) in capsys.readouterr().err


@pytest.mark.parametrize("label", [0, 1])
def test_a_set_of_one_label_is_refused_for_that_reason_before_any_text_is_scored(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], label: int
) -> None:
    monkeypatch.setattr(
        "robustness.victims.heads.labels.Victim.scores", lambda *given: pytest.fail("a text was scored")
    )
    monkeypatch.setattr(tiny, "dev", [row for row in tiny.dev if row[1] == label])

    with pytest.raises(FileNotFoundError):  # no table was written
        run(tiny, tmp_path, [], "identity", monkeypatch=monkeypatch)

    error = capsys.readouterr().err
    assert f"all 8 clean examples to check the pairs on have the label {('negative', 'positive')[label]!r}" in error
    assert "has not learnt" not in error


def test_a_file_sorted_by_label_gives_a_limited_run_both_labels(call: Call, tiny: Any, tmp_path: Path) -> None:
    rows = sorted(tiny.dev, key=lambda row: row[1])
    data = write_data(tmp_path / "data", [(str(i), text, str(label)) for i, (text, label) in enumerate(rows)])
    words = ["run", "smoke", "--pairs", str(tiny.pairs), "--data", str(data), "--testset", str(tiny.testset)]

    assert call(*words, "--attack", "identity", "--limit", "6", "--out", str(tmp_path / "run")).returncode == 0

    with (tmp_path / "run" / "examples.csv").open(encoding="utf-8", newline="") as stream:
        drawn = [row for row in csv.DictReader(stream) if row["adaptation"] == "full" and row["attack"] == "none"]
    assert sorted(row["gold"] for row in drawn) == ["negative"] * 3 + ["positive"] * 3


def test_broken_attacks_error_their_own_rows(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Scheduler.__init__.__kwdefaults__, "max_seconds", 0.5)
    file = tmp_path / "mine.py"
    file.write_text(ATTACKS)
    names = list(REASONS)

    code, examples = run(
        tiny,
        tmp_path,
        [("plain", TEXTS["plain"], "1")],
        *(f"{file}:{name}" for name in names),
        monkeypatch=monkeypatch,
    )

    assert code == 1
    for name, reason in REASONS.items():
        errored = [row for row in examples if row["attack"] == f"mine.py:{name}" and row["status"] == "errored"]
        assert [row["example_id"].split(":")[1] for row in errored] == ["plain"], name
        assert reason in errored[0]["error"]
    assert {row["status"] for row in examples if row["attack"] == "none"} == {"failed"}


@pytest.mark.parametrize("name", ["AlwaysRaises", "PerturbAlwaysRaises"])
def test_an_attack_that_raises_on_three_texts_in_a_row_ends_the_run_and_its_error_is_named(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(ATTACKS)

    with pytest.raises(FileNotFoundError):  # no table was written
        run(tiny, tmp_path, [], f"{file}:{name}", monkeypatch=monkeypatch)

    error = capsys.readouterr().err
    assert f"error: attack mine.py:{name}: failed on 3 examples in a row, the last time on 'tiny:good-" in error
    assert "with RuntimeError: broken on purpose; mend it" in error


def test_errors_of_rows_are_named_on_the_console_by_attack_the_most_frequent_first(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(ATTACKS)
    attacks = (f"{file}:Raises", f"{file}:ReturnsNothing")

    code, _ = run(tiny, tmp_path, [("plain", TEXTS["plain"], "1")], *attacks, monkeypatch=monkeypatch)

    error = capsys.readouterr().err
    assert code == 1
    assert "4 examples errored; see the column error of examples.csv" in error
    assert "2 under mine.py:Raises: RuntimeError: broken on purpose" in error
    assert "2 under mine.py:ReturnsNothing: AttackError: returned NoneType; expected the Example it proposes" in error


def test_a_white_box_attack_without_its_access_is_refused_before_anything_runs(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(ATTACKS.replace("access = Access.GRADIENTS", "access = Access.SCORES"))

    with pytest.raises(FileNotFoundError):  # no table was written
        run(tiny, tmp_path, [], f"{file}:PerturbRaises", monkeypatch=monkeypatch)
    assert "expected a method search(self, example, rng)" in capsys.readouterr().err
