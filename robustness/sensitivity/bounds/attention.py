"""Softmax attention, and the forms that dominate its second derivative."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch

from robustness.sensitivity.bounds.feedforward import Linear, spectral_norm
from robustness.sensitivity.bounds.gauges import Gauge
from robustness.sensitivity.bounds.linearised import Entering, Sources, Tensors
from robustness.sensitivity.bounds.region import REACH, SMALLEST, least_weight

BALANCE = 3.0
"""Weight of scores relative to values in the mixed term; any number above 0 is sound."""
CAP = 0.5
"""Largest deviation of a centred score, and of a value."""
ROUNDS = 20
ROUNDING = 1e-12
"""Added to eigenvalues, relative to the largest: far above their error in double precision."""


@final
@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotations of queries and keys by their positions; cosines and sines of shape (tokens, head dim)."""

    cosine: torch.Tensor
    sine: torch.Tensor

    def turn(self, x: torch.Tensor) -> torch.Tensor:
        """Returns x, shape (..., heads, tokens, head dim), turned."""
        left, right = x.chunk(2, dim=-1)
        return x * self.cosine + torch.cat([-right, left], dim=-1) * self.sine

    def turn_back(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the adjoint's product with x."""
        left, right = (x * self.sine).chunk(2, dim=-1)
        return x * self.cosine + torch.cat([right, -left], dim=-1)


@final
@dataclass(frozen=True, slots=True)
class Attention:
    """Heads of softmax(scale q k^T) v and the output map."""

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    heads: int
    scale: float
    causal: bool = False
    key_heads: int | None = None
    """Fewer than heads if groups of heads share keys and values."""
    rotary: Rotary | None = None

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (..., tokens, heads x dim) as (..., heads, tokens, dim)."""
        return x.reshape(*x.shape[:-1], self.heads, -1).transpose(-2, -3)

    def join(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (..., heads, tokens, dim) as (..., tokens, heads x dim)."""
        return x.transpose(-2, -3).flatten(-2)

    def spread(self, x: torch.Tensor) -> torch.Tensor:
        """Returns keys or values (..., tokens, key heads x dim), one for each head: (..., heads, tokens, dim)."""
        count = self.key_heads or self.heads
        parted = x.reshape(*x.shape[:-1], count, -1).transpose(-2, -3)
        return parted.repeat_interleave(self.heads // count, dim=-3)

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the adjoint of `spread`."""
        count = self.key_heads or self.heads
        summed = x.reshape(*x.shape[:-3], count, -1, *x.shape[-2:]).sum(dim=-3)
        return summed.transpose(-2, -3).flatten(-2)

    def project(self, x: torch.Tensor, *, affine: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns queries, keys and values of x, or of a deviation where not affine."""
        made = [layer.value(x) if affine else layer.push(x) for layer in (self.query, self.key, self.value)]
        q, k, v = self.split(made[0]), self.spread(made[1]), self.spread(made[2])
        return (q, k, v) if self.rotary is None else (self.rotary.turn(q), self.rotary.turn(k), v)

    def project_back(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Returns the adjoint of `project`."""
        if self.rotary is not None:
            q, k = self.rotary.turn_back(q), self.rotary.turn_back(k)
        return self.query.pull(self.join(q)) + self.key.pull(self.gather(k)) + self.value.pull(self.gather(v))

    def at(self, x: torch.Tensor) -> tuple[AttentionAt, torch.Tensor]:
        """Returns the step at x, shape (tokens, dim), and its output."""
        q, k, v = self.project(x, affine=True)
        scores = self.scale * q @ k.mT
        if self.causal:
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
        shares = scores.softmax(-1)
        return AttentionAt(self, q, k, v, shares), self.output.value(self.join(shares @ v))

    def constant(self, x: torch.Tensor, radius: float) -> float:
        """See Layer.

        A head's derivative is at most $$scale K V |W_q| + sqrt(tokens) (scale Q V |W_k| + |W_v|).$$ Anywhere in the
        ball, Q is the longest query, and K and V are the longest key and the widest pair of values, centred.
        """
        q, k, v = self.project(x, affine=True)
        keys = self.key_heads or self.heads
        norms = [
            torch.tensor([spectral_norm(part) for part in layer.weight.chunk(count)], dtype=x.dtype)
            for layer, count in ((self.query, self.heads), (self.key, keys), (self.value, keys))
        ]
        by_query, by_key, by_value = (each.repeat_interleave(self.heads // len(each)) for each in norms)
        longest = q.norm(dim=-1).amax(-1) + by_query * radius
        key = (k - k.mean(-2, keepdim=True)).norm(dim=-1).amax(-1) + by_key * radius
        value = 2 * ((v - v.mean(-2, keepdim=True)).norm(dim=-1).amax(-1) + by_value * radius)
        mixed = math.sqrt(len(x)) * (self.scale * longest * value * by_key + by_value)
        heads = self.scale * key * value * by_query + mixed
        return float(heads.norm()) * spectral_norm(self.output.weight)

    @property
    def diameter(self) -> float:
        """See Layer."""
        return math.inf


@final
@dataclass(frozen=True, slots=True)
class AttentionForm:
    """Squares of queries, keys, centred scores and values, in that order; keys by a matrix over the tokens."""

    query: torch.Tensor
    """Weights, shape (heads, tokens)."""
    key: torch.Tensor
    """Square root of the matrix, shape (heads, tokens, tokens)."""
    score: torch.Tensor
    """Weights, shape (heads, tokens, tokens); 0 where a token is masked."""
    value: torch.Tensor
    """Weights, shape (heads, tokens)."""
    dim: int

    def half(self, entering: Tensors) -> Tensors:
        """See Form."""
        query, key, score, value = entering
        return (
            self.query.sqrt()[..., None] * query,
            self.key @ key,
            self.score.sqrt() * score,
            self.value.sqrt()[..., None] * value,
        )

    def half_adjoint(self, features: Tensors) -> Tensors:
        """See Form."""
        query, key, score, value = features
        return (
            self.query.sqrt()[..., None] * query,
            self.key.mT @ key,
            self.score.sqrt() * score,
            self.value.sqrt()[..., None] * value,
        )

    @property
    def shapes(self) -> tuple[torch.Size, ...]:
        """See Form."""
        vectors = torch.Size((*self.query.shape, self.dim))
        return vectors, vectors, self.score.shape, vectors

    @property
    def by_token(self) -> tuple[bool, ...]:
        """See Form."""
        return True, False, False, True


@final
@dataclass(frozen=True, slots=True, eq=False)
class AttentionAt:
    """Attention at one text; all shapes without leading axes."""

    of: Attention
    q: torch.Tensor
    """Shape (heads, tokens, head dim)."""
    k: torch.Tensor
    v: torch.Tensor
    shares: torch.Tensor
    """Shape (heads, tokens, tokens)."""

    def push(self, t: torch.Tensor, entering: Entering | None = None) -> torch.Tensor:
        """See Step."""
        of = self.of
        q, k, v = of.project(t, affine=False)
        scores = of.scale * (q @ self.k.mT + self.q @ k.mT)
        scores = scores - (self.shares * scores).sum(-1, keepdim=True)
        if entering is not None:
            entering[self] = (q, k, scores, v)
        return of.output.push(of.join((self.shares * scores) @ self.v + self.shares @ v))

    def pull(self, g: torch.Tensor, sources: Sources | None = None) -> torch.Tensor:
        """See Step."""
        of = self.of
        heads = of.split(of.output.pull(g))
        q, k, score, v = sources[self] if sources is not None else (0.0, 0.0, 0.0, 0.0)
        pulled = self.shares * (heads @ self.v.mT) + score
        pulled = of.scale * (pulled - self.shares * pulled.sum(-1, keepdim=True))
        return of.project_back(pulled @ self.k + q, pulled.mT @ self.q + k, self.shares.mT @ heads + v)

    @property
    def gauged(self) -> int:
        """See Curved."""
        return 2 * self.shares.numel() + self.q[..., 0].numel()

    def dominate(self, gauge: Gauge) -> AttentionForm:
        """See Curved; docs/certificates.md has the derivation.

        Two curved maps follow each other: the scores s = scale q k^T, and o = softmax(s) v. The second has D^2 =
        sum_j p_j (t_j - mean t)^2 (v_j - mean v) + 2 sum_j p_j (t_j - mean t) t_v,j. The first has D^2 = 2 scale t_q
        t_k^T. It acts through the derivative of the second and through the score weights of its form.
        """
        heads = self.of.split(self.of.output.pull(gauge.rows))
        largest = gauge.largest(heads)
        mean = self.shares @ self.v
        products = heads @ self.v.mT - (heads * mean).sum(-1, keepdim=True)
        score, value = self._scores_and_values(gauge.lengths(products), largest)
        centred = self.shares[..., None] * (self.v[:, None] - mean[:, :, None])
        gram = gauge.gram(self.shares * products, centred, largest)
        centring = torch.eye(self.shares.shape[-1], dtype=self.q.dtype) - self.shares[..., None, :]
        gram = gram + centring.mT @ (score[..., None] * centring)
        balance = gram.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt().clamp_min(SMALLEST)
        matrix = self.of.scale * (gram / balance[..., None, None]).sum(dim=1)
        eigenvalues, vectors = torch.linalg.eigh(matrix)
        raised = eigenvalues.clamp_min(0) + ROUNDING * eigenvalues[..., -1:].clamp_min(0)
        root = raised.sqrt()[..., None] * vectors.mT
        return AttentionForm(self.of.scale * balance, root, score, value, self.q.shape[-1])

    def _scores_and_values(self, pull: torch.Tensor, largest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The weights of scores and of values; they also bound the deviations for which they must hold."""
        least = least_weight(CAP)
        score, value = torch.full_like(self.shares, least), torch.full_like(largest, least)
        for _ in range(ROUNDS):
            more_score, more_value = self._needed(pull, largest, score, value)
            score, value = (score + more_score.clamp_min(least)) / 2, (value + more_value.clamp_min(least)) / 2
        more_score, more_value = self._needed(pull, largest, score, value)
        score, value = torch.maximum(score, more_score), torch.maximum(value, more_value)  # enough
        return score * (self.shares > 0), value

    def _needed(
        self, pull: torch.Tensor, largest: torch.Tensor, score: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The weights that scores and values need if they deviate within these weights.

        A centred score deviates by at most b = REACH / sqrt(weight). So a share grows by at most a factor e^b, and
        changes by at most c = max(e^b - 1, 1 - e^(-2b)) times itself.
        """
        p = self.shares
        b = (REACH / score.sqrt()).masked_fill(p == 0, 0.0).amax(-1, keepdim=True)
        grown = b.exp()
        changed = torch.maximum(grown - 1, 1 - (-2 * b).exp())
        moved = 2 * largest[..., None] * (REACH / value.sqrt()).amax(-1)[:, None, None]
        each, mean = pull + moved, (p * pull).sum(-1, keepdim=True) + moved
        bent = grown * (1 + changed) * (each + changed * mean + (1 + changed) * changed * mean)
        together = grown * largest[..., None]
        return p * (bent + BALANCE * together), (together / BALANCE * p).sum(dim=-2)
