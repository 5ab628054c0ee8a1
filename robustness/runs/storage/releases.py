"""Advice for a run folder of another release."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from robustness.versions import OWN, version_of


def find_other_release(folder: Path) -> str | None:
    """Returns the release that wrote a run, in words; None for this release."""
    versions = _read_loosely(folder, "versions")
    release = versions.get(OWN) if isinstance(versions, dict) else None
    if release == version_of(OWN):
        return None
    return f"{OWN} {release}" if release else f"another release of {OWN}"


def explain_other_release(folder: Path, writer: str) -> str:
    """Returns which release can read a run folder that this one cannot, and the remedy."""
    return (
        f"{writer} wrote it and reads it, {OWN} {version_of(OWN)} does not: install that release, or repeat the run "
        f"into a new folder: {_repeat(folder)}"
    )


def _repeat(folder: Path) -> str:
    """The command that made a run, for another folder."""
    words = _read_loosely(folder, "command")
    words = words if isinstance(words, list) else []
    return shlex.join([*(str(word) for word in words or ("robustness", "run", "SUITE")), "--out", f"{folder}-again"])


def _read_loosely(folder: Path, key: str) -> object:
    """One entry of run.json, read without the schema, because another release may have written it."""
    try:
        return json.loads((folder / "run.json").read_bytes()).get(key)
    except (OSError, ValueError, AttributeError):
        return None
