"""Which release of a package computes here."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

OWN = "peft-robustness"


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
