"""Prompts with their answers as training rows, and the score of a model's responses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from robustness.errors import CheckpointError, DataError
from robustness.tasks.task import Task
from robustness.testsets.example import Example
from robustness.training.examples.rows import EncodedRow, EncodedRows, Reader, ScoredRows, TrainingRows
from robustness.victims.batches import recover_memory
from robustness.victims.generation.causal import CausalModel
from robustness.victims.generation.decoding import BATCH_ROWS, Decoded, DecodingLimits, decode
from robustness.victims.heads.prompts import prompt_of
from robustness.victims.heads.texts import TextVictim
from robustness.victims.padding import settle_side

IGNORED = -100
"""The label of tokens without loss: prompt and padding."""
LONG_SHARE = 0.1
"""Allowed share of answers longer than a response; of GSM8K's, digit by digit, it is one in a hundred."""
TRIED_TOKENS = 8
"""Length of a response that only tests whether a model responds."""


def encode_texts(rows: TrainingRows, reader: Reader) -> EncodedRows:
    """Returns each prompt with its first gold text and the end token; only the latter two have labels.

    The tokens are the same as for the victim. Nothing is cut, because half an answer teaches wrong answers.

    Raises:
        CheckpointError: the tokenizer lacks an end token or the task's chat template. Or the model does not know the
            end token, or has no room for a prompt.
        DataError: a prompt is too long or prints the answer, or many answers exceed the length of a response.
    """
    task, tokenizer = rows.task, reader.tokenizer
    victim = TextVictim(reader.model, tokenizer, task)
    _refuse_unknown_end(tokenizer, reader.model.get_input_embeddings().num_embeddings, reader.name)
    encoding = _Encoding(rows.testset, task, victim, reader.free_positions)
    _refuse_printed_answers(rows.train, encoding)
    train, *_ = ([_encode(each, encoding) for each in part] for part in (rows.train, rows.selecting, rows.reporting))
    _refuse_long_answers(train, encoding)
    selecting, reporting = (
        ScoredRows((), respond=ResponseScore(task, tokenizer, half)) for half in (rows.selecting, rows.reporting)
    )
    return EncodedRows(tokenizer, task, tuple(train), selecting, reporting, labels_tokens=True)


@dataclass(frozen=True, slots=True)
class _Encoding:
    """Encodes a task's prompts and answers for one base."""

    testset: str
    """The test set's name in messages."""
    task: Task
    victim: TextVictim
    """The head that encodes as the victim will; its model is not run and needs no weights."""
    longest: int
    """The base's maximum of tokens besides learnt vectors."""


def _encode(example: Example, encoding: _Encoding) -> EncodedRow:
    row = f"train {encoding.testset}: the row {example.id!r}"
    try:
        prompt = encoding.victim.encode(example.texts)
    except ValueError as error:
        raise DataError(f"{row}: {error}; remove the row, or use a base of longer texts") from None
    answer = encoding.victim.target(example)
    if len(prompt) + len(answer) > encoding.longest:
        raise DataError(
            f"{row}: prompt and answer have {len(prompt)} and {len(answer)} tokens; the base takes "
            f"{encoding.longest} beside what the methods learn; remove the row, or use a base of longer texts"
        )
    ids = [*prompt, *answer]
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [IGNORED] * len(prompt) + list(answer)}


def _refuse_long_answers(rows: Sequence[EncodedRow], encoding: _Encoding) -> None:
    """Accepts a few long answers among many; responses there are cut."""
    allowed = _limits(encoding.task).max_new_tokens
    lengths = [sum(label != IGNORED for label in row["labels"]) for row in rows]
    long = sum(length > allowed for length in lengths)
    if long > LONG_SHARE * len(rows):
        raise DataError(
            f"train {encoding.testset}: {long} of {len(rows)} answers are longer than the {allowed} tokens after "
            f"which a response is cut; raise max_new_tokens in the task's [answer], for all of them to {max(lengths)}"
        )


def _refuse_printed_answers(examples: Sequence[Example], encoding: _Encoding) -> None:
    """Refuses prompts that contain the answer in every row, which would teach to copy."""
    for segment, name in enumerate(encoding.task.fields):
        if all(example.texts[segment].strip() == _gold(example) for example in examples):
            raise DataError(
                f"train {encoding.testset}: the field {name} is the gold answer itself, in all {len(examples)} rows; "
                "take it out of the task's fields and prompt"
            )
    prompt = prompt_of(encoding.task, encoding.victim.tokenizer)
    if all(prompt.render(example.texts).rstrip().endswith(_gold(example)) for example in examples):
        raise DataError(
            f"train {encoding.testset}: the prompt prints the gold answer at its end, in all {len(examples)} rows; "
            "take it out of the template, or of the texts"
        )


def _gold(example: Example) -> str:
    return example.answers[0].text.strip()


def _refuse_unknown_end(tokenizer: Any, vocabulary: int, name: str) -> None:
    if tokenizer.eos_token_id >= vocabulary:
        raise CheckpointError(
            f"{name}: its tokenizer's end token {tokenizer.eos_token!r} is number {tokenizer.eos_token_id}, and the "
            f"model knows {vocabulary} tokens, so no response would end; set eos_token in its tokenizer_config.json "
            "to one of these"
        )


@dataclass(frozen=True, slots=True)
class ResponseScore:
    """The mean quality of a model's greedy responses, by the task's own metric."""

    task: Task
    tokenizer: Any
    examples: tuple[Example, ...]

    def __call__(self, model: Any) -> float:
        """Returns the mean quality, in [0, 1]; restores the model's state."""
        assert self.task.answer is not None, "a definition without it is refused"
        was_training = model.training
        model.eval()
        with plain_forward(model):
            victim = TextVictim(model, self.tokenizer, self.task)
            shared = settle_side(victim, self.task)
            prompts = [victim.encode(example.texts) for example in self.examples]
            responses = self._decode(model, prompts, BATCH_ROWS if shared else 1)
        model.train(was_training)
        golds = ([gold.text for gold in example.answers] for example in self.examples)
        scores = [
            self.task.answer.score(response.text, gold).quality
            for response, gold in zip(responses, golds, strict=True)
        ]
        return sum(scores) / len(scores)

    def _decode(self, model: Any, prompts: Sequence[Sequence[int]], batch_rows: int) -> list[Decoded]:
        """Decodes in smaller batches if memory runs out, which changes no response in float32."""
        while True:
            try:
                causal = CausalModel(model, self.tokenizer)
                return decode(causal, prompts, _limits(self.task), batch_rows=batch_rows)
            except torch.OutOfMemoryError:
                if batch_rows == 1:
                    raise
            recover_memory()
            batch_rows //= 2

    def shortened(self) -> ResponseScore:
        """Returns the score of one response of few tokens, which only shows that the model responds."""
        assert self.task.answer is not None, "as above"
        answer = replace(self.task.answer, max_new_tokens=min(TRIED_TOKENS, self.task.answer.max_new_tokens))
        return replace(self, task=replace(self.task, answer=answer), examples=self.examples[:1])


def _limits(task: Task) -> DecodingLimits:
    assert task.answer is not None, "a definition without it is refused"
    return DecodingLimits(task.answer.max_new_tokens, task.answer.stop)


@contextmanager
def plain_forward(model: Any) -> Iterator[None]:
    """Lets a model trained under autocast answer in its own precision, in which it will be judged.

    accelerate wraps the forward pass in an attribute of the model.
    """
    wrapped = model.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if wrapped is not None:
            model.forward = wrapped
