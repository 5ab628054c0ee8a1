from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robustness.definitions.catalog import ATTACKS
from robustness.errors import DataError
from robustness.recipes import parts
from robustness.recipes.assets import lexical as assets
from robustness.recipes.assets.registry import ASSETS
from robustness.recipes.assets.resources import Resources
from robustness.recipes.building import find_attack, find_recipe


@pytest.fixture(autouse=True)
def no_data_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBUSTNESS_DATA", raising=False)
    monkeypatch.delenv("NLTK_DATA", raising=False)
    monkeypatch.setattr(assets, "_nltk_folders", list)


def test_a_missing_asset_is_named_with_where_it_was_looked_for_and_what_to_do(tmp_path: Path) -> None:
    pytest.importorskip("nltk")

    with pytest.raises(DataError) as refused:
        find_attack("pwws", Resources.of(tmp_path))

    message = str(refused.value)
    assert "wordnet" in message
    assert str(tmp_path / "nltk_data/corpora/wordnet") in message
    assert f"robustness assets get wordnet --data {tmp_path}" in message


def test_without_any_folder_the_message_says_so() -> None:
    with pytest.raises(DataError, match="no folder: none is named; give --data FOLDER"):
        assets.load_neighbours(Resources())


def test_without_nltk_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nltk", None)

    with pytest.raises(DataError, match=r"pip install 'peft-robustness\[textattack\]'"):
        assets.load_wordnet(Resources())


def test_a_list_that_is_not_the_published_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ASSETS["counter-fitted-neighbours"].path
    path.parent.mkdir(parents=True)
    path.write_text('{"good": ["fine"]}')

    with pytest.raises(DataError, match="not the published file"):
        assets.load_neighbours(Resources.of(tmp_path))


def test_a_zip_file_stands_for_the_folder_and_nltks_variable_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "corpora/wordnet.zip"
    archive.parent.mkdir()
    archive.touch()
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))

    assert assets.find_asset("wordnet", Resources.of()) == archive


def test_the_named_folder_comes_before_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("mine", "theirs"):
        path = tmp_path / folder / ASSETS["counter-fitted-neighbours"].path
        path.parent.mkdir(parents=True)
        path.touch()
    monkeypatch.setenv("ROBUSTNESS_DATA", str(tmp_path / "theirs"))

    found = assets.locate_asset("counter-fitted-neighbours", Resources.of(tmp_path / "mine"))

    assert found is not None
    assert found.is_relative_to(tmp_path / "mine")


def _assets_of(recipe: str) -> list[str]:
    """What a recipe reads, of the registry's assets and pretrained models."""
    needs = parts._needs(find_recipe(recipe).definition)
    names = [name.rsplit("/", 1)[-1] if folder else name for name, folder in needs]
    return [name for name in dict.fromkeys(names) if name in ASSETS]


def test_every_asset_a_recipe_reads_is_registered_and_every_registered_one_is_read() -> None:
    assert {name for each in ATTACKS.names() for name in _assets_of(each)} == set(ASSETS)


def test_a_recipes_assets_are_known_without_building_it() -> None:
    assert _assets_of("pwws") == ["wordnet"]
    assert _assets_of("deepwordbug") == []
    assert _assets_of("clare") == [
        "distilroberta-base",
        "averaged_perceptron_tagger_eng",
        "universal_tagset",
        "all-MiniLM-L6-v2",
    ]


def test_the_shared_assets_are_found_read_and_what_the_registry_says(shared_data: Path) -> None:
    pytest.importorskip("nltk")
    mine = Resources.of(shared_data)

    for name in ("wordnet", "averaged_perceptron_tagger_eng", "universal_tagset", "counter-fitted-neighbours"):
        found = assets.find_asset(name, mine)
        if name in ("universal_tagset", "counter-fitted-neighbours"):  # the others are packed in another way there
            assert hashlib.sha256(found.read_bytes()).hexdigest() == ASSETS[name].files[0].sha256
    assert "movie" in {name for sense in assets.load_wordnet(mine).synsets("film") for name in sense.lemma_names()}
    assert assets.load_tagger(mine)(["the", "film", "is", "good"]) == ["DET", "NOUN", "VERB", "ADJ"]
    assert assets.load_neighbours(mine)["film"][0] == "movie"
    assert np.mean([len(n) <= 8 for n in assets.load_neighbours(mine).values()]) == 1


def test_two_callers_of_one_process_have_each_their_own_data_folder(tmp_path: Path) -> None:
    path = tmp_path / ASSETS["counter-fitted-neighbours"].path
    path.parent.mkdir(parents=True)
    path.touch()
    mine, theirs = Resources.of(tmp_path), Resources.of(tmp_path / "theirs")

    assert assets.locate_asset("counter-fitted-neighbours", mine) == path
    assert assets.locate_asset("counter-fitted-neighbours", theirs) is None
    assert assets.locate_asset("counter-fitted-neighbours", mine) == path


COUNT_LINES = """
import sys
import nltk.data
import numpy as np
from robustness.engine.scheduler import Scheduler
from robustness.recipes.building import find_attack
from robustness.testsets.example import Example

lines, stream = [0], nltk.data.SeekableUnicodeStreamReader
read = stream.readline

def readline(self, *given, **named):
    lines[0] += 1
    return read(self, *given, **named)

stream.readline = readline

class Constant:
    def scores(self, texts):
        return np.tile(np.array([[0.0, 1.0]], dtype=np.float32), (len(texts), 1))

for n in (1, 2):
    text = f"the {n} films were a charming journey through a quiet country of old habits told with patience " * 5
    list(Scheduler(find_attack("pwws"), Constant(), seed=0).run([Example(str(n), (text,), 1)]))
    print(lines[0])
"""


def test_wordnet_is_read_once_a_process_and_without_what_other_languages_need(shared_data: Path) -> None:
    pytest.importorskip("nltk")
    environment = os.environ | {"ROBUSTNESS_DATA": str(shared_data)}

    told = subprocess.run(
        [sys.executable, "-c", COUNT_LINES], env=environment, capture_output=True, text=True, check=True
    ).stdout

    first, both = map(int, told.split())
    assert first < 200_000  # its 180,000 lines, in place of 594,000, and those of the words
    assert both - first < 1_000
