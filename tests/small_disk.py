"""A disk that is soon full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A mounted file system."""

    place: Path

    def resize(self, kilobytes: int) -> None:
        """Changes its size; what it holds stays."""
        subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(self.place)], check=True)


@contextmanager
def small_disk(place: Path, kilobytes: int) -> Iterator[SmallDisk]:
    """Mounts a file system in memory on a new folder; skips a test where that is not allowed."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this test mounts a small tmpfs, which only root may")
    try:
        yield SmallDisk(place)
    finally:
        subprocess.run(["umount", str(place)], check=True)
