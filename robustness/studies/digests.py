"""Digests of what jobs depend on; a file that has not changed is read once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import final

from robustness.definitions.catalog import ATTACKS, PROBES, TESTSETS, Entry
from robustness.definitions.suites import SuiteDefinition
from robustness.definitions.testsets import Split, TestsetDefinition
from robustness.errors import DefinitionError
from robustness.recipes.building import digest_recipe, find_recipe
from robustness.runs.storage.disk import replace_durably
from robustness.testsets.loading import PACKAGE_FOLDER
from robustness.training.defences import Defence

FILE_NAME = "digests.json"
BASE_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")
"""Weights, configuration and tokenizer of a base."""


def digest_of(content: object) -> str:
    """Sixteen hex digits of anything JSON can hold.

    >>> digest_of({"b": 1, "a": 2}) == digest_of({"a": 2, "b": 1})
    True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


@final
class FileDigests:
    """Digests of files, kept in a folder by path, size and time of change."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._known: dict[str, list[object]] = {}
        self._is_new = False
        with suppress(OSError, ValueError):
            self._known = json.loads(self._path.read_text(encoding="utf-8"))

    def of(self, file: Path) -> str:
        """Returns the sha256 of a file's content."""
        status = file.stat()
        place, state = str(file.resolve()), [status.st_size, status.st_mtime_ns]
        known = self._known.get(place)
        if known is None or known[:2] != state:
            with file.open("rb") as stream:
                known = [*state, hashlib.file_digest(stream, "sha256").hexdigest()]
            self._known[place] = known
            self._is_new = True
        return str(known[2])

    def of_base(self, folder: Path) -> str:
        """Returns the digest of a base's weights, configuration and tokenizer."""
        files = sorted({file for pattern in BASE_FILES for file in folder.glob(pattern)})
        return digest_of([[file.name, self.of(file)] for file in files])

    def of_testset(self, entry: Entry[TestsetDefinition], data: Path | None) -> str:
        """Returns the digest of a test set's definition and of its local files."""
        definition = entry.definition
        splits = [split for split in (definition.test, definition.train) if split is not None]
        files = {file for split in splits for file in _files(entry, split, data)}
        sources = [split.generated.questions for split in splits if split.generated is not None]
        further = [self.of_testset(TESTSETS.find(name), data) for name in sources]
        return digest_of([entry.digest, sorted(self.of(file) for file in files), further])

    def save(self, folder: Path) -> None:
        """Writes what is known into the folder."""
        if self._is_new:
            replace_durably(folder / FILE_NAME, json.dumps(self._known) + "\n")


def _files(entry: Entry[TestsetDefinition], split: Split, data: Path | None) -> Iterator[Path]:
    roots = {"data": data, "package": PACKAGE_FOLDER, "definition": entry.path.parent}
    for source in split.local:
        root = roots[source.root]
        if root is not None and (root / source.file).is_file():
            yield root / source.file


def digest_suite(suite: Entry[SuiteDefinition]) -> str:
    """Returns the digest of a suite with the definitions of its attacks and probes."""
    definition = suite.definition
    parts = [_digest_part(ATTACKS.find, name) for name in definition.attacks]
    parts += [_digest_part(PROBES.find, name) for name in definition.probes]
    testsets = [TESTSETS.find(name).digest for name in (*definition.testsets, *definition.evaluated)]
    return digest_of([suite.digest, parts, testsets])


def digest_rewriting(defence: Defence) -> list[str]:
    """Returns the digest of the recipe that changes a defence's further rows; empty without one."""
    return [digest_recipe(find_recipe(defence.recipe))] if defence.recipe else []


def _digest_part(find: object, name: str) -> str:
    try:
        return str(find(name).digest)  # type: ignore[operator]
    except DefinitionError:  # an attack of TextAttack's, which is known by its name
        return name
