"""A loaded causal language model that answers with what it goes on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch

from robustness.errors import CheckpointError
from robustness.tasks.grading import Rows
from robustness.tasks.task import Task
from robustness.tasks.text.grading import TextGrader
from robustness.testsets.example import Example, Span, Texts
from robustness.victims.batches import TokenBatches, default_tokens
from robustness.victims.generation.causal import CausalModel
from robustness.victims.generation.decoding import Decoded, DecodingLimits, decode
from robustness.victims.generation.reading import Continuation, Reading, read_along
from robustness.victims.generation.sharing import read_shared
from robustness.victims.heads.embedded_batch import EmbeddedBatch
from robustness.victims.heads.head import Head
from robustness.victims.heads.kernels import Kernels
from robustness.victims.heads.kinds import HeadKind
from robustness.victims.heads.prompts import locate_tokens, prompt_of
from robustness.victims.heads.sequences.loss import locate_in_responses, response_gradients
from robustness.victims.heads.sequences.margin import batch_responses, embed_responses
from robustness.victims.heads.sequences.targets import find_unfit_responses
from robustness.victims.heads.text_gradients import Located, TextGradient
from robustness.victims.inputs import Company, longest_text

REMEMBERED = 4_096
"""Examples whose responses are kept to be read along."""
NOT_COMPILED = (
    "--compile: a model that decodes reads its own cache, which torch.compile does not serve: it is used as it is"
)
READS_AHEAD = (
    "what follows a token changes its answer at it, so it does not predict the next word; use a causal language model"
)
READING_AHEAD = 1e-3
"""The largest change of a log-probability, in float32, that is still rounding."""


@final
class TextVictim:
    """A causal language model with a task's prompt, whose response is parsed.

    A row holds the mean loss of the gold text's tokens, the end token among them, and the greedy response. Both are
    read along in one forward pass where that suffices: of the example's response that was decoded first, under a
    changed prompt, every token is still the likeliest; else the response is decoded from the first token on that is
    not. In float32 that is what decoding gives; in other precisions every response is decoded.

    Args:
        model: gives logits of the next token.
        tokenizer: the model's own, with padding and end tokens.
        task: has a prompt and an answer.
        padded: whether prompts of unequal length may share a batch.

    Raises:
        CheckpointError: a tokenizer without an end token, a chat that it cannot render, or no room for a prompt.
    """

    def __init__(self, model: Any, tokenizer: Any, task: Task, *, padded: bool = True) -> None:
        assert task.answer is not None, "a definition without it is refused"
        self.model = model
        self.tokenizer = tokenizer
        self.grader = TextGrader(task.answer)
        """Reads its rows."""
        self.can = HeadKind.TEXT.traits.can
        """What it may be asked."""
        self.padding_sides = ("right",)
        """On which its texts may be padded, the usual one first."""
        self.device: torch.device = next(model.parameters()).device
        if tokenizer.eos_token_id is None:
            raise CheckpointError(
                f"tokenizer {tokenizer.name_or_path}: has no end token, so no response would end; set eos_token in "
                "its tokenizer_config.json"
            )
        self.causal = CausalModel(model, tokenizer)
        """Decodes and reads along."""
        self._task = task
        self._answer = task.answer
        self._prompt = prompt_of(task, tokenizer)
        self._limits = DecodingLimits(task.answer.max_new_tokens, task.answer.stop)
        self.max_tokens = longest_text(model, tokenizer, reserved=task.answer.max_new_tokens)
        self.company = Company(padded)
        """Which prompts may share a batch."""
        self.truncated: set[str] = set()
        """None: a prompt that is longer than the model takes is an error of its row."""
        self.contradicted: set[str] = set()
        """Digests of the texts that were answered in another way when they were asked about again."""
        self.batches = TokenBatches(default_tokens(self.device))
        self._first: dict[str, tuple[int, ...]] = {}
        """By example, the response that is read along."""

    @property
    def forwards(self) -> int:
        """Rows run through the model so far."""
        return self.causal.forwards

    @forwards.setter
    def forwards(self, count: int) -> None:
        self.causal.forwards = count

    def rows(self, asked: Sequence[Example]) -> Rows:
        """Returns losses and responses, shape (len(asked), `grader.width`), float32, in their order.

        Raises:
            ValueError: a prompt longer than the model takes.
        """
        prompts = [self.encode(example.texts) for example in asked]
        targets = [self.target(example) for example in asked]
        known = [self._first.get(example.id) if self._reads_along else None for example in asked]
        # Where the response is the gold text to the last token, one pass tells both.
        apart = [index for index, tokens in enumerate(known) if tokens is not None and tokens != targets[index]]
        wanted = [Continuation(prompt, target) for prompt, target in zip(prompts, targets, strict=True)]
        read = self._read(asked, wanted)
        others = [Continuation(prompts[index], known[index] or ()) for index in apart]
        agreed = dict(zip(apart, self._read([asked[index] for index in apart], others), strict=True))
        responses = self._respond(asked, prompts, known, {**dict(enumerate(read)), **agreed})
        rows = [
            self.grader.row(reading.loss, response.text, cut=response.cut, generated=generated)
            for reading, (response, generated) in zip(read, responses, strict=True)
        ]
        return np.stack(rows) if rows else np.empty((0, self.grader.width), dtype=np.float32)

    def _respond(
        self,
        asked: Sequence[Example],
        prompts: Sequence[tuple[int, ...]],
        known: Sequence[tuple[int, ...] | None],
        readings: Mapping[int, Reading],
    ) -> list[tuple[Decoded, int]]:
        """Each response with how many tokens of it were decoded: what is known of it by reading along is not."""
        begun = [() if tokens is None else tokens[: readings[i].agreed] for i, tokens in enumerate(known)]
        responses = decode(self.causal, prompts, self._limits, begun=begun)
        for example, response in zip(asked, responses, strict=True):
            if example.id not in self._first:
                if len(self._first) >= REMEMBERED:
                    del self._first[next(iter(self._first))]
                self._first[example.id] = response.tokens
        return [(each, len(each.tokens) - len(start)) for start, each in zip(begun, responses, strict=True)]

    @property
    def _reads_along(self) -> bool:
        """In lower precisions rounding turns with the batch, and a token that was likeliest need not be."""
        return next(self.model.parameters()).dtype in (torch.float32, torch.float64)

    def _read(self, asked: Sequence[Example], rows: Sequence[Continuation]) -> list[Reading]:
        """Rows of one example share what they begin with; those that are alone share a batch."""
        groups: dict[str, list[int]] = {}
        for index, example in enumerate(asked):
            groups.setdefault(example.id, []).append(index)
        alone = [indices[0] for indices in groups.values() if len(indices) == 1]
        found = dict(zip(alone, read_along(self.causal, [rows[index] for index in alone]), strict=True))
        for indices in groups.values():
            if len(indices) > 1:
                found |= zip(indices, read_shared(self.causal, [rows[index] for index in indices]), strict=True)
        return [found[index] for index in range(len(rows))]

    def encode(self, text: Texts) -> tuple[int, ...]:
        """Returns the prompt's tokens.

        Raises:
            ValueError: it is longer than the model takes beside a response.
        """
        special = not self._prompt.has_own_special_tokens
        options = {"truncation": False, "verbose": False, "add_special_tokens": special}
        ids = list(self.tokenizer(self._prompt.render(text), **options)["input_ids"])
        if special and ids and ids[-1] in self.causal.ends:  # put behind every text: nothing would follow
            ids.pop()
        if not 0 < len(ids) <= self.max_tokens:
            raise ValueError(
                f"its prompt has {len(ids)} tokens; the model takes 1 to {self.max_tokens} beside a response of "
                f"{self._limits.max_new_tokens}"
            )
        return tuple(ids)

    def encode_segments(self, text: Texts) -> tuple[tuple[int, ...], tuple[Span | None, ...]]:
        """Returns the prompt's tokens, and where in which segment each stands; None: of the template, or special.

        Raises:
            ValueError: as `encode`.
            CheckpointError: a tokenizer that cannot say where a token comes from.
        """
        ids = self.encode(text)
        _, places = locate_tokens(self.tokenizer, self._prompt, text)
        return ids, tuple(places[: len(ids)])

    def target(self, example: Example) -> tuple[int, ...]:
        """Returns the tokens of the first gold text, and the end token."""
        text = self._answer.lead + (example.answers[0].text if example.answers else "")
        return (*self.tokenizer(text, add_special_tokens=False)["input_ids"], int(self.tokenizer.eos_token_id))

    @torch.inference_mode()
    def logits(self, texts: Sequence[Texts]) -> Rows:
        """Returns the logits of the next token, shape (len(texts), vocabulary), float32."""
        prompts = [self.encode(text) for text in texts]
        rows = []
        for prompt in prompts if not self.company.padded else ():
            rows.append(self.causal.run(*self.causal.pad([prompt], left=False), keep=1).logits[:, -1])
        if self.company.padded:
            ids, mask = self.causal.pad(prompts, left=False)
            kept = ids.shape[1] - min(map(len, prompts)) + 1
            logits = self.causal.run(ids, mask, keep=kept).logits
            last = mask.sum(dim=1) - 1 - (ids.shape[1] - kept)
            rows.append(logits[torch.arange(len(prompts), device=self.device), last])
        return np.asarray(torch.cat(rows).cpu().numpy())

    def compile(self) -> str | None:
        """Returns that a model which reads its own cache is not compiled."""
        return NOT_COMPILED

    def find_fault(self) -> str | None:
        """Returns that what follows a token changes the model's answer at it, or None."""
        prompt = self.encode(("a",) * len(self._task.fields))
        behind = (*prompt, int(self.tokenizer.eos_token_id))
        alone, followed = (self.causal.run(*self.causal.pad([row], left=False), keep=2) for row in (prompt, behind))
        first, second = (logits.log_softmax(dim=-1) for logits in (alone.logits[0, -1], followed.logits[0, -2]))
        return READS_AHEAD if bool((first - second).abs().max() > READING_AHEAD) else None

    def read_as(self, other: Head) -> TextVictim:
        """Returns a new head on this one's model: a task's answer is the same in all."""
        del other
        return TextVictim(self.model, self.tokenizer, self._task, padded=self.company.padded)

    def describe_scoring(self) -> list[str]:
        """What rows depend on besides the checkpoint: prompt, answer, longest text, device, dtype."""
        return [repr(self._task), str(self.max_tokens), *Kernels(self.model).describe()]

    def embed(self, asked: Sequence[Example]) -> EmbeddedBatch:
        """Returns what `embed_responses` does."""
        return embed_responses(self, asked)

    def gradient_batches(self, asked: Sequence[Example]) -> list[list[Example]]:
        """Groups examples by token length, longest first, so that a batch fits the device and pads little."""
        return batch_responses(self, asked)

    def locate(self, asked: Sequence[Example]) -> list[Located]:
        """Returns the content tokens of each example."""
        return locate_in_responses(self, asked)

    def text_gradients(self, asked: Sequence[Example]) -> list[TextGradient]:
        """Returns the gradient at each example's text."""
        return response_gradients(self, asked)

    def find_unfit(self, asked: Sequence[Example]) -> dict[str, str]:
        """Returns why, by id, the examples that have no sequence margin have none."""
        return find_unfit_responses(self, asked)
