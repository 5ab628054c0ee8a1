from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import Architecture, answer_plainly
from architectures import sentences as sentences_of
from transformers import AutoModel, AutoTokenizer

from robustness import Example
from robustness.errors import DataError
from robustness.recipes.language_models import similarity
from robustness.recipes.language_models.similarity import SentenceEncoder, SentenceSimilarity
from robustness.recipes.text.constraints import Constraints
from robustness.recipes.text.edits import WordEdits

CPU = torch.device("cpu")
TEXTS = ["the film is good", "a plot", "", "it was a very fine story of the cold actor , never dull", "film"]


@pytest.fixture(scope="module")
def sentences(shared_data: Path) -> list[str]:
    with (shared_data / "glue/SST-2/dev.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row["sentence"].strip() for row in rows[:40]]


def one_by_one(folder: Path, texts: list[str]) -> Any:
    """The mean of the tokens' states, one text a pass, nothing padded, in double precision."""
    model, tokenizer = AutoModel.from_pretrained(folder).double().eval(), AutoTokenizer.from_pretrained(folder)
    means = []
    for text in texts:
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        means.append(states.mean(dim=0).numpy())
    return np.stack([mean / np.linalg.norm(mean) for mean in means])


def test_texts_become_the_mean_of_their_tokens_whatever_stands_beside_them(bert_lm: Path) -> None:
    vectors = SentenceEncoder(bert_lm, CPU).encode(TEXTS)

    np.testing.assert_allclose(vectors, one_by_one(bert_lm, TEXTS), atol=1e-5)


@pytest.mark.parametrize("architecture", [Architecture("distilbert"), Architecture("mpnet", 62)], ids=str)
def test_an_encoder_is_given_what_it_takes_of_a_text(architecture: Architecture, tmp_path: Path) -> None:
    model = architecture.save(tmp_path, AutoModel)
    texts = [text for (text,) in [*sentences_of(5, 30), ("fine " * 90,)]]
    states = [answer_plainly(model, tmp_path, (text,), architecture.longest).last_hidden_state[0] for text in texts]
    expected = torch.nn.functional.normalize(torch.stack([each.mean(dim=0) for each in states]), dim=1)

    vectors = SentenceEncoder(tmp_path, CPU).encode(texts)

    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_an_encoder_that_answers_by_position_gives_the_same_vectors(tmp_path: Path) -> None:
    Architecture("bert").save(tmp_path, AutoModel)
    expected = SentenceEncoder(tmp_path, CPU).encode(["film is fine"])
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"return_dict": False}))

    np.testing.assert_array_equal(SentenceEncoder(tmp_path, CPU).encode(["film is fine"]), expected)


def test_an_encoder_whose_tokenizer_knows_no_word_is_refused(tmp_path: Path) -> None:
    """To it all texts would be alike."""
    Architecture("bert").save(tmp_path, AutoModel)
    (tmp_path / "tokenizer.json").unlink()

    with pytest.raises(DataError, match=f"sentence encoder {tmp_path}: no tokenizer: "):
        SentenceEncoder(tmp_path, CPU).encode(["film is fine"])


