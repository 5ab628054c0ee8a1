"""A user's own class: imported from `file.py:Name`, with a digest of its source."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

from robustness.definitions.naming import nearest_of, suggest
from robustness.errors import UsageError
from robustness.recipes.textattack.importing import importing_textattack


def import_named(reference: str, option: str) -> tuple[object, str, str]:
    """Imports `file.py:Name`; returns the object of that name, its name in tables, and a digest.

    Runs the file: name only files you trust. The digest covers the file's content, so an edited class counts as
    another class.

    Raises:
        UsageError: no such file or name, or the file cannot be imported; the message begins with `option`.
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
    """The classes of a Python file, without running it; empty for other files."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return []
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef)]


def source_digest(kind: type) -> str:
    """Returns sixteen hex digits of the digest of a class's source, or of its name if the source is missing."""
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        source = f"{kind.__module__}.{kind.__qualname__}"
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def _import_file(path: Path) -> ModuleType:
    # Two files of one name are two modules, and none is one that somebody imports.
    unique = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"_robustness_{unique}_{path.stem}", path)
    assert spec is not None and spec.loader is not None, "a .py file always has a loader"
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module  # dataclasses and pickle look a class's module up there
    try:
        with importing_textattack():  # the file may import it
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's file may raise anything
        sys.modules.pop(module.__name__, None)
        if before is not None:
            sys.modules[module.__name__] = before
        raise UsageError(f"{path}: cannot be imported: {type(error).__name__}: {error}") from error
    return module
