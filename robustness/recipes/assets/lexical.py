"""Lexical assets: where word lists, taggers and thesauri are found, and how they are read."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from robustness.errors import DataError
from robustness.recipes.assets.registry import ASSETS, Asset

NLTK_INSTALL = "pip install 'peft-robustness[textattack]'"


_data: Path | None = None


def use_data(folder: Path | None) -> None:
    """Names the data folder to look in first; without one, the variable ROBUSTNESS_DATA decides."""
    global _data
    _data = folder


def locate_asset(name: str) -> Path | None:
    """Returns where an asset lies, or None."""
    return next((path for path in _places(ASSETS[name]) if path.exists()), None)


def find_asset(name: str) -> Path:
    """Returns where an asset lies.

    Raises:
        DataError: it is nowhere; the message names the places and what to do.
    """
    found = locate_asset(name)
    if found is not None:
        return found
    asset = ASSETS[name]
    # A zip file stands for the folder of its name: one line each is enough.
    looked = ", ".join(str(path) for path in _places(asset) if path.suffix != ".zip") or "no folder: none is named"
    raise DataError(
        f"asset {name} ({asset.purpose}; {asset.source}) is missing; looked in {looked}; {how_to_get(name)}"
    )


def how_to_get(name: str) -> str:
    """Returns the end of a message about a missing asset."""
    folder = next(iter(data_folders()), None)
    command = f"robustness assets get {name} --data {folder or 'FOLDER'}"
    if folder is not None:
        return f"run: {command}"
    return f"give --data FOLDER (or ROBUSTNESS_DATA) with {ASSETS[name].path} in it, or run: {command}"


def data_folders() -> list[Path]:
    """Returns the folders that assets are looked for in, the likeliest first."""
    named = (Path(folder) for folder in (_data, os.environ.get("ROBUSTNESS_DATA")) if folder)
    return list(dict.fromkeys(named))


class Thesaurus(Protocol):
    """What recipes use of NLTK's WordNet reader."""

    def synsets(self, lemma: str) -> list[Any]:
        """Returns the synonym sets of a word, inflected or not."""
        ...


@cache
def _wordnet_at(path: Path) -> Thesaurus:
    _let_nltk_read(path)
    wordnet: Any = importlib.import_module("nltk.corpus").wordnet
    wordnet.ensure_loaded()
    reader: Thesaurus = wordnet
    return reader


def load_wordnet() -> Thesaurus:
    """Returns WordNet, read into memory.

    Raises:
        DataError: NLTK or the corpus is missing.
    """
    _require_nltk()
    return _wordnet_at(find_asset("wordnet"))


Tagger = Callable[[list[str]], list[str]]
"""Words to their universal parts of speech."""


@cache
def _tagger_at(tagger: Path, tagset: Path) -> Tagger:
    _let_nltk_read(tagger)
    _let_nltk_read(tagset)
    nltk: Any = importlib.import_module("nltk")

    def tag(words: list[str]) -> list[str]:
        return [part for _, part in nltk.pos_tag(words, tagset="universal")]

    tag(["film"])  # reads the files now rather than in the middle of a search
    return tag


def load_tagger() -> Tagger:
    """Returns NLTK's English tagger with the universal tag set.

    Raises:
        DataError: NLTK or one of its two packages is missing.
    """
    _require_nltk()
    return _tagger_at(find_asset("averaged_perceptron_tagger_eng"), find_asset("universal_tagset"))


@cache
def _neighbours_at(path: Path) -> Mapping[str, tuple[str, ...]]:
    content = path.read_bytes()
    expected = ASSETS["counter-fitted-neighbours"].files[0].sha256
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DataError(f"{path}: not the published file: expected sha256 {expected}, found {found}")
    return {word: tuple(neighbours) for word, neighbours in json.loads(content).items()}


def load_neighbours() -> Mapping[str, tuple[str, ...]]:
    """Returns lower-case words with their neighbours in the counter-fitted vectors, nearest first.

    Raises:
        DataError: the file is missing or not the published one.
    """
    return _neighbours_at(find_asset("counter-fitted-neighbours"))


def _places(asset: Asset) -> Iterator[Path]:
    """Where an asset may lie, likeliest first."""
    folders = data_folders()
    if not asset.is_nltk:
        yield from (folder / asset.path for folder in folders)
        return
    inner = asset.path.removeprefix("nltk_data/")
    named = [Path(folder) for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
    roots = [*(folder / "nltk_data" for folder in folders), *named, *_nltk_folders()]
    for root in dict.fromkeys(roots):
        yield root / inner
        yield root / f"{inner}.zip"


def _nltk_folders() -> list[Path]:
    """Where NLTK's own downloader puts things."""
    try:
        return [Path(folder) for folder in importlib.import_module("nltk.data").path if folder]
    except ImportError:
        return []


def _require_nltk() -> None:
    try:
        importlib.import_module("nltk")
    except ImportError:
        raise DataError(f"NLTK is not installed, which reads WordNet and tags words; run: {NLTK_INSTALL}") from None


def _let_nltk_read(path: Path) -> None:
    """Puts the folder two levels above a corpus on NLTK's search path, first: what was found is what is read."""
    folders: list[str] = importlib.import_module("nltk.data").path
    root = str(path.parents[1])
    if root in folders:
        folders.remove(root)
    folders.insert(0, root)
