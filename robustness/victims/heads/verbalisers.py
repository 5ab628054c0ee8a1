"""A loaded causal language model that classifies by the probabilities of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from robustness.errors import CheckpointError
from robustness.tasks.grading import LabelGrader, Rows
from robustness.tasks.task import Task
from robustness.testsets.example import Example, Span, Texts, digest_texts
from robustness.victims.batches import TokenBatches, default_tokens
from robustness.victims.generation.causal import CausalModel
from robustness.victims.generation.choosing import score_choices
from robustness.victims.heads.embedded_batch import EmbeddedBatch
from robustness.victims.heads.head import Head
from robustness.victims.heads.kernels import Kernels
from robustness.victims.heads.kinds import HeadKind
from robustness.victims.heads.labels import ENCODE_TEXTS, Scores
from robustness.victims.heads.prompts import digest_tokens, locate_tokens, prompt_of
from robustness.victims.heads.text_gradients import Located, TextGradient, text_gradients
from robustness.victims.heads.verbaliser_gradients import batch_prompts, embed_prompts, locate_in_prompts
from robustness.victims.inputs import Company, accepted_inputs, longest_text
from robustness.victims.isolation import UnfitTextError

SHARING_ROWS = 4
"""Least number of one example's texts whose common prefix gets its own pass."""
CACHES = frozenset({"cache", "past_key_values"})
"""The argument for a cache."""
NOT_COMPILED = (
    "--compile: a prompted model reads its own cache, which torch.compile does not support: the model runs uncompiled"
)
READS_AHEAD = (
    "what follows a token changes its answer at it, so it does not predict the next word as prompts need it; use a "
    "causal language model, or a checkpoint with a head for labels"
)


