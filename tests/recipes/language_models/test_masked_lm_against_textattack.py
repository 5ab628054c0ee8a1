"""Candidates of masked language models beside TextAttack 0.3.11's, given the same model.

What differs, and why, is asserted here: TextAttack takes inner pieces and special tokens for words, at the start of a
text also tokens that a blank belongs to; before it inserts or merges it cuts what stands before the first word and
after the last, the brackets of a mask there included, and so has no candidates there; it writes no capitals. All else
is equal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from robustness import Example
from robustness.recipes.language_models.infilling import Insertions, Merges, Replacements, Rereadings
from robustness.recipes.language_models.masked_lm import MaskedLanguageModel
from robustness.recipes.text.function_words import FUNCTION_WORDS

SENTENCES = [
    "the film is good",
    "a very fine plot , not dull",
    "it was never warm - the actor is bleak",
    "good scene of a cold story ! the song is fine",
    "film",
]
CAPITALS = "The Film is GOOD"
PARTS = {"film": "NOUN", "plot": "NOUN", "actor": "NOUN", "fine": "ADJ", "good": "ADJ", "cold": "ADJ", "the": "DET"}
CPU = torch.device("cpu")
EVERY = 10_000
"""More candidates than any vocabulary here has tokens."""


@pytest.fixture(params=["bert_lm", "roberta_lm"])
def folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def theirs_with(transformation: type, folder: Path, **options: Any) -> Any:
    model = AutoModelForMaskedLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return transformation(masked_language_model=model, tokenizer=tokenizer, max_length=48, **options)


def tag(words: list[str]) -> list[str]:
    return [PARTS.get(word, "X") for word in words]


def listed(transformation: Any, sentence: str, index: int) -> list[str]:
    from textattack.shared import AttackedText

    return [each.text for each in transformation._get_transformations(AttackedText(sentence), [index])]


def no_words(folder: Path) -> set[str]:
    """What TextAttack takes for words and we do not: inner pieces without their mark, and special tokens."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    inner = {t for t in tokens if t.startswith("##")} or {t for t in tokens if not t.startswith("Ġ")}
    return {t.removeprefix("##") for t in inner} | set(tokenizer.all_special_tokens)


def test_replacements_are_textattacks_without_pieces_of_words(textattack: Any, folder: Path) -> None:
    from textattack.transformations import WordSwapMaskedLM

    transformation = theirs_with(WordSwapMaskedLM, folder, method="bae", max_candidates=EVERY, min_confidence=0.0)
    ours = Replacements(MaskedLanguageModel(folder, CPU), EVERY, context="clean")
    compared = 0
    for sentence in SENTENCES:
        clean = Example("1", (sentence,), label=0)
        for i in range(len(clean.words)):
            found = [c.words[i] for c in ours.candidates(clean, clean, i, range(len(clean.words)))]
            texts = listed(transformation, sentence, i)
            mine = [clean.replace_word(i, word).texts[0] for word in found]
            extra = {clean.replace_word(i, word).texts[0] for word in no_words(folder)}

            assert set(mine) <= set(texts), (sentence, i)
            if i > 0 or folder.name.startswith(
                "bert"
            ):  # where no blank stands before, tokens marked with one are none
                assert set(texts) - set(mine) <= extra, (sentence, i)
            unlike = [text for text in mine if text not in extra]  # by its text alone a piece may be taken for a word
            assert [text for text in texts if text in unlike] == unlike, (sentence, i)
            compared += len(mine)
    assert compared > 300


def test_without_pieces_in_the_vocabulary_replacements_are_textattacks(
    textattack: Any, bert_lm: Path, tmp_path: Path
) -> None:
    """Equal lists, in order, for a small number of candidates and for a lowest probability."""
    from textattack.transformations import WordSwapMaskedLM
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    pieces = AutoTokenizer.from_pretrained(bert_lm).get_vocab()
    words = sorted((w for w in pieces if not w.startswith("##")), key=lambda w: (not w.startswith("["), w))
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=48,
        initializer_range=0.4,
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = BertForMaskedLM(config)
    special = [i for i, word in enumerate(words) if not word[0].isalpha()]
    with torch.no_grad():  # what is no word is never likely: TextAttack counts it before it drops it
        model.cls.predictions.bias[special] = -100.0
    model.save_pretrained(tmp_path)
    BertTokenizerFast.from_pretrained(tmp_path, model_max_length=48).save_pretrained(tmp_path)

    for count, least in ((10, 0.0), (EVERY, 0.02)):
        transformation = theirs_with(
            WordSwapMaskedLM, tmp_path, method="bae", max_candidates=count, min_confidence=least
        )
        ours = Replacements(MaskedLanguageModel(tmp_path, CPU), count, least, context="clean")
        for sentence in SENTENCES:
            clean = Example("1", (sentence,), label=0)
            for i in range(len(clean.words)):
                found = ours.candidates(clean, clean, i, range(len(clean.words)))
                assert [c.texts[0] for c in found] == listed(transformation, sentence, i), (sentence, i, count)


