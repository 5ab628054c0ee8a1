"""Where recipes find what they read, and the device of their own models: handed on, and read nowhere else."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Resources:
    """What a caller has for recipes and probes beside their own files."""

    folders: tuple[Path, ...] = ()
    """Data folders, the likeliest first."""
    nltk_folders: tuple[Path, ...] = ()
    """Of NLTK's own variable."""
    device: str = "auto"
    """Of recipes' own models: auto, cpu, cuda or cuda:N."""

    @classmethod
    def of(cls, data: Path | None = None, device: str = "auto") -> Resources:
        """Returns what a caller names, and behind it what ROBUSTNESS_DATA and NLTK_DATA name."""
        named = dict.fromkeys(Path(folder) for folder in (data, os.environ.get("ROBUSTNESS_DATA")) if folder)
        nltk = [Path(folder) for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
        return cls(tuple(named), tuple(nltk), device)

    def on(self, device: str) -> Resources:
        """Returns the resources for a process in another folder, whose models run on `device`."""
        return replace(
            self,
            folders=tuple(folder.resolve() for folder in self.folders),
            nltk_folders=tuple(folder.resolve() for folder in self.nltk_folders),
            device=device,
        )
