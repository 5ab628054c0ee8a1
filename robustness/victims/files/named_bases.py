"""Finds the base that a folder names without reading weights."""

from __future__ import annotations

from pathlib import Path

from robustness.victims.files.checkpoint import ADAPTER_CONFIG, is_folder, read_json
from robustness.victims.files.selection import recorded_training


def find_named_base(reference: str) -> str | None:
    """Returns the base named by an adapter's config or a training record, or None."""
    folder = Path(reference)
    named: object = None
    if (folder / ADAPTER_CONFIG).is_file():
        named = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    named = named or recorded_training(folder).get("base")
    if not isinstance(named, str) or not named:
        return None
    return str(folder / named) if is_folder(folder / named) else named
