from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import robustness
from robustness import Example, RunSettings
from robustness.definitions.catalog import ATTACKS
from robustness.errors import DefinitionError
from robustness.recipes.building import find_attack
from robustness.recipes.language_models.infilling import Insertions, Merges, Replacements, Rereadings
from robustness.recipes.language_models.masked_lm import Hole, MaskedLanguageModel
from robustness.recipes.text.constraints import Constraints
from robustness.recipes.text.edits import WordEdits
from robustness.recipes.text.function_words import FUNCTION_WORDS
from robustness.testing import check_attack

CPU = torch.device("cpu")
TEXT = "the Film is (very) good , not dull"
PARTS = {"the": "DET", "film": "NOUN", "is": "VERB", "very": "ADV", "good": "ADJ", "not": "ADV", "dull": "ADJ"}


@pytest.fixture(scope="module")
def model(bert_lm: Path) -> MaskedLanguageModel:
    return MaskedLanguageModel(bert_lm, CPU)


def tag(words: list[str]) -> list[str]:
    return [PARTS[word.lower()] for word in words]


def example(text: str = TEXT) -> Example:
    return Example("1", (text,), label=1)


def every(clean: Example) -> range:
    return range(len(clean.words))


def test_a_word_is_replaced_by_what_fills_its_hole_in_its_own_case(model: MaskedLanguageModel) -> None:
    clean = example()

    found = Replacements(model, 4, context="clean").candidates(clean, clean, 1, every(clean))

    words = model.fill([Hole("the ", " is (very) good , not dull")], 4)[0]
    assert [each.words[1] for each in found] == [word.capitalize() for word in words if word != "film"]
    assert all(each.words[:1] + each.words[2:] == clean.words[:1] + clean.words[2:] for each in found)


def test_holes_are_those_of_the_clean_text_or_of_the_text_as_it_is_now(model: MaskedLanguageModel) -> None:
    clean = example("the film is good")
    current = clean.replace_word(1, "bleak")

    of_clean = Replacements(model, 3, context="clean").candidates(clean, current, 3, every(clean))
    of_current = Replacements(model, 3, context="current").candidates(clean, current, 3, every(clean))

    assert [c.words[3] for c in of_clean] == [w for w in model.fill([Hole("the film is ", "")], 3)[0] if w != "good"]
    assert [c.words[3] for c in of_current] == [
        w for w in model.fill([Hole("the bleak is ", "")], 3)[0] if w != "good"
    ]
    assert {each.words[1] for each in of_clean} == {"bleak"}


