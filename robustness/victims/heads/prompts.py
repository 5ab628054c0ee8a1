"""Prompts: a task's template, or messages rendered by a tokenizer's chat template, filled with texts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

import numpy as np

from robustness.errors import CheckpointError
from robustness.tasks.task import Chat, Task
from robustness.testsets.example import Span, Texts

_HOLE = re.compile("\ue000([0-9]+)\ue001")
"""Placeholder of a field while a chat template is rendered: characters that occur in no text."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt in pieces."""

    pieces: tuple[str | int, ...]
    """Fixed texts, and the indices of segments between them."""
    has_own_special_tokens: bool
    """Whether a chat template has written the special tokens, so that the tokenizer must not add its own."""

    def parts(self, texts: Texts) -> Iterator[tuple[str, int | None]]:
        """Yields the prompt's pieces with their segments; None for the prompt itself."""
        for piece in self.pieces:
            yield (piece, None) if isinstance(piece, str) else (texts[piece], piece)

    def render(self, texts: Texts) -> str:
        r"""Returns the whole prompt.

        >>> Prompt(("Review: ", 0, "\nSentiment:"), has_own_special_tokens=False).render(("a {fine} film",))
        'Review: a {fine} film\nSentiment:'
        """
        return "".join(part for part, _ in self.parts(texts))


def prompt_of(task: Task, tokenizer: Any) -> Prompt:
    """Returns the prompt of a task that has one.

    Raises:
        CheckpointError: the task has a chat, and the tokenizer has no chat template, or its template refuses the
            messages or omits a field.
    """
    if task.chat is None:
        return Prompt(_pieces(task.template, task.fields), has_own_special_tokens=False)
    user = "".join(
        piece if isinstance(piece, str) else f"\ue000{piece}\ue001" for piece in _pieces(task.chat.user, task.fields)
    )
    rendered = _render_chat(Chat(user, task.chat.system), tokenizer, task.name)
    split = _HOLE.split(rendered)  # texts and numbers alternate
    pieces = tuple(int(piece) if i % 2 else piece for i, piece in enumerate(split) if piece)
    for segment, name in enumerate(task.fields):
        if segment not in pieces:
            raise CheckpointError(
                f"{_named(tokenizer)}: its chat template leaves the field {{{name}}} of task {task.name} out; mend "
                "the chat template, or write a template into the task in place of [chat]"
            )
    return Prompt(pieces, has_own_special_tokens=True)


def locate_tokens(tokenizer: Any, prompt: Prompt, texts: Texts) -> tuple[list[int], list[Span | None]]:
    """Returns the tokens of a prompt and each token's place in a segment; None for template and special tokens.

    Raises:
        CheckpointError: the tokenizer gives no token places.
    """
    if not tokenizer.is_fast:
        raise CheckpointError(
            f"tokenizer {type(tokenizer).__name__}: gradients need a fast tokenizer, which knows where a token comes "
            "from; save the checkpoint with a tokenizer.json"
        )
    whole, bounds = "", []
    for part, segment in prompt.parts(texts):
        if segment is not None:
            bounds.append((len(whole), len(whole) + len(part), segment))
        whole += part
    options = {"truncation": False, "verbose": False, "add_special_tokens": not prompt.has_own_special_tokens}
    encoded = tokenizer(whole, return_offsets_mapping=True, **options)
    places = [
        next(
            (
                (segment, max(start, low) - low, min(end, high) - low)
                for low, high, segment in bounds
                if max(start, low) < min(end, high)
            ),
            None,
        )
        for start, end in encoded["offset_mapping"]
    ]
    return list(encoded["input_ids"]), places


def _render_chat(chat: Chat, tokenizer: Any, task: str) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise CheckpointError(
            f"{_named(tokenizer)}: has no chat template, and task {task} asks by [chat]; use a checkpoint that was "
            "tuned to follow instructions, or write a template into the task in place of [chat]"
        )
    messages = [{"role": "system", "content": chat.system}] if chat.system else []
    messages.append({"role": "user", "content": chat.user})
    try:
        rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # jinja's errors, and any error of a template
        remedy = "leave [chat] system out, or " if chat.system else ""
        raise CheckpointError(
            f"{_named(tokenizer)}: its chat template refuses the messages of task {task}: {error}; {remedy}write a "
            "template into the task in place of [chat]"
        ) from None
    return str(rendered)


def _pieces(template: str, fields: Sequence[str]) -> tuple[str | int, ...]:
    found: list[str | int] = []
    for literal, field, _, _ in Formatter().parse(template):
        found += [literal] if literal else []
        found += [] if field is None else [fields.index(field)]
    return tuple(found)


def _named(tokenizer: Any) -> str:
    return f"tokenizer {getattr(tokenizer, 'name_or_path', '') or type(tokenizer).__name__}"


def digest_tokens(tokens: Sequence[int]) -> bytes:
    """Returns a digest of one prompt's tokens, 16 bytes."""
    return hashlib.blake2b(np.array(tokens, dtype=np.int64).tobytes(), digest_size=16).digest()