def test_insertions_are_textattacks_without_pieces_of_words(textattack: Any, folder: Path) -> None:
    from textattack.transformations import WordInsertionMaskedLM

    transformation = theirs_with(WordInsertionMaskedLM, folder, max_candidates=EVERY, min_confidence=0.0)
    ours = Insertions(MaskedLanguageModel(folder, CPU), EVERY, context="clean")
    for sentence in SENTENCES:
        clean = Example("1", (sentence,), label=0)
        for i, own in enumerate(clean.words):
            found = [c.texts[0] for c in ours.candidates(clean, clean, i, range(len(clean.words)))]
            texts = listed(transformation, sentence, i)

            if i == 0:  # "[MASK] the film" is cut to "MASK] the film"
                assert texts == [] and found
                continue
            extra = {clean.replace_word(i, f"{word} {own}").texts[0] for word in no_words(folder)}
            assert set(found) <= set(texts), (sentence, i)
            assert set(texts) - set(found) <= extra, (sentence, i)


def test_merges_are_textattacks_without_pieces_of_words(
    textattack: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of speech are given: TextAttack's come from flair, whose model would have to be downloaded."""
    from textattack.shared import AttackedText
    from textattack.transformations import WordMergeMaskedLM

    monkeypatch.setattr(AttackedText, "pos_of_word_index", lambda text, i: tag(text.words)[i])
    transformation = theirs_with(WordMergeMaskedLM, folder, max_candidates=EVERY, min_confidence=0.0)
    ours = Merges(MaskedLanguageModel(folder, CPU), EVERY, 0.0, tagger=tag)
    merged = 0
    for sentence in SENTENCES:
        clean = Example("1", (sentence,), label=0)
        every = range(len(clean.words))
        made = [c for i in every for c in ours.candidates(clean, clean, i, every)]
        found = {c.texts[0] for c in made if 1 < c.words.index("") < len(clean.words) - 1}  # a mask inside the text
        texts = set(listed(transformation, sentence, 0))

        extra = {
            clean.merge_words(i, word).texts[0]
            for i in every
            if i + 1 < len(clean.words)
            for word in no_words(folder)
        }
        assert found <= texts, sentence
        assert texts - found <= extra, sentence
        merged += len(found)
    assert merged > 50


def test_rereadings_of_words_of_one_piece_are_textattacks_without_function_words(
    textattack: Any, bert_lm: Path
) -> None:
    from textattack.transformations import WordSwapMaskedLM

    transformation = theirs_with(WordSwapMaskedLM, bert_lm, method="bert-attack", max_candidates=12)
    ours = Rereadings(MaskedLanguageModel(bert_lm, CPU), 12)
    special = set(AutoTokenizer.from_pretrained(bert_lm).all_special_tokens)
    for sentence in SENTENCES:
        clean = Example("1", (sentence,), label=0)
        for i in range(len(clean.words)):
            found = [c.texts[0] for c in ours.candidates(clean, clean, i, range(len(clean.words)))]

            left_out = {
                clean.replace_word(i, word).texts[0] for word in FUNCTION_WORDS | special | {"1990", "2", "'", "."}
            }
            texts = listed(transformation, sentence, i)
            assert found == [text for text in texts if text not in left_out], (sentence, i)


def test_capitals_are_kept_where_textattack_writes_none(textattack: Any, bert_lm: Path) -> None:
    from textattack.transformations import WordSwapMaskedLM

    transformation = theirs_with(WordSwapMaskedLM, bert_lm, method="bae", max_candidates=EVERY, min_confidence=0.0)
    clean = Example("1", (CAPITALS,), label=0)
    ours = Replacements(MaskedLanguageModel(bert_lm, CPU), EVERY, context="clean")

    found = {c.texts[0] for c in ours.candidates(clean, clean, 1, range(4))}

    texts = listed(transformation, CAPITALS, 1)
    assert "The film is GOOD" in texts and "The film is GOOD" not in found
    assert {text.lower() for text in found} <= {text.lower() for text in texts}
    assert all(text.split()[1].istitle() for text in found)