def test_all_holes_of_a_clean_text_are_filled_in_one_call_which_is_remembered(
    bert_lm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = MaskedLanguageModel(bert_lm, CPU)
    calls: list[int] = []
    fill = model.fill
    monkeypatch.setattr(model, "fill", lambda holes, *rest: calls.append(len(holes)) or fill(holes, *rest))
    source = Replacements(model, 3, context="clean")
    clean = example("the film is good")

    for index in (1, 3, 1):
        source.candidates(clean, clean.replace_word(0, "a"), index, [1, 3])

    assert calls == [2]


def test_a_word_is_inserted_before_another_without_moving_the_others(model: MaskedLanguageModel) -> None:
    clean = example("the film is good")

    found = Insertions(model, 3, context="clean").candidates(clean, clean, 3, every(clean))

    words = model.fill([Hole("the film is ", " good")], 3)[0]
    assert [each.texts for each in found] == [(f"the film is {word} good",) for word in words if word != "good"]
    assert all(len(each.words) == 4 for each in found)


def test_only_neighbours_of_fitting_parts_of_speech_with_blanks_between_are_merged(
    model: MaskedLanguageModel,
) -> None:
    clean = example()
    source = Merges(model, 1000, 0.0, tagger=tag)

    merged = {
        tuple(i for i, word in enumerate(each.words) if word == "")
        for index in every(clean)
        for each in source.candidates(clean, clean, index, every(clean))
    }

    assert merged == {(1,), (6,)}  # the Film; not dull; but neither "(very) good" nor "good , not"


def test_two_words_become_what_fills_their_one_hole(model: MaskedLanguageModel) -> None:
    clean = example("the film is good")
    source = Merges(model, 4, 0.0, tagger=tag)

    for index in (0, 1):
        found = source.candidates(clean, clean, index, [0, 1])
        words = model.fill([Hole("", " is good")], 4)[0]
        assert [each.texts for each in found] == [(f"{word} is good",) for word in words if word != "the"]
    assert source.candidates(clean, clean.replace_word(0, "a"), 1, [0, 1]) == []


def test_rereadings_leave_out_function_words_and_the_word_itself(model: MaskedLanguageModel) -> None:
    clean = example("the film is good")

    found = Rereadings(model, 1000).candidates(clean, clean, 3, every(clean))

    words = model.reread(clean.texts[0], [(12, 16)], 1000)[0]
    assert [each.words[3] for each in found] == [w for w in words if w != "good" and w not in FUNCTION_WORDS]
    assert set(words) & FUNCTION_WORDS


def test_pairs_are_read_together_and_only_open_segments_change(model: MaskedLanguageModel) -> None:
    pair = Example("1", ("the film is good", "a dull plot"), label=1, attacked=(1,))

    found = Replacements(model, 3, context="clean").candidates(pair, pair, 1, [1])

    words = model.fill([Hole("the film is good\na ", " plot")], 3)[0]
    assert [each.texts for each in found] == [(pair.texts[0], f"a {word} plot") for word in words if word != "dull"]


class SameParts:
    """Stands for a part-of-speech constraint that allows some words."""

    def __init__(self, allowed: set[str]) -> None:
        self.allowed = allowed

    def allows(self, words: tuple[str, ...], index: int, word: str) -> bool:
        return word in self.allowed


def test_constraints_on_words_apply_where_one_word_stands_for_one(model: MaskedLanguageModel) -> None:
    clean = example("the film is good")
    sources = [Replacements(model, 100, context="clean"), Insertions(model, 3, context="clean")]
    edits = WordEdits([], Constraints(same_part_of_speech=SameParts({"warm"})), sources)  # type: ignore[arg-type]

    found = edits.candidates(clean, clean, 3, np.random.default_rng(0))

    replaced = [each for each in found if " " not in each.words[3]]
    assert [each.words[3] for each in replaced] == ["warm"]
    assert len(found) > 1


def shipped_with(name: str, folder: Path, lm: Path, encoder: Path) -> Path:
    """The shipped recipe with models of one's own, as a user would write it, and few candidates a place."""
    text = ATTACKS.find(name).path.read_text(encoding="utf-8")
    for hub_id in ("google-bert/bert-base-uncased", "distilbert/distilroberta-base"):
        text = text.replace(hub_id, str(lm))
    path = folder / f"my-{name}.toml"
    text = text.replace("sentence-transformers/all-MiniLM-L6-v2", str(encoder))
    path.write_text(text.replace("count = 50", "count = 4").replace("count = 48", "count = 12"), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["bae", "bert-attack", "clare"])
def test_recipes_with_a_model_of_ones_own_keep_the_rules(
    name: str, shared_data: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    pytest.importorskip("nltk")
    lm = request.getfixturevalue("roberta_lm" if name == "clare" else "bert_lm")
    recipe = shipped_with(name, tmp_path, lm, request.getfixturevalue("bert_lm"))

    check_attack(find_attack(str(recipe)))


def test_both_arms_of_a_run_share_the_candidates_of_a_clean_text(
    tiny: Any, bert_lm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    reread = MaskedLanguageModel.reread
    monkeypatch.setattr(
        MaskedLanguageModel, "reread", lambda self, text, *rest: read.append(text) or reread(self, text, *rest)
    )
    recipe = shipped_with("bert-attack", tmp_path, bert_lm, bert_lm)

    report = robustness.run(
        "smoke",
        tiny.pairs,
        tmp_path / "run",
        RunSettings(data=tiny.data, testsets=[str(tiny.testset)], attacks=[str(recipe)], limit=8, device="cpu"),
    )

    rows = report.tables["examples"]
    attacked = rows[rows["attack"] == "my-bert-attack"]
    assert len(attacked) == 16 and set(attacked["status"]) <= {"succeeded", "failed", "skipped"}
    assert "succeeded" in set(attacked["status"])
    assert 0 < len(read) == len(set(read)) <= 8


def test_a_search_that_mixes_edits_refuses_parts_that_read_the_words_around(bert_lm: Path, tmp_path: Path) -> None:
    text = shipped_with("bert-attack", tmp_path, bert_lm, bert_lm).read_text(encoding="utf-8")
    old = 'kind = "greedy-word-ranking"\nranking = "unknown-token"\nunknown_token = "[UNK]"'
    assert old in text
    recipe = tmp_path / "mixed.toml"
    recipe.write_text(text.replace(old, 'kind = "genetic"\npopulation = 4\ngenerations = 2\ntemperature = 0.3'))

    with pytest.raises(DefinitionError, match="cannot serve the search genetic"):
        find_attack(str(recipe))


@pytest.mark.parametrize("context", [1, 2, 3])
def test_candidates_are_the_same_whatever_was_asked_before(context: int, bert_lm: Path) -> None:
    fresh, used = (MaskedLanguageModel(bert_lm, CPU) for _ in range(2))
    clean = example("the film is good")
    busy: Any = Replacements(used, 5, context="clean")
    for other in ("a dull plot", "it was never warm", "the scene is bleak")[:context]:
        busy.candidates(example(other), example(other), 0, range(3))

    ours = busy.candidates(clean, clean, 1, every(clean))

    assert ours == Replacements(fresh, 5, context="clean").candidates(clean, clean, 1, every(clean))
