from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers import BertTokenizerFast

from robustness.definitions.pairs import read_pairs
from robustness.definitions.tasks import find_task
from robustness.errors import UsageError
from robustness.training.answering import LABEL_NAMES, encode_windows, f1_metric
from robustness.training.protocol import TrainingSettings
from robustness.training.training import train
from robustness.victims.checkpoint import read_checkpoint
from robustness.victims.loading import load_checkpoint


def test_positions_are_those_of_the_answer_and_windows_without_it_have_none(answering: Any) -> None:
    tokenizer = BertTokenizerFast.from_pretrained(answering.base)
    examples = [e.with_texts((e.texts[0], e.texts[1] + " hugo works in tokyo ." * 20)) for e in answering.examples()]

    all_windows = encode_windows(examples, tokenizer, answered_only=False)
    answered = encode_windows(examples, tokenizer, answered_only=True)

    assert len(answered) == len(examples) < len(all_windows)
    for window, example in zip(answered, examples, strict=True):
        first, last = (window[name] for name in LABEL_NAMES)
        assert tokenizer.decode(window["input_ids"][first : last + 1]) == example.answers[0].text
    assert {window[LABEL_NAMES[0]] for window in all_windows} >= {-100}


def test_perfect_logits_have_an_f1_of_one_and_others_less(answering: Any) -> None:
    tokenizer = BertTokenizerFast.from_pretrained(answering.base)
    examples = answering.examples()
    windows = encode_windows(examples, tokenizer, answered_only=False)
    logits = np.full((2, len(windows), max(len(w["input_ids"]) for w in windows)), -5.0, dtype=np.float32)
    for index, window in enumerate(windows):
        for part, name in enumerate(LABEL_NAMES):
            logits[part, index, window[name]] = 5.0
    metric = f1_metric(examples, tokenizer)

    assert metric(SimpleNamespace(predictions=tuple(logits)))["accuracy"] == 1
    assert metric(SimpleNamespace(predictions=tuple(np.zeros_like(logits))))["accuracy"] < 0.5


@pytest.fixture(scope="module")
def pairs(answering: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    testset = folder / "questions.toml"
    lines = answering.testset.read_text() + '\n[[train.local]]\nreader = "squad"\nfile = "questions/train.json"\n'
    testset.write_text(lines)
    return train(
        str(testset),
        base=str(answering.base),
        methods=("full", "lora"),
        seeds=(0,),
        out=folder / "ck",
        data=answering.data,
        limit=64,
        settings=TrainingSettings(epochs=1, dev_limit=12),
        device="cpu",
    )


@pytest.mark.parametrize("method", ["prefix", "prompt", "p-tuning"])
def test_learnt_vectors_are_refused_for_questions_before_anything_is_trained(
    answering: Any, pairs: Path, tmp_path: Path, method: str
) -> None:
    testset = str(pairs.parent.parent / "questions.toml")

    with pytest.raises(UsageError, match=rf"--method {method}: .* not trained for squad: peft's model"):
        train(
            testset,
            base=str(answering.base),
            methods=("full", method),
            seeds=(0,),
            out=tmp_path / "ck",
            data=answering.data,
        )

    assert not (tmp_path / "ck").exists()


def test_a_pair_is_trained_whose_heads_load_again(answering: Any, pairs: Path) -> None:
    pair = read_pairs(pairs)[0]

    assert pair.task == "squad"
    for name, reference in (("full", pair.full), ("peft", pair.peft)):
        loaded = load_checkpoint(read_checkpoint(name, reference, pair.base), find_task("squad"))
        assert loaded.uninitialised == ()


def test_adapters_are_trained_with_segment_ids_as_the_full_arm_is(pairs: Path) -> None:
    import json

    pair = read_pairs(pairs)[0]

    config = json.loads((Path(pair.peft) / "adapter_config.json").read_text())

    assert config["task_type"] is None  # PEFT's kind for question answering drops them
    assert config["modules_to_save"] == ["qa_outputs"]
