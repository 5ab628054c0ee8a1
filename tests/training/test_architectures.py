"""Bases of many kinds are trained: each is given what it takes, and scores as its checkpoint answers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from architectures import Architecture, answer_plainly, make_tokenizer
from transformers import AutoModel, AutoModelForSequenceClassification

from robustness.definitions.pairs import read_pairs
from robustness.definitions.tasks import find_task
from robustness.errors import CheckpointError, DataError
from robustness.tasks.answer_scores import score_answer
from robustness.training.examples.encoding import encode_rows
from robustness.training.examples.loading import load_rows
from robustness.training.methods import METHODS_FOLDER
from robustness.training.protocol import TrainingSettings
from robustness.training.training import train
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.loading import load_checkpoint, place, to_victim

SETTINGS = TrainingSettings(max_steps=2, batch_size=8, dev_limit=12)
LABELLED = [
    (Architecture("distilbert"), "lora"),
    (Architecture("electra", settings={"return_dict": False}), "lora"),
    (Architecture("mpnet", 62), "lora"),
    (Architecture("roberta", 63), "lora"),
    (Architecture("t5", None, "end"), "lora"),
    (Architecture("bart", frame="end"), "lora"),
    (Architecture("xlnet", None, "xlnet"), "bitfit"),
]
"""The method trained beside the full one, where it can be."""


@pytest.fixture(scope="module")
def methods(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of the shipped methods with one learning rate each."""
    folder = tmp_path_factory.mktemp("methods")
    for name in ("full", "lora", "bitfit"):
        shipped = (METHODS_FOLDER / f"{name}.toml").read_text()
        (folder / f"one-{name}.toml").write_text(re.sub(r"learning_rates = .*", "learning_rates = [1e-3]", shipped))
    return {path.stem.removeprefix("one-"): str(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences, of which one is longer than any table of positions, with a definition that names them."""
    folder = tmp_path_factory.mktemp("rows")
    for split, offset in (("train", 0), ("dev", 7)):
        lines = ["sentence\tlabel", "film is fine " * 40 + split + "\t1"]
        lines += [
            f"a {('film', 'plot', 'song')[i % 3]} {'very ' * ((i + offset) % 11)}{word} {i}{split}\t{i % 2}"
            for i, word in enumerate(("dull", "fine") * 12)
        ]
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    source = '[[{}.local]]\nreader = "tsv"\nfile = "{}.tsv"\ncolumns = ["sentence"]\nlabel = "label"\n'
    head = 'summary = "tiny"\nlicence = "none"\ntask = "sst2"\nkind = "clean"\n'
    (folder / "tiny.toml").write_text(head + source.format("test", "dev") + source.format("train", "train"))
    return folder


@pytest.mark.parametrize(("architecture", "method"), LABELLED, ids=[str(each) for each, _ in LABELLED])
def test_a_base_is_trained_and_reports_what_its_checkpoint_answers(
    architecture: Architecture, method: str, methods: dict[str, str], rows: Path, tmp_path: Path
) -> None:
    architecture.save(tmp_path / "base", AutoModel)

    pairs = train(
        str(rows / "tiny.toml"),
        base=str(tmp_path / "base"),
        methods=[methods["full"], methods[method]],
        seeds=[0],
        out=tmp_path / "out",
        data=rows,
        settings=SETTINGS,
        device="cpu",
    )

    (pair,) = read_pairs(pairs)
    reporting = load_rows(str(rows / "tiny.toml"), rows, None, SETTINGS.dev_limit).reporting
    plain = AutoModelForSequenceClassification.from_pretrained(pair.reference).eval()
    answers = [answer_plainly(plain, Path(pair.reference), each.texts, architecture.longest) for each in reporting]
    right = [answer.logits[0].argmax() == each.label for answer, each in zip(answers, reporting, strict=True)]
    record = json.loads((Path(pair.reference) / "training.json").read_text())
    assert record["reporting_score"] == np.mean(right)
    for name in (pair.reference, pair.candidate):
        victim = to_victim(load_checkpoint(read_checkpoint("arm", name, pair.base), find_task("sst2")), place("cpu"))
        told = json.loads((Path(name) / "training.json").read_text())["reporting_score"]
        scores = victim.scores([each.texts for each in reporting])
        assert np.mean(scores.argmax(axis=1) == [each.label for each in reporting]) == told


def test_rows_of_a_decoder_whose_tokenizer_has_no_padding_are_padded_with_its_end_token(
    rows: Path, tmp_path: Path
) -> None:
    Architecture("gpt2", frame="none").save(tmp_path, AutoModel)
    tokenizer = make_tokenizer("none")
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"pad_token_id": None}))

    encoded = encode_rows(load_rows(str(rows / "tiny.toml"), rows, None, 12), tmp_path, 128)

    assert encoded.tokenizer.pad_token == "</s>"
    assert max(len(row["input_ids"]) for row in encoded.train) == 64


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Paragraphs of which some are longer than a window, with a definition that names them."""
    folder = tmp_path_factory.mktemp("questions")
    for split, offset in (("train", 1), ("dev", 2)):
        paragraphs = []
        for number in range(16):
            before = "a very cold song is not " * (offset + number % 5 * 4)
            answer = {"text": "fine film", "answer_start": len(before)}
            question = {"id": f"{split}{number}", "question": f"film is {number}", "answers": [answer]}
            paragraphs.append({"context": f"{before}fine film was {split} {number}", "qas": [question]})
        file = {"version": "1.1", "data": [{"title": "tiny", "paragraphs": paragraphs}]}
        (folder / f"{split}.json").write_text(json.dumps(file))
    source = '[[{}.local]]\nreader = "squad"\nfile = "{}.json"\n'
    head = 'summary = "tiny"\nlicence = "none"\ntask = "squad"\nkind = "clean"\n'
    (folder / "tiny.toml").write_text(head + source.format("test", "dev") + source.format("train", "train"))
    return folder


@pytest.mark.parametrize(
    "architecture",
    [Architecture("distilbert"), Architecture("bart", frame="end"), Architecture("t5", None, "end")],
    ids=str,
)
def test_readers_are_trained_and_report_the_f1_that_their_checkpoint_has(
    architecture: Architecture, methods: dict[str, str], questions: Path, tmp_path: Path
) -> None:
    architecture.save(tmp_path / "base", AutoModel)

    pairs = train(
        str(questions / "tiny.toml"),
        base=str(tmp_path / "base"),
        methods=[methods["full"], methods["lora"]],
        seeds=[0],
        out=tmp_path / "out",
        data=questions,
        settings=SETTINGS,
        device="cpu",
    )

    (pair,) = read_pairs(pairs)
    reporting = load_rows(str(questions / "tiny.toml"), questions, None, SETTINGS.dev_limit).reporting
    for name in (pair.reference, pair.candidate):
        victim = to_victim(load_checkpoint(read_checkpoint("arm", name, pair.base), find_task("squad")), place("cpu"))
        answers = victim.predict([each.texts for each in reporting], n_best=1)
        f1 = [score_answer(given.best, each.answers).f1 for given, each in zip(answers, reporting, strict=True)]
        told = json.loads((Path(name) / "training.json").read_text())["reporting_score"]
        assert told == pytest.approx(np.mean(f1))


def test_an_end_token_inside_a_row_is_refused_before_an_encoder_decoder_is_trained(
    rows: Path, tmp_path: Path
) -> None:
    Architecture("t5", None, "end").save(tmp_path / "base", AutoModel)
    (tmp_path / "dev.tsv").write_text((rows / "dev.tsv").read_text())
    (tmp_path / "train.tsv").write_text((rows / "train.tsv").read_text() + "the plot </s> is dull\t0\n")

    with pytest.raises(DataError, match=r"has 1 end tokens inside its text, such as </s>.* remove it"):
        train(
            str(rows / "tiny.toml"),
            base=str(tmp_path / "base"),
            methods=["full", "lora"],
            seeds=[0],
            out=tmp_path / "out",
            data=tmp_path,
            settings=SETTINGS,
        )


def test_a_base_whose_attention_turns_with_the_length_is_refused_before_training(rows: Path, tmp_path: Path) -> None:
    sparse = {"attention_type": "block_sparse", "block_size": 4, "num_random_blocks": 1}
    Architecture("big_bird", settings=sparse).save(tmp_path / "base", AutoModel)

    with pytest.raises(CheckpointError, match=r'a short batch .* set "attention_type": "original_full"'):
        train(
            str(rows / "tiny.toml"),
            base=str(tmp_path / "base"),
            methods=["full", "lora"],
            seeds=[0],
            out=tmp_path / "out",
            data=rows,
            settings=SETTINGS,
        )
