"""What a method cannot do with a base is found before the first arm is trained, for every method of the call."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertTokenizerFast, ModernBertConfig, ModernBertModel

from robustness.errors import CheckpointError
from robustness.training import trainer
from robustness.training.adaptation import adapt
from robustness.training.execution import checkpoints, context
from robustness.training.methods import METHODS_FOLDER
from robustness.training.protocol import TrainingSettings
from robustness.training.training import train

SETTINGS = TrainingSettings(epochs=1, batch_size=8, max_tokens=16, dev_limit=40)
AGAIN: dict[str, Any] = {
    "methods": ["full", "lora"],
    "seeds": [0],
    "limit": 64,
    "settings": dataclasses.replace(SETTINGS, epochs=2),
    "device": "cpu",
}
"""What made the fixture `trained`."""
METHOD = """summary = "s"
learning_rates = [1e-3]
[adapter]
peft_type = "lora"
rank = 4
alpha = 8
dropout = 0.0
target_modules = {targets}
"""


@pytest.fixture
def refused(
    tiny_base: Path, data: Path, testset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Trains with what is given, which must be refused before any arm is made; returns the message."""

    def call(*methods: str, base: Path = tiny_base, **settings: Any) -> str:
        monkeypatch.setattr(checkpoints, "run_trial", lambda *given: pytest.fail("an arm was trained"))
        with pytest.raises(CheckpointError) as caught:
            train(
                testset,
                base=str(base),
                methods=["full", *methods],
                seeds=[0],
                out=tmp_path / "out",
                data=data,
                settings=dataclasses.replace(SETTINGS, **settings),
                device="cpu",
            )
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    return call


@pytest.fixture(scope="session")
def modern_base(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ModernBERT: query, key and value are one layer, and no file has the dense layer of its head."""
    folder = tmp_path_factory.mktemp("modern")
    words = (tiny_base / "vocab.txt").read_text().splitlines()
    ids = {f"{name}_token_id": words.index(word) for name, word in (("pad", "[PAD]"), ("cls", "[CLS]"))}
    ids |= {f"{name}_token_id": words.index(word) for name, word in (("bos", "[CLS]"), ("eos", "[SEP]"))}
    config = ModernBertConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=48,
        sep_token_id=words.index("[SEP]"),
        reference_compile=False,
        **ids,
    )
    ModernBertModel(config).save_pretrained(folder)
    BertTokenizerFast.from_pretrained(tiny_base).save_pretrained(folder)
    return folder


def method(folder: Path, name: str, targets: str, peft_type: str = "lora") -> str:
    path = folder / f"{name}.toml"
    path.write_text(METHOD.format(targets=targets).replace('"lora"', f'"{peft_type}"'))
    return str(path)


def test_a_base_without_query_and_value_is_refused_at_once(refused: Callable[..., str], modern_base: Path) -> None:
    message = refused("lora", base=modern_base)

    assert "lora: base of type modernbert: no query and value projections found" in message
    assert "its linear layers end in Wi, Wo, Wqkv, dense" in message


def test_a_fresh_layer_before_the_head_is_trained_and_saved(
    modern_base: Path, data: Path, testset: str, tmp_path: Path
) -> None:
    mine = method(tmp_path, "mine", '["Wqkv"]')

    pairs = train(
        testset,
        base=str(modern_base),
        methods=["full", mine],
        seeds=[0],
        out=tmp_path / "out",
        data=data,
        settings=SETTINGS,
        device="cpu",
    )

    weights = (pairs.parent / "tiny-mine-seed0" / "adapter_model.safetensors").read_bytes()
    assert b"head.dense.weight" in weights and b"classifier.weight" in weights


def test_every_method_that_fails_is_named_with_its_reason(refused: Callable[..., str], tmp_path: Path) -> None:
    absent, other = method(tmp_path, "absent", '["qkv"]'), method(tmp_path, "other", '["LayerNorm"]')

    message = refused("bitfit", absent, "lora", other)

    assert message.startswith("--method: nothing is trained, for a first step failed: ")
    absent_said = "base of type bert: target_modules qkv match no linear layer; its linear layers end in dense"
    assert f"absent: {absent_said}" in message
    assert "other: base of type bert: target_modules LayerNorm match no linear layer" in message
    assert "bitfit" not in message


def test_a_schedule_of_ranks_that_does_not_fit_the_steps_is_refused_at_once(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    """Of the steps that training will take, not of the one that is tried."""
    shipped = (METHODS_FOLDER / "adalora.toml").read_text().partition("[[study]]")[0]
    mine = shipped.replace("start_share = 0.1", "start_share = 0.5").replace("final_share = 0.4", "final_share = 0.5")
    (tmp_path / "mine.toml").write_text(mine)

    message = refused(str(tmp_path / "mine.toml"), max_steps=4)

    assert "mine: adalora: of 4 training steps the first 2 and the last 2 do not change ranks" in message


def test_what_a_library_raises_is_given_by_its_first_line(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(model: Any, _inputs: Any) -> None:
        if model.training:
            raise TypeError("\nno such input\nmore")

    def broken(*given: Any, **named: Any) -> Any:
        model = adapt(*given, **named)
        model.register_forward_pre_hook(fail)
        return model

    monkeypatch.setattr(trainer, "adapt", broken)

    assert refused("lora").endswith("a first step failed: full, lora: TypeError: no such input")


def test_a_row_that_does_not_fit_is_refused_at_once(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **_named: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer, "adapt", full)

    message = refused("lora")

    assert "full, lora: memory runs out even if a batch is run in 8 parts of one row: CUDA out of memory" in message
    assert "use --checkpointing, a smaller base" in message


def test_the_step_is_taken_on_the_longest_rows(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of the training rows, which need the most memory."""
    tried: list[list[int]] = []
    make, encode = trainer._trainer, context.encode_rows

    def watch(model: Any, trial: Any, rows: Any, *rest: Any) -> Any:
        tried.append([len(row["input_ids"]) for row in rows.train])
        return make(model, trial, rows, *rest)

    def note(*given: Any) -> Any:
        rows = encode(*given)
        tried.append(sorted(len(row["input_ids"]) for row in rows.train)[-SETTINGS.batch_size :])
        return rows

    monkeypatch.setattr(context, "encode_rows", note)
    monkeypatch.setattr(trainer, "_trainer", watch)

    refused(method(tmp_path, "absent", '["qkv"]'))

    assert tried[0] == tried[1] and len(tried) == 2  # the full arm's; the other never gets so far


def test_what_is_tried_changes_no_arm(
    trained: Path, tiny_base: Path, data: Path, testset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "try_step", lambda *given: None)

    pairs = train(testset, **AGAIN, base=str(tiny_base), out=tmp_path, data=data)

    weights = "tiny-lora-seed0/adapter_model.safetensors"
    assert (pairs.parent / weights).read_bytes() == (trained.parent / weights).read_bytes()


def test_finished_arms_are_not_tried_again(
    trained: Path, tiny_base: Path, data: Path, testset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "try_step", lambda *given: pytest.fail("a method was tried"))

    assert train(testset, **AGAIN, base=str(tiny_base), out=trained.parent, data=data) == trained
