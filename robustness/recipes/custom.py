"""A user's own class: imported from `file.py:Name`, with a digest of its source."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

from robustness.definitions.naming import nearest_of, suggest
from robustness.errors import UsageError
from robustness.recipes.textattack.importing import importing_textattack


def import_named(reference: str, option: str) -> tuple[object, str, str]:
    """Imports `file.py:Name`; returns what has that name, its name in tables, and a digest.

    The file is run: name only files you trust. The digest is that of the file's content, so an edited class is
    another one.

    Raises:
        UsageError: no such file or name, or a file that cannot be imported; `option` begins the message.
    """
    file, _, name = reference.rpartition(":")
    path = Path(file)
    if not file or not name.isidentifier():
        holds = _class_names(Path(reference))
        example = f", such as {reference}:{holds[0]}" if holds else ""
        raise UsageError(f"{option} {reference}: expected file.py:Name{example}")
    if not path.is_file():
        beside = [each.name for each in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise UsageError(f"{option} {reference}: no file {path}{suggest(path.name, beside)}")
    made = getattr(_import_file(path), name, None)
    if made is None:
        raise UsageError(f"{option} {reference}: {path} has no {name}{nearest_of(name, _class_names(path))}")
    digest = hashlib.sha256(path.read_bytes() + name.encode()).hexdigest()[:16]
    return made, f"{path.name}:{name}", digest


def _class_names(path: Path) -> list[str]:
    """The classes of a Python file, which is not run; of what is none, nothing."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return []
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef)]


def source_digest(kind: type) -> str:
    """Returns sixteen hex digits of a class's source, or of its name where there is none to read."""
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        source = f"{kind.__module__}.{kind.__qualname__}"
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"custom_{path.stem}", path)
    assert spec is not None and spec.loader is not None, "a .py file always has a loader"
    module = importlib.util.module_from_spec(spec)
    try:
        with importing_textattack():  # which the file may do
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the file is the user's and may raise anything, or be a script
        raise UsageError(f"{path}: cannot be imported: {type(error).__name__}: {error}") from error
    return module
