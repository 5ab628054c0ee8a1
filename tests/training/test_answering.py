from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers import BertTokenizerFast

from robustness.definitions.pairs import read_pairs
from robustness.definitions.tasks import find_task
from robustness.errors import UsageError
from robustness.tasks.answer_scores import score_answer
from robustness.training.examples.answering import LABEL_NAMES, encode_windows, f1_metric
from robustness.training.examples.loading import load_rows
from robustness.training.protocol import TrainingSettings
from robustness.training.training import train
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.loading import load_checkpoint, place, to_victim


def test_positions_are_those_of_the_answer_and_windows_without_it_have_none(answering: Any) -> None:
    tokenizer = BertTokenizerFast.from_pretrained(answering.base)
    examples = [e.with_texts((e.texts[0], e.texts[1] + " hugo works in tokyo ." * 20)) for e in answering.examples()]

    all_windows = encode_windows(examples, tokenizer, 64, answered_only=False)
    answered = encode_windows(examples, tokenizer, 64, answered_only=True)

    assert len(answered) == len(examples) < len(all_windows)
    for window, example in zip(answered, examples, strict=True):
        first, last = (window[name] for name in LABEL_NAMES)
        assert tokenizer.decode(window["input_ids"][first : last + 1]) == example.answers[0].text
    assert {window[LABEL_NAMES[0]] for window in all_windows} >= {-100}


def test_perfect_logits_have_an_f1_of_one_and_others_less(answering: Any) -> None:
    tokenizer = BertTokenizerFast.from_pretrained(answering.base)
    examples = answering.examples()
    windows = encode_windows(examples, tokenizer, 64, answered_only=False)
    logits = np.full((2, len(windows), max(len(w["input_ids"]) for w in windows)), -5.0, dtype=np.float32)
    for index, window in enumerate(windows):
        for part, name in enumerate(LABEL_NAMES):
            logits[part, index, window[name]] = 5.0
    metric = f1_metric(examples, tokenizer, 64)

    assert metric(SimpleNamespace(predictions=tuple(logits)))["score"] == 1
    assert metric(SimpleNamespace(predictions=tuple(np.zeros_like(logits))))["score"] < 0.5


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """What the training of `pairs` has said."""
    return []


@pytest.fixture(scope="module")
def pairs(answering: Any, lines: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    testset = folder / "questions.toml"
    definition = answering.testset.read_text()
    testset.write_text(definition + '\n[[train.local]]\nreader = "squad"\nfile = "questions/train.json"\n')
    return train(
        str(testset),
        base=str(answering.base),
        methods=("full", "lora"),
        seeds=(0,),
        out=folder / "ck",
        data=answering.data,
        limit=64,
        settings=TrainingSettings(epochs=1, dev_limit=12, report_limit=12),
        device="cpu",
        progress=lines.append,
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


def test_freelb_trains_readers_too(answering: Any, pairs: Path, tmp_path: Path) -> None:
    written = train(
        str(pairs.parent.parent / "questions.toml"),
        base=str(answering.base),
        methods=("full", "full+freelb"),
        seeds=(0,),
        out=tmp_path / "ck",
        data=answering.data,
        limit=16,
        settings=TrainingSettings(max_steps=1, grid="one", dev_limit=4, report_limit=4),
        device="cpu",
    )

    names = read_pairs(written)[0].names
    arms = [json.loads((written.parent / name / "training.json").read_text()) for name in names]
    assert [arm["passes"] for arm in arms] == [1, 3]
    assert arms[0]["trials"][0]["losses"] < arms[1]["trials"][0]["losses"]


def test_a_pair_is_trained_whose_heads_load_again(answering: Any, pairs: Path) -> None:
    pair = read_pairs(pairs)[0]

    assert pair.task.name == "squad"
    for name, reference in (("full", pair.reference), ("peft", pair.candidate)):
        loaded = load_checkpoint(read_checkpoint(name, reference, pair.base), find_task("squad"))
        assert loaded.uninitialised == ()


def test_adapters_are_trained_with_segment_ids_as_the_full_arm_is(pairs: Path) -> None:
    pair = read_pairs(pairs)[0]

    config = json.loads((Path(pair.candidate) / "adapter_config.json").read_text())

    assert config["task_type"] is None  # PEFT's kind for question answering drops them
    assert config["modules_to_save"] == ["qa_outputs"]


def test_questions_are_selected_by_f1_and_the_record_says_so(answering: Any, pairs: Path) -> None:
    record = json.loads((Path(read_pairs(pairs)[0].candidate) / "training.json").read_text())
    rows = load_rows(str(pairs.parent.parent / "questions.toml"), answering.data, None, 12)

    assert record["metric"] == "f1"
    assert not any("accuracy" in key for key in (*record, *record["trials"][0]))
    assert (record["fingerprint"]["selecting_rows"], record["fingerprint"]["reporting_rows"]) == (12, 12)
    assert not {example.id for example in rows.selecting} & {example.id for example in rows.reporting}


def test_the_reporting_score_of_questions_is_the_f1_that_the_checkpoint_answers_with(
    answering: Any, pairs: Path
) -> None:
    pair = read_pairs(pairs)[0]
    record = json.loads((Path(pair.reference) / "training.json").read_text())
    rows = load_rows(str(pairs.parent.parent / "questions.toml"), answering.data, None, 12, 12)

    victim = to_victim(
        load_checkpoint(read_checkpoint("x", pair.reference, pair.base), find_task("squad")), place("cpu")
    )
    answers = victim.predict([example.texts for example in rows.reporting], n_best=1)
    f1 = [score_answer(a.best, e.answers).f1 for a, e in zip(answers, rows.reporting, strict=True)]

    assert record["reporting_score"] == pytest.approx(np.mean(f1))


def test_the_progress_of_questions_names_f1(pairs: Path, lines: list[str]) -> None:
    assert pairs.is_file()
    assert [line for line in lines if "epoch 1/1: dev F1 0." in line]
    assert not [line for line in lines if "accuracy" in line]