def test_vectors_are_those_of_sentence_transformers(minilm: Path, sentences: list[str]) -> None:
    package = pytest.importorskip("sentence_transformers", reason="an oracle that the package does not need")

    ours = SentenceEncoder(minilm, CPU).encode(sentences)

    theirs = package.SentenceTransformer(str(minilm), device="cpu").encode(sentences, normalize_embeddings=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("metric", ["cosine", "angular"])
def test_candidates_below_the_threshold_are_left_out(bert_lm: Path, metric: Any) -> None:
    clean = Example("1", (TEXTS[0],), label=1)
    candidates = [clean.replace_word(3, word) for word in ("fine", "dull", "bleak", "warm", "plot")]
    vectors = one_by_one(bert_lm, [TEXTS[0], *(each.texts[0] for each in candidates)])
    values = vectors[1:] @ vectors[0]
    if metric == "angular":
        values = np.array([1 - math.acos(min(1.0, value)) / math.pi for value in values])
    threshold = float(np.sort(values)[1:3].mean())  # between the second and the third

    found = SentenceSimilarity(SentenceEncoder(bert_lm, CPU), threshold, metric).near(clean, candidates, 3)

    assert found == [each for each, value in zip(candidates, values, strict=True) if value >= threshold]
    assert len(found) == 3


class CountingEncoder:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def encode(self, texts: list[str]) -> Any:
        self.asked.append(list(texts))
        return np.ones((len(texts), 1), dtype=np.float32)


def test_the_clean_text_is_encoded_once_and_candidates_in_one_go() -> None:
    encoder: Any = CountingEncoder()
    similarity = SentenceSimilarity(encoder, 0.5, "cosine")
    clean = Example("1", ("the film is good",), label=1)

    for index in (1, 3):
        similarity.near(clean, [clean.replace_word(index, word) for word in ("fine", "dull")], index)

    assert [len(each) for each in encoder.asked] == [2, 1, 2]
    assert encoder.asked.count(["the film is good"]) == 1


def test_the_window_is_textattacks(textattack: Any, sentences: list[str]) -> None:
    from textattack.shared import AttackedText

    encoder: Any = CountingEncoder()
    similarity = SentenceSimilarity(encoder, 0.5, "cosine", 15, skip_shorter=True)
    compared = 0
    for sentence in sentences:
        clean = Example("1", (sentence,), label=1)
        for index in range(len(clean.words)):
            encoder.asked.clear()
            candidate = clean.replace_word(index, "changed")
            similarity.near(clean, [candidate], index)
            theirs = AttackedText(candidate.texts[0]).text_window_around_index(index, 15)

            if len(clean.words) < 15:
                assert encoder.asked == []
            else:
                assert encoder.asked[0] == [theirs]
                compared += 1
    assert compared > 200


def test_a_model_is_asked_only_about_what_cheaper_constraints_leave() -> None:
    encoder: Any = CountingEncoder()
    constraints = Constraints(max_edit_distance=1, sentence_similarity=SentenceSimilarity(encoder, 0.5, "cosine"))
    clean = Example("1", ("the film is good",), label=1)
    edits = WordEdits([lambda word, rng: ["x" * 9, f"{word}s"]], constraints)

    found = edits.candidates(clean, clean, 1, np.random.default_rng(0))

    assert [each.texts for each in found] == [("the films is good",)]
    assert encoder.asked[0] == ["the films is good"]


def test_windows_reach_over_the_segments_of_a_pair() -> None:
    encoder: Any = CountingEncoder()
    pair = Example("1", ("one two , three .", "four five"), label=1, attacked=(0, 1))

    SentenceSimilarity(encoder, 0.5, "cosine", 3).near(pair, [pair.replace_word(3, "six")], 3)

    assert encoder.asked[0] == ["three\nsix five"]


def test_another_pooling_is_refused(bert_lm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(bert_lm, folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))

    with pytest.raises(DataError, match="expected mean pooling"):
        SentenceEncoder(folder, CPU)


def test_a_question_is_answered_once_and_what_is_remembered_holds_no_texts(
    bert_lm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similarity, "REMEMBERED", 2)
    encoder = SentenceEncoder(bert_lm, CPU)
    near, asked = SentenceSimilarity(encoder, 0.5, "cosine"), []
    monkeypatch.setattr(near, "_compare", lambda clean, texts: asked.append(texts) or np.ones(len(texts)))

    for texts in (["a"], ["b"], ["a"], ["a", "b"], ["a"], ["b"]):  # the third forgets ["b"]
        near.similarities("film", texts)

    assert asked == [["a"], ["b"], ["a", "b"], ["b"]]
    assert {type(key) for key in near._cosines} == {bytes} and len(near._cosines) == 2
