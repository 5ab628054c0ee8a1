"""A model's word embeddings: finds their lookup and changes its output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from robustness.errors import CheckpointError
from robustness.victims.inputs import bare_model


def embedding_module(model: Any) -> Any:
    """Returns the module that looks up a text's tokens; for an encoder-decoder the encoder's.

    Raises:
        CheckpointError: tokens have no embeddings of their own, for example hashed characters.
    """
    bare = bare_model(model)
    try:
        if getattr(bare.config, "is_encoder_decoder", False):
            module = bare.base_model.get_encoder().get_input_embeddings()  # BART's lookup scales the shared table
        else:
            module = model.get_input_embeddings()
    except NotImplementedError:
        module = None
    if getattr(module, "weight", None) is None:
        raise CheckpointError(
            f"model {type(bare).__name__}: it has no table of word embeddings; gradients need one row for each token"
        )
    return module


def look_up(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Returns the model's word embeddings of tokens, shape (*ids.shape, dim), float32."""
    return _first(embedding_module(model)(ids)).float()


@contextmanager
def replaced_lookup(
    model: Any, inputs: Mapping[str, torch.Tensor], embeddings: torch.Tensor, keep: torch.Tensor | None = None
) -> Iterator[None]:
    """Replaces the word embeddings of a text's tokens for one forward pass.

    `inputs_embeds=` would suffice for BERT. But RoBERTa reads positions from `input_ids`, decoders the last token,
    and learnt prompts their place. So the ids are passed as for scores, and only the lookup changes. The encoder's
    text in a decoder's input, shifted by one place, is replaced as well.

    Args:
        model: the model of the forward pass.
        inputs: its inputs, including the tokens `input_ids` of shape (batch, tokens).
        embeddings: (batch, tokens, dim).
        keep: (batch, tokens), bool: where to keep the table's output; None: nowhere.

    Raises:
        CheckpointError: the model looks up other tokens than its inputs, or none.
    """

    def replace(looked: torch.Tensor, looked_up: torch.Tensor) -> torch.Tensor | None:
        own = embeddings.to(looked_up.dtype, copy=True)  # some models modify it in place
        given = _placed(looked, inputs["input_ids"], looked_up, own)
        return given if given is None or keep is None else torch.where(keep[:, :, None], looked_up, given)

    with _changed_lookup(model, inputs, replace):
        yield


@contextmanager
def shifted_lookup(model: Any, inputs: Mapping[str, torch.Tensor], shift: torch.Tensor) -> Iterator[None]:
    """Adds to the word embeddings of a text's tokens in one forward pass; gradients reach table and shift.

    A decoder that reads the text again, shifted by one place, gets the same shift of the same tokens.

    Args:
        model: as above.
        inputs: as above.
        shift: (batch, tokens, dim).

    Raises:
        CheckpointError: as above.
    """

    def add(looked: torch.Tensor, looked_up: torch.Tensor) -> torch.Tensor | None:
        placed = _placed(looked, inputs["input_ids"], torch.zeros_like(looked_up), shift.to(looked_up.dtype))
        return None if placed is None else looked_up + placed

    with _changed_lookup(model, inputs, add):
        yield


@contextmanager
def _changed_lookup(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor | None],
) -> Iterator[None]:
    """Passes the looked-up tokens and the table's output to `change`, which returns None for other tokens."""
    module = embedding_module(model)
    inside = set(module.modules())
    sharing = [
        other
        for other in model.modules()
        if isinstance(other, torch.nn.Embedding) and other.weight is module.weight and other not in inside
    ]
    changed = 0

    def answer_changed(_module: Any, arguments: tuple[Any, ...], answer: Any) -> Any:
        nonlocal changed
        given = change(arguments[0], _first(answer))
        if given is None:
            _refuse_other_tokens(model, arguments[0], inputs)
            return answer
        changed += 1
        return (given, *answer[1:]) if isinstance(answer, tuple) else given

    hooks = [each.register_forward_hook(answer_changed) for each in (module, *sharing)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    if not changed:
        raise CheckpointError(
            f"model {type(model).__name__}: it never looked up the tokens it was given; embedding attacks need a "
            "model that does"
        )


def _placed(
    looked: torch.Tensor, ids: torch.Tensor, looked_up: torch.Tensor, embeddings: torch.Tensor
) -> torch.Tensor | None:
    """The embeddings in the order of the looked-up tokens; None for other tokens."""
    rows, tokens = ids.shape
    if looked_up.shape == embeddings.shape:
        same_memory = looked.data_ptr() == ids.data_ptr() and looked.stride() == ids.stride()
        if same_memory or torch.equal(looked, ids):  # the first needs no wait for a GPU
            return embeddings
        if torch.equal(looked[:, 1:], ids[:, :-1]):  # a decoder's tokens after its start token
            return torch.cat([looked_up[:, :1], embeddings[:, :-1]], dim=1)
    if looked.shape == (tokens, rows) and torch.equal(looked, ids.T):
        return embeddings.transpose(0, 1)
    if looked.dim() == 2 and looked.shape[1] > tokens and torch.equal(looked[:, :tokens], ids):
        return torch.cat([embeddings, looked_up[:, tokens:]], dim=1)  # padded further by the model itself
    return None


def _refuse_other_tokens(model: Any, looked: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> None:
    """Allows lookups other than a text's tokens: padding by the model itself, and GPT-2's segments."""
    padding = getattr(model.config, "pad_token_id", None)
    if padding is not None and bool((looked == padding).all()):
        return
    if not any(torch.equal(looked, other) for name, other in inputs.items() if name != "input_ids"):
        raise CheckpointError(
            f"model {type(model).__name__}: it looks up tokens of shape {tuple(looked.shape)}, which are not the "
            f"expected ones of shape {tuple(inputs['input_ids'].shape)} that it is given; embedding attacks do not "
            "support it"
        )


def _first(answer: Any) -> torch.Tensor:
    """The looked-up tensor of a module that also returns a scale."""
    found: torch.Tensor = answer[0] if isinstance(answer, tuple) else answer
    return found
