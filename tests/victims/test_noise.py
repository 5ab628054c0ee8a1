"""The noise floor: answers that change with the company of a text, its order, or the merge of an adapter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from architectures import WORDS, make_tokenizer
from causal_models import tiny_model
from peft import LoraConfig, get_peft_model

from robustness.tasks.gold import GoldSpan
from robustness.tasks.grading import LabelGrader
from robustness.tasks.task import Task, TaskKind
from robustness.tasks.text.answering import TextAnswer
from robustness.tasks.text.metrics import TextMetric
from robustness.testsets.example import Example
from robustness.victims import noise
from robustness.victims.comparability import describe_rounding
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.gate import CheckpointFacts, inspect_checkpoint
from robustness.victims.loading import place
from robustness.victims.noise import NoiseFloor, measure_noise

ANSWER = TextAnswer("whole", TextMetric.TOKEN_F1, max_new_tokens=6)
TASK = Task("copying", ("text",), (), ("text",), kind=TaskKind.TEXT, template="a {text} is", answer=ANSWER)


def texts(count: int) -> list[Example]:
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, size=rng.integers(1, 9))) for _ in range(count)]
    return [Example(str(i), (line,), 1, answers=(GoldSpan(line, 0),)) for i, line in enumerate(lines)]


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny causal model, and a LoRA adapter on it that changes its answers."""
    folder = tmp_path_factory.mktemp("causal")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = tiny_model("llama")
        make_tokenizer("none").save_pretrained(folder / "base")
        model.save_pretrained(folder / "base")
        config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        get_peft_model(type(model).from_pretrained(folder / "base"), config).save_pretrained(folder / "lora")
    return folder


def inspect(arms: Path, arm: str, count: int = 40, dtype: str = "float32") -> CheckpointFacts:
    checkpoint = read_checkpoint(arm, str(arms / arm), str(arms / "base"))
    return inspect_checkpoint(checkpoint, TASK, place("cpu", dtype), texts(count))


def test_in_float32_no_generated_text_changes_with_batch_order_or_merge(arms: Path) -> None:
    assert inspect(arms, "lora").noise == NoiseFloor(16, batch=0.0, merge=0.0)
    assert inspect(arms, "base").noise == NoiseFloor(16, batch=0.0, merge=None)


def test_in_other_precisions_more_texts_are_asked_about_again_or_all_there_are(arms: Path) -> None:
    found = inspect(arms, "lora", dtype="bfloat16")

    assert found.noise is not None and found.noise.n == 40
    assert any("answers change with batch size and order" in note for note in found.notes) == (found.noise.share > 0)


def test_a_trained_model_that_generates_may_be_near_the_floor_and_its_base_may_not(arms: Path) -> None:
    trained, base = inspect(arms, "lora"), inspect(arms, "base")

    assert trained.clean_accuracy <= trained.majority_share
    assert not trained.failures
    assert any("it is near the floor, where differences say nothing of robustness" in note for note in trained.notes)
    assert [failure.partition(":")[0] for failure in base.failures] == ["clean-accuracy"]


def test_arms_that_are_batched_or_merged_in_different_ways_are_told_apart(arms: Path) -> None:
    pair: Any = SimpleNamespace(name="p")
    base, lora = inspect(arms, "base"), inspect(arms, "lora")

    assert list(describe_rounding(pair, base, lora)) == []
    (alone,) = describe_rounding(pair, base, replace(lora, padded=False))
    (apart,) = describe_rounding(pair, replace(base, stays_apart=True), lora)

    assert alone == "pair p: texts of unequal length share batches on one arm, and not on lora"
    assert apart.startswith("pair p: base cannot be merged into its base, and computes beside it")


class Moody:
    """Answers with the second label where it is asked about so many texts at once, or about the second in a batch."""

    model = None
    grader = LabelGrader(("no", "yes"))

    def __init__(self, *, together: int = -1, behind: int = -1) -> None:
        self.together, self.behind = together, behind

    def rows(self, asked: list[Example]) -> np.ndarray:
        yes = [len(asked) == self.together or place == self.behind for place in range(len(asked))]
        return np.array([[0, 1] if each else [1, 0] for each in yes], dtype=np.float32)


def measured(monkeypatch: pytest.MonkeyPatch, heads: list[Moody], *, merged: bool) -> NoiseFloor | None:
    loaded: Any = SimpleNamespace(unmerged=None)
    monkeypatch.setattr(noise, "as_victim", lambda *args: heads.pop(0))
    head: Any = heads[0]
    return measure_noise(head, loaded, place("cpu"), texts(9), merged=merged)


def test_the_floor_is_the_larger_share_of_answers_that_are_other_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    alike, by_place, by_merge = Moody(), Moody(behind=1), Moody(together=9)

    found = measured(monkeypatch, [alike, by_place, by_merge], merged=True)

    assert found is not None
    assert (found.n, found.batch, found.merge, found.share) == (9, pytest.approx(1 / 3), 1.0, 1.0)


def test_answers_are_compared_text_by_text_though_they_are_asked_for_in_another_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Constant(Moody):
        def rows(self, asked: list[Example]) -> np.ndarray:
            return np.array([[0, 1] if int(e.id) % 2 else [1, 0] for e in asked], dtype=np.float32)

    found = measured(monkeypatch, [Constant(), Constant()], merged=False)

    assert found == NoiseFloor(9, batch=0.0, merge=None)


def test_where_nothing_was_answered_nothing_is_measured() -> None:
    head: Any = Moody()
    loaded: Any = None

    assert measure_noise(head, loaded, place("cpu"), [], merged=False) is None
