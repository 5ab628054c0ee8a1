from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForMaskedLM, AutoTokenizer

from robustness.errors import DataError
from robustness.recipes.language_models.masked_lm import Hole, MaskedLanguageModel, likeliest_combinations
from robustness.recipes.text.transformations.words import is_one_word

CPU = torch.device("cpu")
HOLES = [
    Hole("", " film is good ."),
    Hole("the ", " is good ."),
    Hole("the film ", " good, never dull"),
    Hole("the film is ", "."),
    Hole("it was a very fine ", ""),
    Hole("", ""),
    Hole("the (", ") film"),
]
MODELS = ["bert_lm", "roberta_lm"]


@pytest.fixture(params=MODELS)
def folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def load(folder: Path) -> tuple[Any, Any]:
    return AutoModelForMaskedLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def whole_words(tokenizer: Any, *, glued: bool) -> dict[int, str]:
    """Token ids that read as one word, by the marks of WordPiece and of byte-level BPE, written anew."""
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    is_word_piece = "##s" in tokens
    marked = {t[1:] for t in tokens if t.startswith("Ġ")}
    found = {}
    for id_, token in enumerate(tokens):
        if is_word_piece:
            start, text = not token.startswith("##"), token
        elif glued:
            start, text = token in marked, token
        else:
            start, text = token.startswith("Ġ"), token[1:]
        is_word = is_one_word(text, whole=True) and any(c.isalpha() for c in text)
        if start and id_ not in tokenizer.all_special_ids and is_word:
            found[id_] = text
    return found


def brute_force(folder: Path, hole: Hole, count: int, least: float) -> tuple[str, ...]:
    """One text, one forward pass, a walk down all probabilities."""
    model, tokenizer = load(folder)
    inputs = tokenizer(hole.before + tokenizer.mask_token + hole.after, return_tensors="pt")
    place = inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)
    with torch.no_grad():
        probabilities = model(**inputs).logits[0, place].softmax(dim=0).tolist()
    words = whole_words(tokenizer, glued=not hole.before or not hole.before[-1].isspace())
    ranked = sorted(range(len(probabilities)), key=lambda id_: -probabilities[id_])
    return tuple(words[id_] for id_ in ranked if id_ in words and probabilities[id_] >= least)[:count]


@pytest.mark.parametrize(("count", "least"), [(5, 0.0), (1000, 0.01)])
def test_holes_are_filled_with_the_likeliest_whole_words(folder: Path, count: int, least: float) -> None:
    filled = MaskedLanguageModel(folder, CPU).fill(HOLES, count, least)

    assert filled == [brute_force(folder, hole, count, least) for hole in HOLES]
    assert any(filled)


def test_what_fills_a_hole_does_not_depend_on_the_batch(folder: Path) -> None:
    together = MaskedLanguageModel(folder, CPU, batch_tokens=10_000).fill(HOLES, 8)
    alone = MaskedLanguageModel(folder, CPU, batch_tokens=1).fill(HOLES, 8)
    turned = MaskedLanguageModel(folder, CPU).fill(HOLES[::-1], 8)[::-1]

    assert together == alone == turned


def test_holes_of_one_length_share_a_forward_pass(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MaskedLanguageModel(folder, CPU)
    passes: list[int] = []
    run = model._logits
    monkeypatch.setattr(model, "_logits", lambda texts: passes.append(len(texts)) or run(texts))
    words = ["the", "film", "is", "not", "good"]
    holes = [Hole(" ".join([*words[:i], ""]), " ".join(["", *words[i + 1 :]])) for i in range(1, 5)]

    model.fill(holes, 3)

    assert passes == [4]


def test_a_hole_far_beyond_the_models_length_is_filled_from_what_stands_around_it(folder: Path) -> None:
    model = MaskedLanguageModel(folder, CPU)
    far = Hole("the film is good , " * 40, " dull . " + "it was a fine plot " * 40)

    assert model.fill([far], 5)[0]


def test_a_mask_written_in_the_text_is_not_taken_for_the_hole(bert_lm: Path) -> None:
    model, tokenizer = load(bert_lm)
    inputs = tokenizer("the [MASK] is [MASK] .", return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[0, 4]
    words = whole_words(tokenizer, glued=False)
    best = max(words, key=lambda id_: float(logits[id_]))

    assert MaskedLanguageModel(bert_lm, CPU).fill([Hole("the [MASK] is ", " .")], 1) == [(words[best],)]


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4), st.integers(1, 80))
def test_the_likeliest_combinations_are_those_of_the_whole_list(
    seed: int, positions: int, choices: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    values = -np.sort(-rng.normal(size=(positions, choices)), axis=1)
    ids = np.stack([rng.permutation(50)[:choices] for _ in range(positions)])

    found = likeliest_combinations(values, ids, count)

    places = itertools.product(range(choices), repeat=positions)
    ranked = sorted(places, key=lambda each: -sum(values[row, place] for row, place in enumerate(each)))
    assert found == [tuple(int(ids[row, place]) for row, place in enumerate(each)) for each in ranked[:count]]


def test_words_are_reread_in_one_pass_and_pieces_in_their_likeliest_combinations(bert_lm: Path) -> None:
    """Against all combinations, one after the other, ranked by the sum of log-probabilities."""
    text, count = "the films is goodly , not warming", 4
    model, tokenizer = load(bert_lm)
    inputs = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        rows = model(**inputs).logits[0].double().log_softmax(dim=1)
    words = whole_words(tokenizer, glued=False)
    spans = [(0, 3), (4, 9), (10, 12), (13, 19), (26, 33)]
    expected = []
    for start, end in spans:
        places = sorted({inputs.char_to_token(c) for c in range(start, end)})
        top = [rows[place].topk(count).indices.tolist() for place in places]
        ranked = sorted(
            itertools.product(*top),
            key=lambda each: -sum(float(rows[place, id_]) for place, id_ in zip(places, each, strict=True)),
        )
        if len(places) == 1:
            expected.append(tuple(words[id_] for (id_,) in ranked if id_ in words))
            continue
        joined = []
        for each in ranked[:count]:
            tokens = tokenizer.convert_ids_to_tokens(each)
            if not set(each) & set(tokenizer.all_special_ids):
                joined.append(" ".join(tokens).replace(" ##", ""))
        expected.append(tuple(dict.fromkeys(w for w in joined if is_one_word(w, whole=True) and w[0].isalpha())))

    found = MaskedLanguageModel(bert_lm, CPU).reread(text, spans, count)

    assert [len(tokenizer.tokenize(text[a:b])) for a, b in spans] == [1, 2, 1, 2, 2]
    assert found == expected
    assert any(found)


def test_words_beyond_the_models_length_are_reread_too(bert_lm: Path) -> None:
    model = MaskedLanguageModel(bert_lm, CPU)
    words = ["film", "is", "good", "very"] * 40
    text = " ".join(words)
    starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])]).tolist()
    spans = [(start, start + len(word)) for start, word in zip(starts, words, strict=True)]

    found = model.reread(text, spans, 20)

    assert all(found)


def test_capitals_are_told_apart_or_not(bert_lm: Path, roberta_lm: Path) -> None:
    assert MaskedLanguageModel(bert_lm, CPU).is_uncased
    assert not MaskedLanguageModel(roberta_lm, CPU).is_uncased


def test_a_folder_without_a_model_is_refused_with_its_name(tmp_path: Path, bert_lm: Path) -> None:
    (tmp_path / "config.json").write_text("{}")

    with pytest.raises(DataError, match="masked language model"):
        MaskedLanguageModel(tmp_path, CPU).fill([Hole("a ", "")], 1)
