"""Writes models, rows and tasks given as objects into the run folder, to be read like files."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from robustness.definitions.pairs import read_pairs
from robustness.definitions.tasks import find_task
from robustness.definitions.writing import toml_value
from robustness.errors import DataError, DefinitionError, RunError, UsageError
from robustness.options import CheckpointPair, PathLike, RunSettings
from robustness.paths import expand, refuse_unwritable
from robustness.runs.storage.record import FILE_NAME, GIVEN, refuse_foreign_folder
from robustness.sharing import join
from robustness.tasks.task import Task
from robustness.testsets.writing import NAME, is_rows, name_rows, write_rows

ARMS = ("reference", "candidate")
TWO_BASES = (
    "reference and candidate: expected adapters on one base; theirs have other weights or tokenizers; load both "
    "adapters onto one model, with one tokenizer"
)
OWN_TASK = "own-task"
"""Name of a task given as its file's content."""


def holds_objects(pairs: PathLike | CheckpointPair, settings: RunSettings) -> bool:
    """Whether a value is neither a path nor a name."""
    given: list[object] = [settings.data]
    if isinstance(pairs, CheckpointPair):
        given += [getattr(pairs, name) for name in (*ARMS, "base", "task")]
    return not all(each is None or isinstance(each, PathLike) for each in given)


@contextmanager
def staged(
    pairs: PathLike | CheckpointPair, settings: RunSettings, out: Path
) -> Iterator[tuple[PathLike | CheckpointPair, RunSettings]]:
    """Yields both with files in place of objects; removes the files if no run was made and no other call uses them.

    Raises:
        RobustnessError: an object of another kind or that cannot be saved, or a folder of another run.
    """
    _refuse_other_objects(pairs, settings)
    refuse_unwritable(out)
    refuse_foreign_folder(out)
    with join(out / GIVEN) as is_alone:
        try:
            yield _write(pairs, settings, out / GIVEN)
        except DataError as error:
            if not is_rows(settings.data):
                raise
            raise DataError(name_rows(str(error), settings.data, out / GIVEN / NAME)) from None
        finally:
            if is_alone() and not (out / FILE_NAME).is_file():
                shutil.rmtree(out / GIVEN, ignore_errors=True)
                with suppress(OSError):  # it existed before, or is not empty
                    out.rmdir()


def _refuse_other_objects(pairs: PathLike | CheckpointPair, settings: RunSettings) -> None:
    arms = {key: getattr(pairs, key) for key in (*ARMS, "base")} if isinstance(pairs, CheckpointPair) else {}
    for key, given in arms.items():
        if given is not None and not isinstance(given, PathLike):
            from robustness.victims.files.saving import refuse_other_objects  # imports torch

            refuse_other_objects(key, given)
    data = settings.data
    if data is not None and not isinstance(data, PathLike) and not is_rows(data):
        raise UsageError(
            f"data: expected a folder, a pandas DataFrame or a datasets.Dataset; got a {type(data).__name__}"
        )


def _write(
    pairs: PathLike | CheckpointPair, settings: RunSettings, home: Path
) -> tuple[PathLike | CheckpointPair, RunSettings]:
    if isinstance(pairs, CheckpointPair) and isinstance(pairs.task, Mapping):
        content = pairs.task
        _place(home, "task", lambda folder: _write_task(content, folder))
        pairs = pairs.model_copy(update={"task": str((home / "task" / f"{OWN_TASK}.toml").resolve())})
    if is_rows(settings.data):
        rows, task = settings.data, _task(pairs)
        _place(home, NAME, lambda folder: write_rows(rows, task, folder))
        file = (home / NAME / f"{NAME}.toml").resolve()
        settings = settings.model_copy(update={"data": None, "testsets": (str(file), *settings.testsets)})
    return (_write_arms(pairs, home) if isinstance(pairs, CheckpointPair) else pairs), settings


def _task(pairs: PathLike | CheckpointPair) -> Task:
    """The single task of the pairs, which defines how to read rows."""
    if isinstance(pairs, CheckpointPair):
        return find_task(str(pairs.task))
    tasks = {pair.task.name: pair.task for pair in read_pairs(Path(expand(pairs)))}
    if len(tasks) > 1:
        raise UsageError(f"data: rows are of one task; {pairs} has pairs of {', '.join(tasks)}; give a file for each")
    return next(iter(tasks.values()))


def _write_task(content: Mapping[str, object], folder: Path) -> None:
    file = folder / f"{OWN_TASK}.toml"
    lines = [f"{toml_value(str(key))} = {toml_value(value)}\n" for key, value in content.items()]
    file.write_text("".join(lines), encoding="utf-8")
    try:
        find_task(str(file))
    except DefinitionError as error:
        raise UsageError(f"task: {str(error).replace(f'{file}: ', '').replace(str(file), 'the table')}") from None


def _write_arms(arms: CheckpointPair, home: Path) -> CheckpointPair:
    given = {key: getattr(arms, key) for key in (*ARMS, "base")}
    objects = {key: arm for key, arm in given.items() if arm is not None and not isinstance(arm, PathLike)}
    if not objects:
        return arms
    from robustness.victims.files.saving import is_adapted, save_arm

    adapted = [key for key in objects if is_adapted(objects[key][0])]
    beside = "../base" if arms.base is None else None
    if arms.base is None:
        _place_base({key: objects[key] for key in adapted}, home)
    for key, (model, tokenizer) in objects.items():
        _place(home, key, partial(save_arm, key, model, tokenizer, beside))
    made = [*objects, *(["base"] if adapted and arms.base is None else [])]
    return arms.model_copy(update={key: str((home / key).resolve()) for key in made})


def _place_base(adapted: Mapping[str, tuple[Any, Any]], home: Path) -> None:
    """Writes the adapters' base; raises UsageError if two adapters have different bases."""
    from robustness.victims.files.saving import save_base  # imports torch

    keys = list(adapted)
    for key, (model, tokenizer) in adapted.items():
        _place(home, "base", partial(save_base, key, model, tokenizer), TWO_BASES if key != keys[0] else "")


def _place(home: Path, name: str, write: Callable[[Path], None], otherwise: str = "") -> None:
    """Writes a folder; an existing one must have the same content, or `otherwise` is raised."""
    with tempfile.TemporaryDirectory(dir=home) as draft:
        made = Path(draft) / name
        made.mkdir()
        write(made)
        try:
            made.rename(home / name)
        except OSError:
            if not (home / name).exists():
                raise
            if _digest(made) != _digest(home / name):
                if otherwise:
                    raise UsageError(otherwise) from None
                raise RunError(
                    f"{home / name}: holds another {name} than the one given; give another folder as out"
                ) from None


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as stream:
            digest.update(f"{file.relative_to(folder)} {hashlib.file_digest(stream, 'sha256').hexdigest()}".encode())
    return digest.hexdigest()
