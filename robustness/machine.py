"""What this machine has for attacks: recipes and test sets that are ready, and assets that they read."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from robustness.errors import UsageError
from robustness.paths import DATA_VARIABLE, expand, find_data

if TYPE_CHECKING:
    from robustness.doctor import Diagnosis
    from robustness.recipes.assets.registry import Asset


def doctor(data: str | Path | None = None) -> list[Diagnosis]:
    """Returns for every attack and test set whether it is ready, or what is missing; downloads nothing."""
    from robustness.doctor import diagnose

    return list(diagnose(find_data(data)))


def list_assets(data: str | Path | None = None) -> list[tuple[Asset, Path | None]]:
    """Returns every asset that recipes read, with where it lies, or None."""
    from robustness.recipes.assets.pretrained import locate
    from robustness.recipes.assets.registry import ASSETS
    from robustness.recipes.assets.resources import Resources

    resources = Resources.of(find_data(data))
    return [(asset, locate(asset, resources)) for asset in ASSETS.values()]


def get_assets(
    names: Sequence[str],
    *,
    data: str | Path | None = None,
    on_message: Callable[[str], None] | None = None,
    on_bytes: Callable[[str, int, int | None], None] | None = None,
) -> list[Path]:
    """Downloads assets into the data folder, which is made where it is not there; returns their paths.

    Args:
        names: of the assets.
        data: the folder; None: ROBUSTNESS_DATA.
        on_message: called with a line for each file.
        on_bytes: called with the asset's name, the bytes received of a file, and its size where that is known.

    Raises:
        UsageError: no data folder is named, or no such asset.
        DataError: an asset is not available or not the published file, or the folder cannot be written to; earlier
            ones are kept.
    """
    from robustness.recipes.assets.downloading import get_asset

    given = data if data is not None else os.environ.get(DATA_VARIABLE)
    if not given:
        raise UsageError(f"assets get: no folder to put them in; give --data DIR or set {DATA_VARIABLE}")
    say, count = on_message or (lambda _: None), on_bytes or (lambda *_: None)
    return [get_asset(name, Path(expand(given)), say, count) for name in names]
