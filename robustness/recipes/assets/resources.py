"""The data folders of recipes and the device of their own models, passed explicitly to every reader."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Resources:
    """Data folders and device that a caller gives to recipes and probes."""

    folders: tuple[Path, ...] = ()
    """Data folders, the likeliest first."""
    nltk_folders: tuple[Path, ...] = ()
    """Folders of the variable NLTK_DATA."""
    device: str = "auto"
    """The device of recipes' own models: auto, cpu, cuda or cuda:N."""

    @classmethod
    def of(cls, data: Path | None = None, device: str = "auto") -> Resources:
        """Returns the caller's folders, followed by those of ROBUSTNESS_DATA and NLTK_DATA."""
        named = dict.fromkeys(Path(folder) for folder in (data, os.environ.get("ROBUSTNESS_DATA")) if folder)
        nltk = [Path(folder) for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
        return cls(tuple(named), tuple(nltk), device)

    def on(self, device: str) -> Resources:
        """Returns the resources for a process with another working folder and `device`."""
        return replace(
            self,
            folders=tuple(folder.resolve() for folder in self.folders),
            nltk_folders=tuple(folder.resolve() for folder in self.nltk_folders),
            device=device,
        )
