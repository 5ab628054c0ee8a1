"""The registry of heads: how each kind is built, reads a text, and refuses checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robustness.tasks.task import Task
from robustness.testsets.example import Texts
from robustness.victims.files.checkpoint import Checkpoint
from robustness.victims.heads.head import Head
from robustness.victims.heads.kinds import HeadKind, has_label_head, head_kind
from robustness.victims.heads.labels import Victim
from robustness.victims.heads.prompts import prompt_of
from robustness.victims.heads.spans.answering import AnsweringVictim
from robustness.victims.heads.spans.windows import STRIDE_TOKENS, WINDOW_TOKENS
from robustness.victims.heads.texts import TextVictim
from robustness.victims.heads.verbalisers import PromptedVictim
from robustness.victims.inputs import stated_positions, tokenizer_limit
from robustness.victims.label_maps import find_columns, refuse_unknown_names


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """Settings for reading a model's answers."""

    task: Task
    label_columns: tuple[int, ...] = ()
    """The model's own index of each label, if it has an output for each."""
    segment_ids: bool = True
    """Whether a reader of questions gets segment ids."""
    padded: bool = True
    """Whether texts of unequal length may share a batch."""


def build_head(kind: HeadKind, model: Any, tokenizer: Any, options: HeadOptions) -> Head:
    """Returns the head of a kind on a model, without changing the model."""
    return _MAKERS[kind].build(model, tokenizer, options)


def find_label_columns(kind: HeadKind, checkpoint: Checkpoint, task: Task) -> tuple[int, ...]:
    """Returns the model's own index of each label; empty without outputs for labels.

    Raises:
        CheckpointError: its labels are not the task's, or the pair maps a name that no arm has.
    """
    if not kind.traits.sized_by_labels:
        partner = checkpoint.partner
        refuse_unknown_names(checkpoint, task, [partner] if partner is not None and has_label_head(partner) else [])
        return ()
    return find_columns(checkpoint, task)


def refuse_other_answers(checkpoint: Checkpoint, task: Task, load_tokenizer: Callable[[], Any]) -> None:
    """Refuses a checkpoint that cannot answer its task, by its files alone.

    Args:
        checkpoint: must have the task's labels, or a tokenizer that can render the task's chat.
        task: the task to answer.
        load_tokenizer: loads the checkpoint's tokenizer; called only if needed.

    Raises:
        CheckpointError: the message says what is wrong.
    """
    kind = head_kind(checkpoint, task)
    find_label_columns(kind, checkpoint, task)
    if kind.traits.reads_prompts and task.chat is not None:
        prompt_of(task, load_tokenizer())


def count_tokens(kind: HeadKind, task: Task, tokenizer: Any, config: Any, texts: Sequence[Texts]) -> list[int]:
    """Returns the tokens that a head reads for each text: truncated, in windows, or in the task's prompt.

    Args:
        kind: of the head.
        task: the texts' task.
        tokenizer: the checkpoint's.
        config: transformers' of its model.
        texts: the texts to encode.
    """
    return _MAKERS[kind].count(task, tokenizer, config, texts)


@dataclass(frozen=True, slots=True)
class _Maker:
    build: Callable[[Any, Any, HeadOptions], Head]
    count: Callable[[Task, Any, Any, Sequence[Texts]], list[int]]


def _label_head(model: Any, tokenizer: Any, options: HeadOptions) -> Head:
    return Victim(model, tokenizer, options.label_columns, labels=options.task.labels, padded=options.padded)


def _verbaliser_head(model: Any, tokenizer: Any, options: HeadOptions) -> Head:
    return PromptedVictim(model, tokenizer, options.task, padded=options.padded)


def _span_head(model: Any, tokenizer: Any, options: HeadOptions) -> Head:
    return AnsweringVictim(model, tokenizer, segment_ids=options.segment_ids, padded=options.padded)


def _text_head(model: Any, tokenizer: Any, options: HeadOptions) -> Head:
    return TextVictim(model, tokenizer, options.task, padded=options.padded)


def _count_truncated(task: Task, tokenizer: Any, config: Any, texts: Sequence[Texts]) -> list[int]:
    del task
    longest = min(stated_positions(config), tokenizer_limit(tokenizer))
    return [min(count, longest) for count in _lengths(tokenizer, texts)]


def _count_prompts(task: Task, tokenizer: Any, config: Any, texts: Sequence[Texts]) -> list[int]:
    prompt = prompt_of(task, tokenizer)
    return _count_truncated(task, tokenizer, config, [(prompt.render(text),) for text in texts])


def _count_windows(task: Task, tokenizer: Any, config: Any, texts: Sequence[Texts]) -> list[int]:
    del task, config
    step = WINDOW_TOKENS - STRIDE_TOKENS
    return [n + max(0, -(-(n - WINDOW_TOKENS) // step)) * STRIDE_TOKENS for n in _lengths(tokenizer, texts)]


def _lengths(tokenizer: Any, texts: Sequence[Texts]) -> list[int]:
    segments = [list(column) for column in zip(*texts, strict=True)]
    return [len(ids) for ids in tokenizer(*segments, truncation=False, verbose=False)["input_ids"]]


_MAKERS: Mapping[HeadKind, _Maker] = {
    HeadKind.LABELS: _Maker(_label_head, _count_truncated),
    HeadKind.VERBALISERS: _Maker(_verbaliser_head, _count_prompts),
    HeadKind.SPAN: _Maker(_span_head, _count_windows),
    HeadKind.TEXT: _Maker(_text_head, _count_prompts),
}
