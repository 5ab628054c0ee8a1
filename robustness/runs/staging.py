"""Models, rows and tasks that are given as objects, written into the run folder and then read like any others."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from robustness.definitions.tasks import find_task
from robustness.definitions.writing import toml_value
from robustness.errors import DataError, DefinitionError, RunError, UsageError
from robustness.options import PathLike, RunOptions
from robustness.paths import refuse_unwritable
from robustness.runs.storage.record import FILE_NAME, GIVEN, refuse_foreign_folder
from robustness.tasks.task import Task
from robustness.testsets.writing import NAME, is_rows, name_rows, write_rows

ARMS = ("reference", "candidate")
TWO_BASES = (
    "reference and candidate: expected adapters on one base; theirs have other weights or tokenizers; load both "
    "adapters onto one model, with one tokenizer"
)
OWN_TASK = "own-task"
"""What a task goes by that is given as its file's content."""


def holds_objects(options: RunOptions) -> bool:
    """Whether something is given that is no path and no name."""
    paths = [getattr(options, name) for name in (*ARMS, "base", "task", "data")]
    return not all(each is None or isinstance(each, PathLike) for each in paths)


@contextmanager
def staged(options: RunOptions, out: Path) -> Iterator[RunOptions]:
    """Yields options that name files in place of objects; takes the files away where no run came of them.

    Raises:
        RobustnessError: an object of another kind, one that cannot be saved, or a folder that holds another's.
    """
    _refuse_other_objects(options)
    refuse_unwritable(out)
    refuse_foreign_folder(out)
    try:
        yield _write(options, out / GIVEN)
    except DataError as error:
        if not is_rows(options.data):
            raise
        raise DataError(name_rows(str(error), options.data, out / GIVEN / NAME)) from None
    finally:
        if not (out / FILE_NAME).is_file():
            shutil.rmtree(out / GIVEN, ignore_errors=True)
            with suppress(OSError):  # it was there, or holds something
                out.rmdir()


def _refuse_other_objects(options: RunOptions) -> None:
    for key in (*ARMS, "base"):
        given = getattr(options, key)
        if given is not None and not isinstance(given, PathLike):
            from robustness.victims.files.saving import refuse_other_objects  # brings torch

            refuse_other_objects(key, given)
    if options.data is not None and not isinstance(options.data, PathLike) and not is_rows(options.data):
        raise UsageError(
            f"data: expected a folder, a pandas DataFrame or a datasets.Dataset; got a {type(options.data).__name__}"
        )


def _write(options: RunOptions, home: Path) -> RunOptions:
    changes: dict[str, object] = {}
    if isinstance(options.task, Mapping):
        content = options.task
        _place(home, "task", lambda folder: _write_task(content, folder))
        changes["task"] = str((home / "task" / f"{OWN_TASK}.toml").resolve())
    if is_rows(options.data):
        task = _task(changes.get("task", options.task))
        _place(home, NAME, lambda folder: write_rows(options.data, task, folder))
        file = (home / NAME / f"{NAME}.toml").resolve()
        changes |= {"data": None, "testsets": (str(file), *options.testsets)}
    return options.model_copy(update=changes | _write_arms(options, home))


def _task(named: object) -> Task:
    if named is None:
        raise UsageError("data: rows need their task; give task, the name of a shipped one or a task file")
    return find_task(str(named))


def _write_task(content: Mapping[str, object], folder: Path) -> None:
    file = folder / f"{OWN_TASK}.toml"
    lines = [f"{toml_value(str(key))} = {toml_value(value)}\n" for key, value in content.items()]
    file.write_text("".join(lines), encoding="utf-8")
    try:
        find_task(str(file))
    except DefinitionError as error:
        raise UsageError(f"task: {str(error).replace(f'{file}: ', '').replace(str(file), 'the table')}") from None


def _write_arms(options: RunOptions, home: Path) -> dict[str, object]:
    objects = {
        key: getattr(options, key)
        for key in (*ARMS, "base")
        if getattr(options, key) is not None and not isinstance(getattr(options, key), PathLike)
    }
    if not objects:
        return {}
    from robustness.victims.files.saving import is_adapted, save_arm

    adapted = [key for key in objects if is_adapted(objects[key][0])]
    beside = "../base" if options.base is None else None
    if options.base is None:
        _place_base({key: objects[key] for key in adapted}, home)
    for key, (model, tokenizer) in objects.items():
        _place(home, key, partial(save_arm, key, model, tokenizer, beside))
    made = [*objects, *(["base"] if adapted and options.base is None else [])]
    return {key: str((home / key).resolve()) for key in made}


def _place_base(adapted: Mapping[str, tuple[Any, Any]], home: Path) -> None:
    """Has the base below the adapters written; raises UsageError where two stand on different ones."""
    from robustness.victims.files.saving import save_base  # brings torch

    keys = list(adapted)
    for key, (model, tokenizer) in adapted.items():
        _place(home, "base", partial(save_base, key, model, tokenizer), TWO_BASES if key != keys[0] else "")


def _place(home: Path, name: str, write: Callable[[Path], None], otherwise: str = "") -> None:
    """Has a folder written; one that is there must have the same content, or `otherwise` is what is wrong."""
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as draft:
        made = Path(draft) / name
        made.mkdir()
        write(made)
        if not (home / name).exists():
            made.rename(home / name)
        elif _digest(made) != _digest(home / name):
            if otherwise:
                raise UsageError(otherwise)
            raise RunError(f"{home / name}: holds another {name} than the one given; give another folder as out")


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as stream:
            digest.update(f"{file.relative_to(folder)} {hashlib.file_digest(stream, 'sha256').hexdigest()}".encode())
    return digest.hexdigest()
