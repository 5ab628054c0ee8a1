"""A language model whose responses' margins are linear in its prompt's embeddings, so that distances are known."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch

from robustness.tasks.gold import GoldSpan
from robustness.tasks.task import Task, TaskKind
from robustness.tasks.text.answering import TextAnswer
from robustness.tasks.text.metrics import TextMetric
from robustness.testsets.example import Example
from robustness.victims.heads.texts import TextVictim
from robustness.victims.toy_models import word_pieces

YES, YEP, NO, STOP = "yes", "yep", "no", "[SEP]"
WORDS = (YES, YEP, NO, "one", "two", "is", "film")
DIM = 6
CLEAN = 1.0
"""w . h of every prompt, whatever its words: the template's last one alone has a share in w."""
YEPS = 0.4
"""The logit of `yep`, whatever is read: between w . h = .4 and -.4 it is the likeliest."""


class SummingModel(torch.nn.Module):
    """Logits of the next token from h, the sum of the embeddings so far: yes w.h, yep .4, no -w.h, all others -99.

    After the first token of a response, whose embedding is far along another direction, the end is the likeliest.
    """

    def __init__(self, size: int, ids: dict[str, int]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(DIM, generator=generator)
        weight[-1] = 0.0
        self.weight = weight / weight.norm()
        table = torch.randn(size, DIM, generator=generator)
        table = table - (table @ self.weight)[:, None] * self.weight
        table[ids["is"]] += CLEAN * self.weight
        table[:, -1] = 0.0
        table[[ids[name] for name in (YES, YEP, NO)], -1] = 1e3
        self.table = torch.nn.Embedding(size, DIM, _weight=table)
        self.ids = ids
        self.config = SimpleNamespace(
            max_position_embeddings=64, eos_token_id=ids[STOP], model_type="sum", name_or_path="sum"
        )

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.table

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        sums = (self.table(input_ids) * attention_mask[:, :, None]).cumsum(dim=1)
        along, begun = sums @ self.weight, sums[:, :, -1]
        logits = torch.full((*along.shape, len(self.table.weight)), -99.0)
        logits[:, :, self.ids[YES]] = along
        logits[:, :, self.ids[YEP]] = YEPS
        logits[:, :, self.ids[NO]] = -along
        logits[:, :, self.ids[STOP]] = begun - 99
        return SimpleNamespace(logits=logits)


def linear_victim(*, both_right: bool) -> tuple[TextVictim, list[Example]]:
    """A victim that answers `yes`, and texts of one to four tokens; `yep` is as right where `both_right`."""
    tokenizer = word_pieces(WORDS)
    tokenizer.eos_token = STOP
    ids = {name: int(tokenizer.convert_tokens_to_ids(name)) for name in (YES, YEP, NO, STOP, "is")}
    model = SummingModel(len(tokenizer), ids)
    task = Task(
        "saying",
        ("text",),
        (),
        ("text",),
        kind=TaskKind.TEXT,
        template="{text} is",
        answer=TextAnswer("whole", TextMetric.EXACT, max_new_tokens=3),
    )
    victim = TextVictim(model, tokenizer, task)
    golds = tuple(GoldSpan(name, 0) for name in ((YES, YEP) if both_right else (YES,)))
    texts = ["film", "one film", "two film film", "one two one film"]
    return victim, [Example(str(number), (text,), 1, answers=golds) for number, text in enumerate(texts)]


def distance(victim: TextVictim, example: Example, fall: float, norm: str) -> float:
    """The smallest norm over the text's tokens by which w . h falls so far, in median token norms."""
    tokens, weight = len(example.texts[0].split()), victim.model.weight
    norms = torch.linalg.vector_norm(victim.model.table.weight.detach(), dim=1)
    unit = norms.median().item()
    per = math.sqrt(tokens) * weight.norm().item() if norm == "l2" else tokens * weight.abs().sum().item()
    return fall / per / unit
