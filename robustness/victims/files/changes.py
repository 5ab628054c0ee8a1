"""Finds what fine-tuning changed, from the weights of a full checkpoint and its base."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from robustness.victims.files.checkpoint import Checkpoint
from robustness.victims.files.tensors import TensorFolder, match_names

FULL, BASE, BITFIT, LINEAR_PROBE = "full", "base", "bitfit", "linear-probe"
SKETCH = 256
"""The largest rank that counts as low."""
SHARE = 4
"""A low rank is at most the smaller side divided by this."""
UNRELATED = 0.1
"""Matrices of two bases have cosines near 0; after fine-tuning they are near 1, after long training of a toy above
.4."""


@dataclass(frozen=True, slots=True)
class Change:
    """The changes of a full checkpoint to its base."""

    adaptation: str
    """full, base (no change), bitfit (biases alone), or linear-probe (only a head is added)."""
    words: str
    rank: int | None = None
    """The highest rank of an update with only low ranks, such as a merged adapter."""
    trainable_parameters: int | None = None
    """Parameters in changed and added tensors; None if all may have been trained."""
    cosine: float = 1.0
    """Cosine of the changed matrices with the base's, as one vector; near 0 for another base."""


def read_change(checkpoint: Checkpoint) -> Change | None:
    """Returns the changes of a full checkpoint to its base, from their files; None for an adapter.

    Raises:
        CheckpointError: a folder without a readable safetensors file.
    """
    if checkpoint.is_adapter:
        return None
    with TensorFolder(checkpoint.base) as base, TensorFolder(checkpoint.folder) as tuned:
        return find_change(base, tuned)


def find_change(base: Mapping[str, torch.Tensor], tuned: Mapping[str, torch.Tensor]) -> Change:
    """Returns the differences between a base and its checkpoint, in one pass over the tensors.

    Different types are compared in the narrower type. Tensors that the base lacks are a head.

    >>> base = {"a.weight": torch.eye(2), "a.bias": torch.zeros(2)}
    >>> find_change(base, base).adaptation, find_change(base, base | {"a.bias": torch.ones(2)}).words
    ('base', 'biases alone: 1 of 2 tensors')
    """
    names = {theirs: mine for mine, theirs in match_names(base, tuned).items()}
    if not names:
        return Change(FULL, "no tensor has a name of the base's")
    added = [name for name in tuned if name not in names and tuned[name].is_floating_point()]
    changed: dict[str, int] = {}
    products = torch.zeros(3, dtype=torch.float64)
    ranks: list[int] = []
    is_low = True
    for name, of_base in names.items():
        before, after = base[of_base], tuned[name]
        if not after.is_floating_point():
            continue
        before, after, precision = _in_one_type(before, after)
        if before.shape == after.shape and torch.equal(before, after):
            continue
        changed[name] = after.numel()
        if before.shape == after.shape and before.ndim > 1:
            products += _products(before, after)
        rank = low_rank(before, after, precision) if is_low and before.shape == after.shape else None
        is_low = rank is not None
        ranks += [] if rank is None else [rank]
    count = f"{len(changed)} of {len(names)} tensors"
    n_added = sum(tuned[name].numel() for name in added)
    if not changed:
        words = f"nothing of {len(names)} tensors is changed"
        return Change(LINEAR_PROBE if added else BASE, words + (", a head is added" if added else ""), None, n_added)
    if all(name.endswith("bias") for name in changed):
        return Change(BITFIT, f"biases alone: {count}", None, sum(changed.values()) + n_added)
    if is_low:
        return Change(FULL, f"a low-rank update, as of a merged adapter: rank {max(ranks)} in {count}", max(ranks))
    both, first, second = products.tolist()
    return Change(FULL, count, cosine=both / math.sqrt(first * second) if first * second > 0 else 1.0)


def low_rank(before: torch.Tensor, after: torch.Tensor, precision: float) -> int | None:
    """Returns the rank of an update if it is far below full, else None; vectors give None.

    The singular values are those of the update in a random subspace (Halko et al., arXiv 0909.4061). Rounding of the
    merged weights explains values up to precision * rms(weight) * (sqrt(rows) + sqrt(columns)), the norm of a matrix
    of independent errors.
    """
    if before.ndim < 2:
        return None
    weight = after.double().flatten(1)
    update = weight - before.double().flatten(1)
    rows, columns = update.shape
    highest = min(SKETCH, min(rows, columns) // SHARE)
    if not highest or not bool(update.isfinite().all()):
        return None
    draws = torch.randn(columns, highest + 1, dtype=update.dtype, generator=torch.Generator().manual_seed(0))
    basis, _ = torch.linalg.qr(update @ draws)
    values = torch.linalg.svdvals(basis.T @ update)
    rounding = precision * float(weight.square().mean().sqrt()) * (math.sqrt(rows) + math.sqrt(columns))
    rank = int((values > rounding).sum())
    return rank if 0 < rank <= highest else None


def _products(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Inner products of both, and of each with itself."""
    first, second = before.double().flatten(), after.double().flatten()
    return torch.stack([first @ second, first @ first, second @ second])


def _in_one_type(before: torch.Tensor, after: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Both tensors in the narrower of their types, and its precision."""
    kinds = [tensor.dtype for tensor in (before, after) if tensor.is_floating_point()]
    narrow = max(kinds, key=lambda kind: torch.finfo(kind).eps)
    return before.detach().to(narrow), after.detach().to(narrow), torch.finfo(narrow).eps
