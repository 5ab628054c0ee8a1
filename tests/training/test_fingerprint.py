"""What decides a checkpoint's weights is in its fingerprint, and what does not is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from small_texts import TASK, write_base, write_rows, write_testset

from robustness.training.adaptation import Base
from robustness.training.execution.context import TrainingContext
from robustness.training.job import TrainingJob
from robustness.training.methods import find_method
from robustness.training.protocol import TrainingSettings
from robustness.training.record import Fingerprint

SETTINGS = TrainingSettings(dev_limit=12, report_limit=12)
Describe = Callable[[], Fingerprint]


@pytest.fixture
def describe(tmp_path: Path) -> Describe:
    """Describes one job anew, from files that a test changes: task.toml's, base's and rows'."""
    for name in ("base", "definitions"):
        (tmp_path / name).mkdir()
    base, data = write_base(tmp_path / "base"), write_rows(tmp_path / "rows")
    testset = write_testset(tmp_path / "definitions")
    lora, start = find_method("lora"), Base(base, str(base))
    job = TrainingJob(testset, start, lora, 0, tmp_path / "out", SETTINGS, data, limit=16)
    return lambda: TrainingContext(torch.device("cpu")).fingerprint(job)


def difference(one: Fingerprint, two: Fingerprint) -> set[str]:
    return {each.name for each in fields(one) if getattr(one, each.name) != getattr(two, each.name)}


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        ('"{sentence} say :"', '"the {sentence} say :"', True),
        ('template = "{sentence} say :"', 'chat = { user = "{sentence}" }', True),
        ("max_new_tokens = 6", "max_new_tokens = 7", True),
        ("max_new_tokens = 6", 'max_new_tokens = 6\nstop = ["\\n"]', True),
        ('lead = " "', 'lead = "  "', True),
        ("[answer]", '[protected]\nwords = ["film"]\n\n[answer]', False),
    ],
)
def test_a_task_is_another_to_training_where_prompt_or_answer_are(
    describe: Describe, tmp_path: Path, old: str, new: str, differs: bool
) -> None:
    before = describe()
    file = tmp_path / "definitions" / "meaning.toml"
    assert old in TASK
    file.write_text(TASK.replace(old, new), encoding="utf-8")

    assert difference(before, describe()) == ({"task_digest"} if differs else set())


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [("config.json", "attention_dropout", 0.5), ("tokenizer_config.json", "truncation_side", "left")],
)
def test_a_base_is_another_where_its_config_or_tokenizer_is(
    describe: Describe, tmp_path: Path, file: str, key: str, value: object
) -> None:
    before = describe()
    path = tmp_path / "base" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

    assert difference(before, describe()) == {"base_files_digest"}


@pytest.mark.parametrize("split", ["train", "dev"])
def test_rows_are_others_in_another_order(describe: Describe, tmp_path: Path, split: str) -> None:
    before = describe()
    path = tmp_path / "rows" / f"{split}.jsonl"
    path.write_text("\n".join(reversed(path.read_text().splitlines())) + "\n")

    assert difference(before, describe()) == {"rows_digest"}


def test_files_that_are_moved_or_copied_are_the_same(describe: Describe, tmp_path: Path) -> None:
    before = describe()
    for name in ("base", "rows"):
        shutil.copytree(tmp_path / name, tmp_path / "copy" / name)
        shutil.rmtree(tmp_path / name)
        shutil.move(tmp_path / "copy" / name, tmp_path / name)

    assert describe() == before
