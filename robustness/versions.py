"""Which release of a package computes here."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

OWN = "peft-robustness"
RECORDED_PACKAGES = (
    *(OWN, "torch", "transformers", "tokenizers", "peft", "numpy", "scipy", "pandas"),
    *("safetensors", "textattack", "nltk", "bitsandbytes"),
)


def version_of(package: str) -> str:
    """Returns a package's version; "not installed" where there is none.

    A package that lies on the path without having been installed says its version itself, once it is imported.

    >>> version_of("no-such-package")
    'not installed'
    """
    if package == OWN:  # what is installed beside a source tree may be another release
        return str(sys.modules["robustness"].__version__)
    try:
        return version(package)
    except PackageNotFoundError:
        return str(getattr(sys.modules.get(package), "__version__", "not installed"))


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on."""
    return {"python": platform.python_version()} | {name: version_of(name) for name in RECORDED_PACKAGES}


def compared_versions(versions: Mapping[str, str]) -> dict[str, str]:
    """Returns the versions that must be equal, without Python's patch release and pandas, which change no outcome.

    bitsandbytes changes outcomes on a base in 4 bit alone, which compares it itself.
    """
    kept = {name: each for name, each in versions.items() if name not in ("python", "pandas", "bitsandbytes")}
    return kept | {"python": ".".join(versions["python"].split(".")[:2])}