@final
class PromptedVictim:
    r"""A causal language model with a task's prompt and one verbaliser for each label.

    The score of label l is the mean log-probability of its verbaliser's tokens after the prompt, $$\frac{1}{|v_l|}
    \sum_k \log p(v_{l,k} \mid \mathrm{prompt}, v_{l,<k}).$$ So long verbalisers have no disadvantage. The prompt is
    run once for all labels. Only verbalisers of several tokens need a second pass, which reads the first one's cache.
    Rows are padded on the right, which no real token attends to, so scores do not depend on other rows.

    Source: length-normalised scoring of answers, GPT-3 (arXiv 2005.14165, section 2.4).

    Args:
        model: gives logits of the next token.
        tokenizer: the model's own.
        task: has a prompt and verbalisers.
        padded: whether prompts of unequal length may share a batch.
        batch_tokens: tokens of a batch; None for the device's default.

    Raises:
        CheckpointError: the tokenizer encodes two verbalisers equally, or cannot render the chat.
    """

    def __init__(
        self, model: Any, tokenizer: Any, task: Task, *, padded: bool = True, batch_tokens: int | None = None
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.grader = LabelGrader(task.labels)
        """Grades its rows."""
        self.can = HeadKind.VERBALISERS.traits.can
        """Its abilities."""
        self.padding_sides = ("right",)
        """Sides on which its texts may be padded, the usual one first."""
        self.device: torch.device = next(model.parameters()).device
        prompts = getattr(model, "active_peft_config", None)
        self._is_prompt_learning = bool(getattr(prompts, "is_prompt_learning", False))
        self._accepted = accepted_inputs(model) | CACHES
        self._causal = CausalModel(model, tokenizer)
        """Runs common prefixes of prompts."""
        self._task = task
        self._prompt = prompt_of(task, tokenizer)
        self._adds_special = not self._prompt.has_own_special_tokens
        self._appended = _appended_tokens(tokenizer) if self._adds_special else 0
        """Number of tokens that the tokenizer adds after every text; continuations must not follow these."""
        self.verbalisers = _verbaliser_tokens(tokenizer, task)
        """Tokens of each label's verbaliser."""
        longest = max(len(ids) for ids in self.verbalisers)
        self.max_tokens = longest_text(model, tokenizer, reserved=longest)
        self.company = Company(padded)
        """Which prompts may share a batch."""
        self.forwards = 0
        """Texts run through the model so far."""
        self.truncated: set[str] = set()
        """Digests of texts with a truncated prompt, which loses its first tokens."""
        self.contradicted: set[str] = set()
        """Digests of texts that got another label when asked about again."""
        self.batches = TokenBatches(batch_tokens or default_tokens(self.device))

    def rows(self, asked: Sequence[Example]) -> Rows:
        """Returns the scores of the examples' texts, shape (len(asked), labels), float32.

        Many texts of one example (a search's candidates) have a common prompt prefix, which is run once.
        """
        groups: dict[str, list[int]] = {}
        for index, example in enumerate(asked):
            groups.setdefault(example.id, []).append(index)
        is_shared = self.company.padded and not self._is_prompt_learning
        many = [indices for indices in groups.values() if is_shared and len(indices) >= SHARING_ROWS]
        if not many or not self._causal.can_cache:
            return self.scores([example.texts for example in asked])
        rows = np.empty((len(asked), len(self.verbalisers)), dtype=np.float32)
        left = sorted(set(range(len(asked))).difference(*many))
        rows[left] = self.scores([asked[index].texts for index in left])
        choices = [tuple(verbaliser) for verbaliser in self.verbalisers]
        for indices in many:
            prompts = [tuple(self.encode(asked[index].texts)) for index in indices]
            rows[indices] = score_choices(self._causal, prompts, choices).cpu().numpy()
            self.forwards += len(indices)
        return rows

    @torch.inference_mode()
    def scores(self, texts: Sequence[Texts]) -> Scores:
        """Returns mean log-probabilities, shape (len(texts), labels), float32, in the order of `texts`."""
        scores = np.empty((len(texts), len(self.verbalisers)), dtype=np.float32)
        for start in range(0, len(texts), ENCODE_TEXTS):
            chunk = [self.encode(text) for text in texts[start : start + ENCODE_TEXTS]]
            scores[start : start + len(chunk)] = self._score_chunk(chunk)
        return scores

    def read(self, texts: Sequence[Texts]) -> list[bytes]:
        """Returns a digest of each prompt's tokens; prompts with equal tokens share one score in a search."""
        return [digest_tokens(self.encode(text)) for text in texts]

    def logits(self, texts: Sequence[Texts]) -> Scores:
        """Returns the scores."""
        return self.scores(texts)

    def embed(self, asked: Sequence[Example]) -> EmbeddedBatch:
        """See `embed_prompts`."""
        return embed_prompts(self, asked)

    def gradient_batches(self, asked: Sequence[Example]) -> list[list[Example]]:
        """Groups examples by token length, longest first, so that a batch fits the device and pads little."""
        return batch_prompts(self, asked)

    def locate(self, asked: Sequence[Example]) -> list[Located]:
        """Returns the content tokens of each example."""
        return locate_in_prompts(self, asked)

    def text_gradients(self, asked: Sequence[Example]) -> list[TextGradient]:
        """Returns the gradient at each example's text."""
        return text_gradients(self, asked)

    def find_unfit(self, asked: Sequence[Example]) -> dict[str, str]:
        """Returns nothing: with labels every text has a margin."""
        del asked
        return {}

    def _score_chunk(self, prompts: Sequence[Sequence[int]]) -> Scores:
        score = self._score_repeated if self._is_prompt_learning else self._score_cached
        scores = np.empty((len(prompts), len(self.verbalisers)), dtype=np.float32)

        def forward(batch: NDArray[np.int64]) -> Scores:
            found = score([prompts[index] for index in batch])
            self.forwards += len(batch)
            return np.asarray(found.float().cpu().numpy())

        lengths = np.array([len(prompt) for prompt in prompts])
        for batch, rows in self.batches.run(lengths, forward, self.company.kinds(prompts)):
            scores[batch] = rows
        return scores

    def encode(self, text: Texts) -> list[int]:
        """Returns the prompt's tokens; a prompt too long for the model loses its first tokens.

        Raises:
            UnfitTextError: it has no tokens.
        """
        options = {"truncation": False, "verbose": False, "add_special_tokens": self._adds_special}
        ids = self._without_appended(self.tokenizer(self._prompt.render(text), **options)["input_ids"])
        kept = self._kept(ids)
        if len(kept) < len(ids):
            self.truncated.add(digest_texts(text))
        return [ids[place] for place in kept]

    def encode_segments(self, text: Texts) -> tuple[list[int], list[Span | None]]:
        """Returns the prompt's tokens and each token's place in a segment; None for template and special tokens.

        Raises:
            UnfitTextError: it has no tokens.
            CheckpointError: the tokenizer gives no token places.
        """
        whole, places = locate_tokens(self.tokenizer, self._prompt, text)
        ids = self._without_appended(whole)
        kept = self._kept(ids)
        return [ids[place] for place in kept], [places[place] for place in kept]

    def _without_appended(self, ids: Sequence[int]) -> list[int]:
        left = list(ids[: len(ids) - self._appended])
        if not left:  # no token predicts the first one of a verbaliser
            raise UnfitTextError("its prompt has no tokens; the model takes at least 1")
        return left

    def read_as(self, other: Head) -> PromptedVictim:
        """Returns a new head on this one's model: a task's verbalisers are the same for all heads."""
        del other
        return PromptedVictim(self.model, self.tokenizer, self._task, padded=self.company.padded)

    def compile(self) -> str | None:
        """Returns the reason: a model that reads its own cache is not compiled."""
        return NOT_COMPILED

    def describe_scoring(self) -> list[str]:
        """What scores depend on besides the checkpoint: prompt, verbalisers, longest text, device, dtype."""
        prompt = [self._task.template, repr(self._task.chat), *self._task.labels]
        return [*prompt, str(self.verbalisers), str(self.max_tokens), *Kernels(self.model).describe()]

    def find_fault(self) -> str | None:
        """Returns a message if later tokens change the model's output at a token, or None."""
        prompt = self.encode(("a",) * len(self._task.fields))
        return READS_AHEAD if self._causal.reads_ahead(prompt) else None

    def _kept(self, ids: Sequence[int]) -> list[int]:
        """Places of the tokens that fit the model: the last ones, and the first if it begins every text."""
        if len(ids) <= self.max_tokens:
            return list(range(len(ids)))
        bos = [0] if ids[0] == self.tokenizer.bos_token_id else []
        return bos + list(range(len(ids) - self.max_tokens + len(bos), len(ids)))

    def _score_cached(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """The prompt once; then each verbaliser's tokens, at the positions after each row's own end."""
        ids, mask = self.pad(prompts)
        output = self.run(input_ids=ids, attention_mask=mask, use_cache=True)
        lengths = mask.sum(dim=1)
        rows = torch.arange(len(prompts), device=self.device)
        first = output.logits[rows, lengths - 1].float().log_softmax(dim=-1)
        width, longest = ids.shape[1], max(len(ids) for ids in self.verbalisers)
        name = "cache" if "cache" in output else "past_key_values"  # renamed by transformers 5
        cache = output.get(name)
        if longest > 1 and not ("position_ids" in self._accepted and _holds(cache, width + longest)):
            return self._score_repeated(prompts)
        scores = []
        for verbaliser in self.verbalisers:
            total = first[:, verbaliser[0]]
            if len(verbaliser) > 1:
                said = torch.tensor(verbaliser[:-1], device=self.device).expand(len(prompts), -1)
                steps = torch.arange(said.shape[1], device=self.device)
                follow = self.run(
                    input_ids=said,
                    attention_mask=torch.cat([mask, torch.ones_like(said)], dim=1),
                    position_ids=lengths[:, None] + steps,
                    cache_position=width + steps,
                    use_cache=True,
                    **{name: cache},
                )
                cache.crop(-said.shape[1])
                wanted = torch.tensor(verbaliser[1:], device=self.device).expand(len(prompts), -1)
                total = total + _chosen(follow.logits, wanted).sum(dim=1)
            scores.append(total / len(verbaliser))
        return torch.stack(scores, dim=1)

    def _score_repeated(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """The whole sequence for each label, because learnt prompts put their own cache before the text."""
        scores = []
        for verbaliser in self.verbalisers:
            ids, mask = self.pad([[*prompt, *verbaliser] for prompt in prompts])
            logits = self.run(input_ids=ids, attention_mask=mask).logits[:, -ids.shape[1] :]
            ends = mask.sum(dim=1)[:, None] - len(verbaliser) - 1
            places = ends + torch.arange(len(verbaliser), device=self.device)
            rows = torch.arange(len(prompts), device=self.device)[:, None]
            wanted = torch.tensor(verbaliser, device=self.device).expand(len(prompts), -1)
            scores.append(_chosen(logits[rows, places], wanted).mean(dim=1))
        return torch.stack(scores, dim=1)

    def run(self, **inputs: Any) -> Any:
        """Runs the model on the inputs that it accepts."""
        return self.model(**{name: values for name, values in inputs.items() if name in self._accepted})

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns tokens and attention mask, padded on the right, shape (rows, tokens)."""
        width = max(len(row) for row in rows)
        ids = torch.full((len(rows), width), int(self.tokenizer.pad_token_id))
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = torch.tensor(row)
            mask[index, : len(row)] = 1
        return ids.to(self.device), mask.to(self.device)


def _appended_tokens(tokenizer: Any) -> int:
    """Number of tokens, such as </s> or [SEP], that a tokenizer adds after every text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    starts = [start for start in range(len(whole) - len(bare) + 1) if whole[start : start + len(bare)] == bare]
    return len(whole) - len(bare) - starts[0] if starts else 0


def _verbaliser_tokens(tokenizer: Any, task: Task) -> list[list[int]]:
    """The tokens of each verbaliser after a prompt; encoded alone, some begin with a mark or one more space."""
    prompt = prompt_of(task, tokenizer).render(("a",) * len(task.fields))
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    found = []
    for verbaliser in task.verbalisers:
        alone = list(tokenizer(verbaliser, add_special_tokens=False)["input_ids"])
        both = list(tokenizer(prompt + verbaliser, add_special_tokens=False)["input_ids"])
        behind = both[len(before) :] if both[: len(before)] == before else []
        is_word = verbaliser[:1].isspace()  # a verbaliser without a space would join the prompt's last word
        found.append(behind if behind and (is_word or alone[-len(behind) :] == behind) else alone)
    for number, ids in enumerate(found):
        if not ids or ids in found[:number]:
            raise CheckpointError(
                f"tokenizer {type(tokenizer).__name__}: the verbaliser {task.verbalisers[number]!r} of task "
                f"{task.name} is {'no token' if not ids else 'the same tokens as another'}, so its label cannot be "
                "told; use a tokenizer that knows these words, or a checkpoint with a head for labels"
            )
    return found


def _holds(cache: Any, tokens: int) -> bool:
    """Whether a cache keeps this many tokens unchanged: a window loses some, a running state all."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    return all(
        type(layer) is DynamicLayer or (type(layer) is DynamicSlidingWindowLayer and tokens < layer.sliding_window)
        for layer in getattr(cache, "layers", [None])
    )


def _chosen(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of the wanted tokens, shape (batch, tokens)."""
    return logits.float().log_softmax(dim=-1).gather(2, wanted[:, :, None])[:, :, 0]
