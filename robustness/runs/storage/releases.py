"""What to do with a run folder that another release wrote."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from robustness.versions import OWN, version_of


def find_other_release(folder: Path) -> str | None:
    """Returns the release that wrote a run, in words; None where it is this one."""
    versions = _read_loosely(folder, "versions")
    release = versions.get(OWN) if isinstance(versions, dict) else None
    if release == version_of(OWN):
        return None
    return f"{OWN} {release}" if release else f"another release of {OWN}"


def explain_other_release(folder: Path, writer: str) -> str:
    """Returns who reads a run folder that this release does not, and what to do."""
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
    """One entry of run.json, read without its schema, which may be another release's."""
    try:
        return json.loads((folder / "run.json").read_bytes()).get(key)
    except (OSError, ValueError, AttributeError):
        return None
