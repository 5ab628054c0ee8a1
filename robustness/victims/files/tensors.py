"""Reads a folder's weights one tensor at a time, without a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

import torch

from robustness.errors import CheckpointError

WRAPPERS = re.compile(
    r"^(?:module\.|_orig_mod\.|_fsdp_wrapped_module\.)+|(?<=\.)(?:_orig_mod|_fsdp_wrapped_module)\."
)
"""Parts that DataParallel, torch.compile and FSDP add to tensor names."""


@final
class TensorFolder(Mapping[str, torch.Tensor]):
    """The tensors of all safetensors files of a folder, by name; each is read on demand.

    Names are those of the model, without additions by wrappers such as torch.compile.

    Raises:
        CheckpointError: the folder has no readable safetensors file.
    """

    def __init__(self, folder: Path, files: str = "*.safetensors") -> None:
        from safetensors import safe_open

        self._stack = ExitStack()
        self._files: dict[str, tuple[Any, str]] = {}
        """The file, and the name in it."""
        paths = sorted(folder.glob(files))
        if not paths:
            raise CheckpointError(f"{folder}: no safetensors file in it")
        for path in paths:
            try:
                file = self._stack.enter_context(safe_open(path, framework="pt"))
            except Exception as error:  # safetensors raises kinds of its own
                raise CheckpointError(f"{path}: cannot be read: {error}") from None
            self._files |= {WRAPPERS.sub("", name): (file, name) for name in file.keys()}  # noqa: SIM118

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def __getitem__(self, name: str) -> torch.Tensor:
        file, stored = self._files[name]
        tensor: torch.Tensor = file.get_tensor(stored)
        return tensor

    def dtype(self, name: str) -> str:
        """Returns the type of a tensor without reading its numbers."""
        file, stored = self._files[name]
        return str(file.get_slice(stored).get_dtype())

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def stored_dtypes(*folders: Path) -> set[str]:
    """The floating-point types of the weights in some folders, as safetensors names them: F32, BF16, F16.

    Raises:
        CheckpointError: a folder without a safetensors file, or one that cannot be read.
    """
    found: set[str] = set()
    for folder in folders:
        with TensorFolder(folder) as tensors:
            found |= {tensors.dtype(name) for name in tensors}
    return {name for name in found if "F" in name}


def match_names(base: Iterable[str], tuned: Iterable[str]) -> dict[str, str]:
    """Returns the base's names with the checkpoint's, which may have one more or one less prefix (`bert.`)."""
    base, tuned = list(base), list(tuned)
    known = set(base)
    found = {}
    for name in tuned:
        rest = name.partition(".")[2]
        if name in known:
            found[name] = name
        elif rest in known:
            found[rest] = name
    prefixed = {name.partition(".")[2]: name for name in base}
    for name in tuned:
        if name in prefixed and prefixed[name] not in found:
            found[prefixed[name]] = name
    return {name: found[name] for name in base if name in found}
