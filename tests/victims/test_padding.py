from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architectures import Architecture, answer_plainly, make_tokenizer, sentences
from transformers import AutoModelForSequenceClassification

from robustness.definitions.tasks import find_task
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.heads.labels import Victim
from robustness.victims.loading import load_checkpoint, place, to_victim


def load(folder: Path) -> Victim:
    checkpoint = read_checkpoint("full", str(folder), str(folder))
    victim = to_victim(load_checkpoint(checkpoint, find_task("sst2")), place("cpu"))
    assert isinstance(victim, Victim)
    return victim


def write_tokenizer(folder: Path, frame: str, **settings: Any) -> None:
    tokenizer = make_tokenizer(frame)
    for name, value in settings.items():
        setattr(tokenizer, name, value)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("kind", "frame", "saved", "side", "padded"),
    [
        ("xlnet", "xlnet", "left", "left", True),  # reads the last place
        ("gpt2", "none", "left", "right", True),  # counts positions from the left, whatever is masked
        ("llama", "none", "left", "right", True),
        ("bert", "both", "left", "right", True),
        ("bert", "both", "right", "right", True),
        ("convbert", "both", "right", "right", False),  # its convolutions see what stands beside a token
        ("fnet", "both", "right", "right", False),
    ],
)
def test_texts_are_padded_where_it_changes_no_answer_and_not_at_all_where_it_always_would(
    kind: str, frame: str, saved: str, side: str, padded: bool, tmp_path: Path
) -> None:
    model = Architecture(kind, None, frame).save(tmp_path, AutoModelForSequenceClassification)
    write_tokenizer(tmp_path, frame, padding_side=saved)
    texts = sentences(6, 20)

    victim = load(tmp_path)

    expected = [answer_plainly(model, tmp_path, text, None).logits[0].numpy() for text in texts]
    np.testing.assert_allclose(victim.scores(texts), expected, atol=1e-4 * np.abs(expected).max())
    assert (victim.tokenizer.padding_side, victim.company.padded) == (side, padded)


@pytest.mark.parametrize(
    ("in_config", "in_tokenizer", "frame"),
    [
        (0, "<pad>", "none"),
        (None, None, "none"),
        (None, None, "end"),  # the end token ends every text, so it may not be taken for padding
        (-1, None, "end"),
        (1, None, "end"),
        (1, "<pad>", "end"),
        (3, "<pad>", "none"),
    ],
)
def test_a_decoder_reads_its_last_token_whatever_the_padding_token_is_said_to_be(
    in_config: int | None, in_tokenizer: str | None, frame: str, tmp_path: Path
) -> None:
    model = Architecture("llama", 64, frame).save(tmp_path, AutoModelForSequenceClassification)
    write_tokenizer(tmp_path, frame, pad_token=in_tokenizer)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"pad_token_id": in_config}))
    texts = [*sentences(6, 20), ("film </s> fine",)]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()

    scores = load(tmp_path).scores(texts)

    expected = [answer_plainly(model, tmp_path, text, None).logits[0].numpy() for text in texts]
    np.testing.assert_allclose(scores, expected, atol=1e-4 * np.abs(expected).max())
