from __future__ import annotations

from pathlib import Path

import pytest
import torch
from learnable_rows import VOCABULARY, write_splits
from transformers import BertConfig, BertForMaskedLM, BertModel, BertTokenizerFast

from robustness.training.protocol import TrainingSettings
from robustness.training.training import train

SETTINGS = TrainingSettings(epochs=2, batch_size=8, max_tokens=16, dev_limit=40)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with a pooler, as MiniLM has one."""
    return _save_base(BertModel, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def base_without_pooler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save_base(BertForMaskedLM, tmp_path_factory.mktemp("base-without-pooler"))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A --data folder whose rows are solved by looking for one word."""
    folder = tmp_path_factory.mktemp("data")
    write_splits(folder, train=96, dev=60)
    return folder


@pytest.fixture(scope="session")
def testset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A user's own definition of a clean test set with a training split."""
    path = tmp_path_factory.mktemp("definitions") / "tiny.toml"
    path.write_text(
        'summary = "tiny"\nlicence = "none"\ntask = "sst2"\nkind = "clean"\n'
        + "".join(
            f'[[{split}.local]]\nreader = "tsv"\nfile = "{file}.tsv"\ncolumns = ["sentence"]\nlabel = "label"\n'
            for split, file in (("test", "dev"), ("train", "train"))
        ),
        encoding="utf-8",
    )
    return str(path)


@pytest.fixture(scope="session")
def trained(tiny_base: Path, data: Path, testset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pairs file of one finished call; tests that change its folder copy it first."""
    out = tmp_path_factory.mktemp("trained") / "out"
    return train(
        testset,
        base=str(tiny_base),
        methods=["full", "lora"],
        seeds=[0],
        out=out,
        data=data,
        limit=64,
        settings=SETTINGS,
        device="cpu",
    )


def _save_base(model_class: type, folder: Path) -> Path:
    words = list(VOCABULARY)
    words += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"] + list("abcdefghijklmnopqrstuvwxyz")
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    tokenizer = BertTokenizerFast.from_pretrained(folder, model_max_length=48)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=48,
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model_class(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
