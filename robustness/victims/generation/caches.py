"""Caches of keys and values in transformers' format."""

from __future__ import annotations

from typing import Any

import torch


def holds(cache: Any, tokens: int) -> bool:
    """Whether a cache keeps this many tokens unchanged: a window loses some, a running state all."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    return all(
        type(layer) is DynamicLayer or (type(layer) is DynamicSlidingWindowLayer and tokens < layer.sliding_window)
        for layer in getattr(cache, "layers", [None])
    )


def select(cache: Any, rows: torch.Tensor, first: int) -> None:
    """Keeps some rows of a cache from one place on; everything before it is padding in all of them."""
    from transformers.cache_utils import DynamicSlidingWindowLayer

    for layer in cache.layers:
        layer.keys, layer.values = layer.keys[rows, :, first:], layer.values[rows, :, first:]
        if isinstance(layer, DynamicSlidingWindowLayer):  # counts its tokens apart, and masks as many
            layer.cumulative_length = layer.keys.shape[-2]


def repeat(cache: Any, rows: int) -> Any:
    """Returns a cache that repeats another's only row; the other stays unchanged."""
    from transformers import DynamicCache

    copy = DynamicCache()
    for index, layer in enumerate(cache.layers):
        copy.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), index)
    return copy
