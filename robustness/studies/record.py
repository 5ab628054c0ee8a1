"""study.json: which study a folder holds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from robustness.definitions.studies import STUDIES, find_study
from robustness.errors import RunError
from robustness.runs.storage.disk import replace_durably
from robustness.runs.storage.lock import FILE_NAME as LOCK_FILE
from robustness.studies.design import Design
from robustness.studies.digests import FILE_NAME as DIGESTS_FILE
from robustness.studies.graph import Graph, digest_protocol
from robustness.versions import library_versions

FILE_NAME = "study.json"
LEFT_BEHIND = {LOCK_FILE, DIGESTS_FILE, f"{DIGESTS_FILE}.part", f"{FILE_NAME}.part"}
"""By a study that was killed before it wrote its record."""


def refuse_foreign(out: Path, name: str) -> None:
    """Raises RunError if a folder holds something else than the study of this name."""
    if not out.is_dir() or all(path.name in LEFT_BEHIND for path in out.iterdir()):
        return
    try:
        found = json.loads((out / FILE_NAME).read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, LookupError, TypeError):
        raise RunError(f"{out}: holds something that is no study; give --out a new or empty folder") from None
    if found != name:
        raise RunError(f"{out}: holds the study {found!r}, not {name!r}; give --out another folder")


def write_study_record(design: Design, graph: Graph, out: Path) -> None:
    """Writes study.json, and a copy of the study's file beside it."""
    file = design.file
    is_claimed = file.name in STUDIES.names()
    content = {
        "name": file.name,
        "digest": graph.protocol_digest,
        "modified": is_claimed and graph.protocol_digest != digest_protocol(find_study(file.name)),
        "shipped": is_claimed,
        "match": file.definition.match,
        "suites": [Path(name).stem for name in file.definition.suites],
        "base": design.base_reference,
        "definition": file.definition.model_dump(mode="json"),
        "methods": [each.name for each in design.variants],
        "versions": library_versions(),
    }
    replace_durably(out / FILE_NAME, json.dumps(content, indent=2) + "\n")
    copied = out / f"{file.name}.toml"
    if not copied.exists() or not copied.samefile(file.path):
        shutil.copyfile(file.path, copied)
