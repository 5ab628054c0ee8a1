"""A study of tiny models: a base that one epoch teaches to tell good words from bad ones, rows, and definitions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from learnable_rows import BAD, GOOD, VOCABULARY, write_splits

WIDTH, LETTERS = 32, 26
OPINIONS = {**dict.fromkeys(GOOD, 1.0), **dict.fromkeys(BAD, -1.0)}
STUDY = """
base = "base"
tasks = ["tiny.toml"]
methods = {methods}
seeds = {seeds}
suites = {suites}
{more}
[training]
epochs = {epochs}
grid = "one"
dev_limit = 40
{training}
"""


def write_study(
    folder: Path,
    *,
    methods: str = '["full", { method = "lora", rank = [1, 2] }]',
    seeds: str = "[0, 1]",
    suites: str = '["letters.toml"]',
    more: str = "",
    epochs: int = 2,
    training: str = "",
) -> Path:
    """Writes a base, rows, a suite and a study into a folder; returns the study's file."""
    if not (folder / "base").is_dir():
        write_base(folder / "base")
        write_rows(folder)
    file = folder / "study.toml"
    values = {"methods": methods, "seeds": seeds, "suites": suites, "more": more, "epochs": epochs}
    file.write_text(STUDY.format(**values, training=training), encoding="utf-8")
    return file


def write_base(folder: Path, opinions: Mapping[str, float] = OPINIONS, *, length: int = 32) -> None:
    """Saves a BERT of one layer that averages its words: good and bad ones are opposite vectors, letters any.

    Args:
        folder: where it is saved.
        opinions: words with opinions from -1 to 1.
        length: most tokens of a text.
    """
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True)
    words = list(dict.fromkeys([*VOCABULARY, *(word for word in opinions if len(word) > 1)]))
    words += list("abcdefghijklmnopqrstuvwxyz")
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=WIDTH,
        max_position_embeddings=length,
        initializer_range=1e-3,  # of the head, so that few steps decide its answers
        layer_norm_eps=0.1,  # keeps the zero vectors of other words small while they are trained
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(7)
        model = BertModel(config)
        side = torch.sign(torch.randn(WIDTH))
        embedded = model.embeddings.word_embeddings.weight
        embedded[:-LETTERS] = 0
        embedded[-LETTERS:] = torch.randn(LETTERS, WIDTH)
        model.embeddings.position_embeddings.weight.zero_()
        model.embeddings.token_type_embeddings.weight.zero_()
        for word, opinion in opinions.items():
            if len(word) > 1:
                embedded[words.index(word)] = opinion * side
        attention = model.encoder.layer[0].attention
        attention.self.value.weight.copy_(torch.eye(WIDTH))
        attention.output.dense.weight.copy_(3 * torch.eye(WIDTH))
        model.pooler.dense.weight.copy_(torch.eye(WIDTH))
    model.save_pretrained(folder)
    BertTokenizerFast.from_pretrained(folder, model_max_length=length).save_pretrained(folder)


def write_rows(folder: Path) -> None:
    """Writes training and development rows whose label one word tells, a test set of them, and a suite."""
    write_splits(folder, train=64, dev=80)
    columns = 'reader = "table"\nroot = "definition"\ncolumns = ["sentence"]\nlabel = "label"\n'
    (folder / "tiny.toml").write_text(
        'summary = "tiny"\nlicence = "none"\ntask = "sst2"\nkind = "clean"\n'
        f'[[test.local]]\nfile = "dev.tsv"\n{columns}[[train.local]]\nfile = "train.tsv"\n{columns}',
        encoding="utf-8",
    )
    (folder / "letters.toml").write_text(
        f'summary = "letters"\ntestsets = ["{folder / "tiny.toml"}"]\nattacks = ["deepwordbug"]\nlimit = 12\n',
        encoding="utf-8",
    )


def run_apart(file: Path, out: Path) -> None:
    """Runs a study of small models; what another process starts, which tests kill."""
    from robustness.options import StudySettings
    from robustness.study_call import study

    study(file, out, StudySettings(device="cpu"))
