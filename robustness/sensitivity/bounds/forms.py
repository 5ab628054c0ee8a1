"""The forms of all curved steps of a network at one text, found from the last step to the first."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from robustness.sensitivity.bounds.gauges import ExactGauge, SampledGauge, inflation_for
from robustness.sensitivity.bounds.linearised import (
    Curved,
    Entering,
    Form,
    ResidualAt,
    Step,
    curved_steps,
    pull_all,
    push_all,
)

Forms = dict[Curved, Form]
ROUNDING = 1e-12
"""Added to the diagonal of a matrix before it is factored, relative to its trace."""
CHUNK = 512
"""Features processed at a time."""
STARTS = 8
"""Random vectors of the power iteration."""
POWERS = 12


class Domination(NamedTuple):
    """Forms, with an upper bound of |A|, the map from the embeddings that move to all weighed deviations."""

    forms: Forms
    stacked_norm: float


def dominate_sampled(
    steps: tuple[Step, ...],
    head: torch.Tensor,
    content: torch.Tensor,
    *,
    samples: int,
    alpha: float,
    generator: torch.Generator,
) -> Domination:
    """Returns forms that are valid with probability 1 - alpha.

    Args:
        steps: the network at a text.
        head: weighed rows of the margins, shape (rows, 1, outputs).
        content: which embeddings move, 1.0 or 0.0, shape (tokens, dim).
        samples: Gaussian rows that measure norms.
        alpha: half of it is for the norms of the forms, half for |A|.
        generator: draws all samples.
    """
    inflation = inflation_for(samples, sum(step.gauged for step in curved_steps(steps)), alpha / 2)
    forms: Forms = {}

    def back(steps: tuple[Step, ...], rows: torch.Tensor) -> torch.Tensor:
        for step in reversed(steps):
            if isinstance(step, ResidualAt):
                rows = rows + back(step.inner, rows)
            elif isinstance(step, Curved):
                forms[step] = form = step.dominate(SampledGauge(rows, len(head), inflation))
                drawn = [torch.randn((samples, *each), generator=generator, dtype=rows.dtype) for each in form.shapes]
                features = tuple(torch.cat([each.new_zeros((len(head), *each.shape[1:])), each]) for each in drawn)
                rows = step.pull(rows, {step: form.half_adjoint(features)})
            else:
                rows = step.pull(rows)
        return rows

    back(steps, torch.cat([head, head.new_zeros((samples, *head.shape[1:]))]))
    return Domination(forms, _norm_by_powers(steps, forms, content, alpha / 2, generator))


def _norm_by_powers(
    steps: tuple[Step, ...], forms: Forms, content: torch.Tensor, alpha: float, generator: torch.Generator
) -> float:
    """An upper bound of |A|: |(A^T A)^p z| >= |A|^(2p) |z . v|, v the leading direction.

    Of k standard Gaussian z all have |z . v| below tau with probability at most (tau sqrt(2 / pi))^k.
    """
    tau = alpha ** (1 / STARTS) * math.sqrt(math.pi / 2)
    z = torch.randn((STARTS, *content.shape), generator=generator, dtype=content.dtype) * content
    log_length = torch.zeros(STARTS, dtype=content.dtype)
    for _ in range(POWERS):
        entering: Entering = {}
        out = push_all(steps, z, entering)
        sources = {step: form.half_adjoint(form.half(entering[step])) for step, form in forms.items()}
        z = pull_all(steps, torch.zeros_like(out), sources) * content
        length = z.flatten(1).norm(dim=1).clamp_min(1e-300)
        log_length, z = log_length + length.log(), z / length[:, None, None]
    return math.exp((float(log_length.max()) - math.log(tau)) / (2 * POWERS))


def dominate_exactly(steps: tuple[Step, ...], head: torch.Tensor, content: torch.Tensor) -> Domination:
    """Returns forms that are valid with certainty, from all of S; `head` and `content` as in `dominate_sampled`."""
    forms: Forms = {}

    def through(step: Curved, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        forms[step] = form = step.dominate(ExactGauge(rows))
        pulled = step.pull(rows)
        return pulled, _own_gram(step, form, rows.shape[1:], pulled)

    def branch(steps: tuple[Step, ...], rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pulled, new = rows, rows[:0]  # features with the shortcut, and features without it
        for step in reversed(steps):
            if isinstance(step, Curved):
                both, gram = through(step, torch.cat([pulled, new]))
                pulled, new = both[: len(pulled)], _with_gram(both[len(pulled) :], gram)
            else:
                pulled, new = step.pull(pulled), step.pull(new)
        return pulled, new

    rows = head
    for step in reversed(steps):
        if isinstance(step, ResidualAt):
            pulled, new = branch(step.inner, rows)
            rows = torch.cat([rows + pulled, new])
            rows = _with_gram(rows, None) if len(rows) > rows[0].numel() else rows
        elif isinstance(step, Curved):
            rows = _with_gram(*through(step, rows))
        else:
            rows = step.pull(rows)
    flat, asked = (rows * content).flatten(1), (pull_all(steps, head) * content).flatten(1)
    square = flat.T @ flat  # with the margins, which are no deviation
    largest = torch.linalg.eigvalsh(square - asked.T @ asked)[-1] + ROUNDING * square.trace()
    return Domination(forms, math.sqrt(float(largest)))


def _own_gram(step: Curved, form: Form, out: torch.Size, pulled: torch.Tensor) -> torch.Tensor:
    """The Gram matrix, at the step's input, of its own weighed deviations, shape (tokens x dim, tokens x dim)."""
    tokens, dim = pulled.shape[1:]
    gram = pulled.new_zeros((tokens * dim, tokens * dim))
    for place, (shape, alone) in enumerate(zip(form.shapes, form.by_token, strict=True)):
        size = math.prod(shape) // (shape[-2] if alone else 1)
        for start in range(0, size, CHUNK):
            count = min(CHUNK, size - start)
            part = pulled.new_zeros((count, size))
            part[torch.arange(count), torch.arange(start, start + count)] = 1
            if alone:  # one feature of all tokens at once: each token's product stays with the token
                part = part.reshape(count, *shape[:-2], 1, shape[-1]).expand(count, *shape)
            parts = [pulled.new_zeros((count, *each)) for each in form.shapes]
            parts[place] = part.reshape(count, *shape)
            rows = step.pull(pulled.new_zeros((count, *out)), {step: form.half_adjoint(tuple(parts))})
            if alone:
                blocks = gram.view(tokens, dim, tokens, dim).diagonal(dim1=0, dim2=2)  # (dim, dim, tokens), a view
                blocks += torch.einsum("nti,ntj->ijt", rows, rows)
            else:
                gram.addmm_(rows.flatten(1).T, rows.flatten(1))
    return gram


def _with_gram(rows: torch.Tensor, gram: torch.Tensor | None) -> torch.Tensor:
    """As many rows as a row has numbers; their products dominate those of the rows and the matrix together."""
    flat = rows.flatten(1)
    square = flat.T @ flat if gram is None else gram.addmm_(flat.T, flat)
    square.diagonal().add_(ROUNDING * square.trace() + 1e-300)
    factor: torch.Tensor = torch.linalg.cholesky(square)
    return factor.mT.reshape(-1, *rows.shape[1:])
