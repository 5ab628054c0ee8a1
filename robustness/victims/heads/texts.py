"""A loaded causal language model that answers with its continuation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from robustness.errors import CheckpointError
from robustness.tasks.grading import Rows
from robustness.tasks.task import Task
from robustness.tasks.text.grading import TextGrader, TextRow
from robustness.testsets.example import Example, Span, Texts
from robustness.victims.batches import TokenBatches, default_tokens
from robustness.victims.generation.causal import CausalModel
from robustness.victims.generation.decoding import Decoded, DecodingLimits
from robustness.victims.generation.reading import Continuation
from robustness.victims.generation.responses import Responses
from robustness.victims.heads.embedded_batch import EmbeddedBatch
from robustness.victims.heads.head import Head
from robustness.victims.heads.kernels import Kernels
from robustness.victims.heads.kinds import HeadKind
from robustness.victims.heads.prompts import digest_tokens, locate_tokens, prompt_of
from robustness.victims.heads.sequences.loss import response_gradients
from robustness.victims.heads.sequences.margin import batch_responses, embed_responses
from robustness.victims.heads.sequences.targets import find_unfit_responses
from robustness.victims.heads.text_gradients import Located, TextGradient
from robustness.victims.heads.verbaliser_gradients import locate_in_prompts
from robustness.victims.inputs import Company, longest_text
from robustness.victims.isolation import UnfitTextError

NOT_COMPILED = (
    "--compile: a model that decodes reads its own cache, which torch.compile does not support: it runs uncompiled"
)
READS_AHEAD = (
    "what follows a token changes its answer at it, so it does not predict the next word; use a causal language model"
)


@final
class TextVictim:
    """A causal language model with a task's prompt, whose response is parsed.

    A row holds the mean loss of the gold text's tokens, including the end token, and the greedy response. A search's
    questions cost less: losses need one forward pass. A candidate's response is decoded from the first token that
    differs from both the gold text and the example's own response.

    Args:
        model: gives logits of the next token.
        tokenizer: the model's own, with padding and end tokens.
        task: has a prompt and an answer.
        padded: whether prompts of unequal length may share a batch.

    Raises:
        CheckpointError: the tokenizer has no end token or cannot render the chat, or there is no room for a prompt.
    """

    def __init__(self, model: Any, tokenizer: Any, task: Task, *, padded: bool = True) -> None:
        assert task.answer is not None, "a definition without it is refused"
        self.model = model
        self.tokenizer = tokenizer
        self.grader = TextGrader(task.answer)
        """Grades its rows."""
        self.can = HeadKind.TEXT.traits.can
        """Its abilities."""
        self.padding_sides = ("right",)
        """Sides on which its texts may be padded, the usual one first."""
        self.device: torch.device = next(model.parameters()).device
        if tokenizer.eos_token_id is None:
            raise CheckpointError(
                f"tokenizer {tokenizer.name_or_path}: has no end token, so no response would end; set eos_token in "
                "its tokenizer_config.json"
            )
        self.causal = CausalModel(model, tokenizer)
        """Decodes, and scores continuations."""
        self._task = task
        self._answer = task.answer
        self._prompt = prompt_of(task, tokenizer)
        self._limits = DecodingLimits(task.answer.max_new_tokens, task.answer.stop)
        self._responses = Responses(self.causal, self._limits)
        self.max_tokens = longest_text(model, tokenizer, reserved=task.answer.max_new_tokens)
        self.company = Company(padded)
        """Which prompts may share a batch."""
        self.truncated: set[str] = set()
        """Always empty: a prompt too long for the model is an error of its row."""
        self.contradicted: set[str] = set()
        """Digests of texts that got another answer when asked about again."""
        self.batches = TokenBatches(default_tokens(self.device))

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
            UnfitTextError: a prompt is too long for the model.
        """
        wanted = [self._continuation(example) for example in asked]
        responses = self._responses.decode(_ids(asked), [row.prompt for row in wanted])
        return self._rows(self._read(asked, wanted), [(each, len(each.tokens)) for each in responses])

    def read(self, texts: Sequence[Texts]) -> list[bytes]:
        """Returns a digest of each prompt's tokens; prompts with equal tokens share one answer in a search.

        Raises:
            UnfitTextError: a prompt is too long for the model.
        """
        return [digest_tokens(self.encode(text)) for text in texts]

    def loss_rows(self, asked: Sequence[Example]) -> Rows:
        """Returns loss rows without decoding, shape (len(asked), numbers).

        Raises:
            UnfitTextError: a prompt is too long for the model.
        """
        rows = self._read(asked, [self._continuation(example) for example in asked])
        return np.stack(rows) if rows else np.empty((0, TextRow.LENGTH), dtype=np.float32)

    def rows_along(self, asked: Sequence[Example], read: Sequence[NDArray[np.float32] | None]) -> Rows:
        """Returns the same as `rows`, but decodes only from the first token that one forward pass does not decide.

        Args:
            asked: candidates of examples whose clean text it has answered.
            read: their loss rows; None where not known.

        Raises:
            UnfitTextError: a prompt is too long for the model.
        """
        wanted = [self._continuation(example) for example in asked]
        unread = [index for index, row in enumerate(read) if row is None]
        fresh = iter(self._read([asked[index] for index in unread], [wanted[index] for index in unread]))
        losses = [next(fresh) if row is None else row for row in read]
        agreed = [int(row[TextRow.AGREED]) for row in losses]
        return self._rows(losses, self._responses.decode_rest(_ids(asked), wanted, agreed))

    def _read(self, asked: Sequence[Example], wanted: Sequence[Continuation]) -> list[NDArray[np.float32]]:
        """The loss row of each example."""
        readings = self._responses.read(_ids(asked), wanted)
        return [self.grader.loss_row(reading.loss, reading.agreed) for reading in readings]

    def _rows(self, losses: Sequence[NDArray[np.float32]], responses: Sequence[tuple[Decoded, int]]) -> Rows:
        rows = [
            self.grader.row(loss, response.text, cut=response.cut, agreed=int(agreed), generated=generated)
            for (loss, agreed, _), (response, generated) in zip(losses, responses, strict=True)
        ]
        return np.stack(rows) if rows else np.empty((0, self.grader.width), dtype=np.float32)

    def _continuation(self, example: Example) -> Continuation:
        found = Continuation(self.encode(example.texts), self.target(example))
        longest = self.max_tokens + self._limits.max_new_tokens
        if len(found.whole) > longest:  # missing positions would end a CUDA process
            raise UnfitTextError(
                f"its prompt and gold text have {len(found.prompt)} and {len(found.tokens)} tokens; the model takes "
                f"{longest}"
            )
        return found

    def encode(self, text: Texts) -> tuple[int, ...]:
        """Returns the prompt's tokens.

        Raises:
            UnfitTextError: it leaves no room for a response.
        """
        special = not self._prompt.has_own_special_tokens
        options = {"truncation": False, "verbose": False, "add_special_tokens": special}
        ids = list(self.tokenizer(self._prompt.render(text), **options)["input_ids"])
        if special and ids and ids[-1] in self.causal.ends:  # added after every text: no response would follow
            ids.pop()
        if not 0 < len(ids) <= self.max_tokens:
            raise UnfitTextError(
                f"its prompt has {len(ids)} tokens; the model takes 1 to {self.max_tokens} beside a response of "
                f"{self._limits.max_new_tokens}"
            )
        return tuple(ids)

    def encode_segments(self, text: Texts) -> tuple[tuple[int, ...], tuple[Span | None, ...]]:
        """Returns the prompt's tokens and each token's place in a segment; None for template and special tokens.

        Raises:
            UnfitTextError: as `encode`.
            CheckpointError: the tokenizer gives no token places.
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
        """Returns the reason: a model that reads its own cache is not compiled."""
        return NOT_COMPILED

    def find_fault(self) -> str | None:
        """Returns a message if later tokens change the model's output at a token, or None."""
        prompt = self.encode(("a",) * len(self._task.fields))
        return READS_AHEAD if self.causal.reads_ahead(prompt) else None

    def read_as(self, other: Head) -> TextVictim:
        """Returns a new head on this one's model: a task's answer is the same for all heads."""
        del other
        return TextVictim(self.model, self.tokenizer, self._task, padded=self.company.padded)

    def describe_scoring(self) -> list[str]:
        """Everything that rows depend on besides the checkpoint: prompt, answer, longest text, device, dtype."""
        return [repr(self._task), str(self.max_tokens), *Kernels(self.model).describe()]

    def embed(self, asked: Sequence[Example]) -> EmbeddedBatch:
        """See `embed_responses`."""
        return embed_responses(self, asked)

    def gradient_batches(self, asked: Sequence[Example]) -> list[list[Example]]:
        """Groups examples by token length, longest first, so that a batch fits the device and pads little."""
        return batch_responses(self, asked)

    def locate(self, asked: Sequence[Example]) -> list[Located]:
        """Returns the content tokens of each example."""
        return locate_in_prompts(self, asked)

    def text_gradients(self, asked: Sequence[Example]) -> list[TextGradient]:
        """Returns the gradient at each example's text."""
        return response_gradients(self, asked)

    def find_unfit(self, asked: Sequence[Example]) -> dict[str, str]:
        """Returns the reasons, by id, of examples without a sequence margin."""
        return find_unfit_responses(self, asked)


def _ids(asked: Sequence[Example]) -> list[str]:
    return [example.id for example in asked]
