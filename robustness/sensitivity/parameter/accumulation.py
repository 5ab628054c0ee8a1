"""Sums of gradients that hold no part of the sum back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.autograd.graph import Node

Edge = tuple[Node, int]
"""A node of the graph, and which of its outputs arrives."""
Add = Callable[[torch.Tensor], object]
"""Adds a gradient to a sum."""


def add_parts_at_once(value: torch.Tensor) -> None:
    """Lets the backward pass of a value add every part of a leaf's gradient to the leaf's `grad` at once.

    A leaf in several places of a graph has a gradient of several parts. Torch keeps each part until the last one is
    known. In a second derivative these are far apart: a weight is in the first pass's backward and in its forward.
    So torch holds a part for each weight, which is a copy of them all.

    Args:
        value: a scalar with a graph, whose backward pass follows. Leaves without `grad`, and parts that reach their
            leaf through a node with several inputs, are summed by torch. Hooks of leaves see no part added at once.
    """
    if value.grad_fn is None:
        return
    incoming = _incoming_edges(value.grad_fn)
    taps: defaultdict[Node, list[tuple[int, Add]]] = defaultdict(list)
    for node in list(incoming):
        leaf = _leaf(node)
        if leaf is not None and leaf.grad is not None:
            for (source, place), add in _parts(node, leaf.grad.add_, incoming):
                taps[source].append((place, add))
    for source, places in taps.items():
        source.register_hook(_taking(places))


def _leaf(node: Any) -> torch.Tensor | None:
    variable: torch.Tensor | None = node.variable if node.name().endswith("AccumulateGrad") else None
    return variable


def _incoming_edges(root: Node) -> dict[Node, list[Edge]]:
    """Where the gradients of each node come from."""
    incoming: dict[Node, list[Edge]] = {root: []}
    ahead = [root]
    while ahead:
        node = ahead.pop()
        for place, (after, _) in enumerate(node.next_functions):
            if after is not None:
                if after not in incoming:
                    incoming[after] = []
                    ahead.append(after)
                incoming[after].append((node, place))
    return incoming


def _parts(node: Node, add: Add, incoming: Mapping[Node, Sequence[Edge]]) -> Iterator[tuple[Edge, Add]]:
    """The edges by which the parts of a leaf's gradient arrive, each with how it is added.

    A node with one input and one output, such as a transposition, is linear: it acts on each part as on their sum.
    """
    edges = incoming[node]
    for edge in edges:
        source = edge[0]
        if len(incoming[source]) > 1 and len(source.next_functions) == len(source._input_metadata) == 1:
            yield from _parts(source, _after(source, add), incoming)
        elif len(edges) > 1:
            yield edge, add


def _after(node: Any, add: Add) -> Add:
    def act(part: torch.Tensor) -> object:
        found = node(part)
        return add(found[0] if isinstance(found, tuple) else found)

    return act


def _taking(places: Sequence[tuple[int, Add]]) -> Callable[..., tuple[torch.Tensor | None, ...]]:
    """A node's hook, which adds some of its outputs and passes none of them on."""

    def take(outputs: Sequence[torch.Tensor | None], _: Any) -> tuple[torch.Tensor | None, ...]:
        rest = list(outputs)
        for place, add in places:
            part, rest[place] = rest[place], None
            if part is not None:
                add(part)
        return tuple(rest)

    return take
