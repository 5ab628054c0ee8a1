"""A device that computes on the processor, yet refuses tensors of another device as CUDA does.

What mixes devices is found where there is no GPU: tensors made without `device=`, generators of the processor, numpy
arrays of what has not been brought back. It knows nothing of CUDA's memory, streams and kernels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import torch
from torch.utils import _device, backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

NAME = "pretend"
MAY_MIX = frozenset({"copy_", "_to_copy", "index", "index_put_", "index_put", "_index_put_impl_"})
"""Copies, and indexing by indices that are elsewhere."""
_generators: dict[int, torch.Generator] = {}
"""Generators of the device, by the address of what they wrap: on the way to an operation Python's object is lost."""


class PretendTensor(torch.Tensor):
    """A tensor of the device."""

    held: torch.Tensor
    """On the processor."""

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> PretendTensor:
        made: PretendTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device(NAME, 0),
        )
        made.held = held
        return made

    def __init__(self, held: torch.Tensor) -> None:
        super().__init__()

    def __repr__(self) -> str:
        return f"PretendTensor({self.held})"

    def tolist(self) -> Any:
        """As a tensor on CUDA does, it brings its numbers back."""
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl


class _Everywhere(TorchDispatchMode):
    """Sees the operations that take no tensor of the device yet, such as those that make one."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {})


class _Module(backend_registration._DummyBackendModule):
    """What torch asks of a device's module."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def is_autocast_enabled(self) -> bool:
        return False

    def get_rng_state(self, device: object = None) -> torch.Tensor:
        return torch.zeros(1)

    def set_rng_state(self, state: torch.Tensor, device: object = None) -> None:
        pass


class _Generator(torch.Generator):
    """A generator that knows the device."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        made: _Generator = super().__new__(cls)
        if torch.device(device).type == NAME:
            _generators[made._cdata] = made
        return made

    def __init__(self, device: Any = "cpu") -> None:
        super().__init__()


@contextlib.contextmanager
def pretending() -> Iterator[None]:
    """Within it torch has the device; once a process, for torch forgets no device."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    _device._device_constructors()  # remembers which functions heed `with torch.device(...)`: the unpatched ones
    make = torch.tensor
    patches = {
        "tensor": lambda *args, **named: _make_there(make, args, named),
        "Generator": _Generator,
        # An inference tensor cannot be the base of a wrapper that is none.
        "inference_mode": lambda mode=True: torch.no_grad() if mode else contextlib.nullcontext(),
    }
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # `data` would be replaced without what is held
    try:
        with mock.patch.multiple(torch, **patches), _Everywhere():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def _make_there(make: Callable[..., torch.Tensor], args: Sequence[Any], named: Mapping[str, Any]) -> torch.Tensor:
    """torch.tensor is made out of a mode's sight."""
    there = named.get("device")
    made = make(*args, **{name: value for name, value in named.items() if name not in ("device", "requires_grad")})
    made = made if there is None else made.to(there)
    return made.requires_grad_(bool(named.get("requires_grad")))


def _run(operation: Any, args: Any, kwargs: Any) -> Any:
    leaves, shape = tree_flatten((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    ours = any(isinstance(tensor, PretendTensor) for tensor in tensors)
    there = kwargs.get("device")
    made_here = ours if there is None else torch.device(there).type == NAME
    if not ours and not made_here:
        _refuse_generator(leaves, wanted=False)
        return operation(*args, **kwargs)
    name = operation._schema.name.removeprefix("aten::")
    if ours and name not in MAY_MIX:
        _refuse_others(tensors, name)
    _refuse_generator(leaves, wanted=made_here)
    held_args, held_kwargs = tree_unflatten([_held(leaf) for leaf in leaves], shape)
    found = operation(*held_args, **held_kwargs)
    if name == "copy_" and not isinstance(args[0], PretendTensor):
        return args[0]
    if not made_here:
        return found
    wrapped = tree_map_only(torch.Tensor, PretendTensor, found)
    return return_and_correct_aliasing(operation, args, kwargs, wrapped) if ours else wrapped


def _held(leaf: object) -> object:
    if isinstance(leaf, torch.device):
        return torch.device("cpu")
    return leaf.held if isinstance(leaf, PretendTensor) else leaf


def _refuse_others(tensors: Sequence[torch.Tensor], name: str) -> None:
    """A single number may be of any device."""
    for tensor in tensors:
        if not isinstance(tensor, PretendTensor) and tensor.dim() > 0:
            raise RuntimeError(f"Expected all tensors to be on the same device, but found {NAME}:0 and cpu in {name}")


def _refuse_generator(leaves: Sequence[object], *, wanted: bool) -> None:
    for leaf in leaves:
        if isinstance(leaf, torch._C.Generator) and (leaf._cdata in _generators) != wanted:
            raise RuntimeError(f"Expected a '{NAME if wanted else 'cpu'}' device type for generator")
