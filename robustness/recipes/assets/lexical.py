"""Lexical assets: finds and reads word lists, taggers and thesauri."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from robustness.errors import DataError
from robustness.recipes.assets.registry import ASSETS, Asset
from robustness.recipes.assets.resources import Resources

NLTK_INSTALL = "pip install 'peft-robustness[textattack]'"


def locate_asset(name: str, resources: Resources) -> Path | None:
    """Returns where an asset lies, or None."""
    return next((path for path in _places(ASSETS[name], resources) if path.exists()), None)


def find_asset(name: str, resources: Resources) -> Path:
    """Returns where an asset lies.

    Raises:
        DataError: the asset is missing; the message names the places searched and what to do.
    """
    found = locate_asset(name, resources)
    if found is not None:
        return found
    asset = ASSETS[name]
    # A zip file and the folder of the same name are one asset: list it once.
    places = [str(path) for path in _places(asset, resources) if path.suffix != ".zip"]
    raise DataError(
        f"asset {name} ({asset.purpose}; {asset.source}) is missing; looked in "
        f"{', '.join(places) or 'no folder: none is named'}; {how_to_get(name, resources)}"
    )


def how_to_get(name: str, resources: Resources) -> str:
    """Returns the end of a message about a missing asset."""
    folder = next(iter(resources.folders), None)
    command = f"robustness assets get {name} --data {folder or 'FOLDER'}"
    if folder is not None:
        return f"run: {command}"
    return f"give --data FOLDER (or ROBUSTNESS_DATA) with {ASSETS[name].path} in it, or run: {command}"


class Thesaurus(Protocol):
    """The part of NLTK's WordNet reader that recipes use."""

    def synsets(self, lemma: str) -> list[Any]:
        """Returns the synonym sets of a word, inflected or not."""
        ...

    def __hash__(self) -> int: ...


@cache
def _wordnet_at(path: Path) -> Thesaurus:
    _let_nltk_read(path)
    wordnet: Any = importlib.import_module("nltk.corpus").wordnet
    kind: Any = importlib.import_module("nltk.corpus.reader.wordnet").WordNetCorpusReader
    # NLTK would read the sense index twice, to map WordNet 3.0 (for other languages) onto this version: itself.
    mapping, kind.map_wn = kind.map_wn, lambda *_, **__: None
    try:
        wordnet.ensure_loaded()
    finally:
        kind.map_wn = mapping
    reader: Thesaurus = wordnet
    return reader


def load_wordnet(resources: Resources) -> Thesaurus:
    """Returns WordNet, read into memory.

    Raises:
        DataError: NLTK or the corpus is missing.
    """
    _require_nltk()
    return _wordnet_at(find_asset("wordnet", resources))


Tagger = Callable[[list[str]], list[str]]
"""Words to their universal parts of speech."""


@cache
def _tagger_at(tagger: Path, tagset: Path) -> Tagger:
    _let_nltk_read(tagger)
    _let_nltk_read(tagset)
    nltk: Any = importlib.import_module("nltk")

    def tag(words: list[str]) -> list[str]:
        return [part for _, part in nltk.pos_tag(words, tagset="universal")]

    tag(["film"])  # reads the files now, not during a search
    return tag


def load_tagger(resources: Resources) -> Tagger:
    """Returns NLTK's English tagger with the universal tag set.

    Raises:
        DataError: NLTK or one of its two packages is missing.
    """
    _require_nltk()
    tagger, tagset = (find_asset(name, resources) for name in ("averaged_perceptron_tagger_eng", "universal_tagset"))
    return _tagger_at(tagger, tagset)


@cache
def _neighbours_at(path: Path) -> Mapping[str, tuple[str, ...]]:
    content = path.read_bytes()
    expected = ASSETS["counter-fitted-neighbours"].files[0].sha256
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DataError(f"{path}: not the published file: expected sha256 {expected}, found {found}")
    return {word: tuple(neighbours) for word, neighbours in json.loads(content).items()}


def load_neighbours(resources: Resources) -> Mapping[str, tuple[str, ...]]:
    """Returns lower-case words with their neighbours in the counter-fitted vectors, nearest first.

    Raises:
        DataError: the file is missing or not the published one.
    """
    return _neighbours_at(find_asset("counter-fitted-neighbours", resources))


def _places(asset: Asset, resources: Resources) -> Iterator[Path]:
    """The places where an asset may be, likeliest first."""
    if not asset.is_nltk:
        yield from (folder / asset.path for folder in resources.folders)
        return
    inner = asset.path.removeprefix("nltk_data/")
    roots = [*(folder / "nltk_data" for folder in resources.folders), *resources.nltk_folders, *_nltk_folders()]
    for root in dict.fromkeys(roots):
        yield root / inner
        yield root / f"{inner}.zip"


def _nltk_folders() -> list[Path]:
    """The folders of NLTK's own downloader."""
    try:
        return [Path(folder) for folder in importlib.import_module("nltk.data").path if folder]
    except ImportError:
        return []


def _require_nltk() -> None:
    try:
        importlib.import_module("nltk")
    except ImportError:
        raise DataError(f"NLTK, which reads WordNet and tags words, is not installed; run: {NLTK_INSTALL}") from None


def _let_nltk_read(path: Path) -> None:
    """Puts the folder two levels above a corpus first on NLTK's search path, so that NLTK reads the corpus found."""
    folders: list[str] = importlib.import_module("nltk.data").path
    root = str(path.parents[1])
    if root in folders:
        folders.remove(root)
    folders.insert(0, root)
