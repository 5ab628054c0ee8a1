"""The attacks beside foolbox's, on a small network all of whose inputs are open to attack."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from robustness.recipes.embedding.ball_attacks import Pgd
from robustness.recipes.embedding.balls import Norm, sizes
from robustness.recipes.embedding.minimal_norm import Ddn, Fmn, MinimalAttack
from robustness.recipes.embedding.trial import Loss
from robustness.victims.heads.embedded_batch import EmbeddedBatch

TOKENS, DIM = 4, 6


class Curved(torch.nn.Module):
    """One hidden layer over flat points (batch, TOKENS * DIM); three labels."""

    def __init__(self) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(5)
        self.first = torch.randn(TOKENS * DIM, 16, generator=rng) / math.sqrt(TOKENS * DIM)
        self.second = torch.randn(16, 3, generator=rng)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return torch.tanh(points @ self.first) @ self.second


def embedded(count: int) -> EmbeddedBatch:
    model = Curved()
    embeddings = torch.randn(count, TOKENS, DIM, generator=torch.Generator().manual_seed(11))
    content = torch.ones(count, TOKENS, dtype=torch.bool)

    def forward(points: torch.Tensor, _: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return model(points.flatten(1))

    return EmbeddedBatch(embeddings, content, forward(embeddings, {}).argmax(dim=1), 1.0, {}, forward)


@pytest.fixture(scope="module")
def foolbox() -> Any:
    return pytest.importorskip("foolbox", reason="the oracle foolbox is not installed")


def theirs(foolbox: Any, method: Any, batch: EmbeddedBatch, epsilon: float | None) -> Any:
    model = foolbox.PyTorchModel(Curved().eval(), bounds=(-100, 100), device="cpu")
    points = batch.embeddings.flatten(1)
    _, clipped, found = method(model, points, batch.labels, epsilons=epsilon)
    return (clipped - points).reshape(batch.embeddings.shape), found


def find_oracle(foolbox: Any, name: str) -> Any:
    oracle = getattr(foolbox.attacks, name)
    if name != "L2FMNAttack":
        return oracle(steps=100)

    class Mended(oracle):
        """In foolbox 3.3.4 the factor is norms / norms: it never projects."""

        def project(self, x: Any, x0: Any, epsilon: Any) -> Any:
            norms = (x - x0).flatten(start=1).norms.l2(axis=-1)
            return x0 + (x - x0) * (epsilon / norms.maximum(1e-12)).minimum(1).reshape((-1, 1))

    return Mended(steps=100)


ORACLES: dict[str, tuple[str, MinimalAttack]] = {
    "ddn": ("DDNAttack", Ddn(initial_radius=1.0, bisections=0, loss=Loss.CROSS_ENTROPY)),
    "fmn-l2": ("L2FMNAttack", Fmn(Norm.L2, step_size=1.0, bisections=0)),
    "fmn-linf": ("LInfFMNAttack", Fmn(Norm.LINF, step_size=1.0, bisections=0)),
}


@pytest.mark.parametrize("name", ORACLES)
def test_minimal_distances_agree_with_foolbox(foolbox: Any, name: str) -> None:
    oracle, method = ORACLES[name]
    batch = embedded(100)
    delta, found = theirs(foolbox, find_oracle(foolbox, oracle), batch, None)

    ours = method.perturb(batch)

    ratio = (ours.distance(method.norm) / sizes(delta, method.norm)).numpy()
    assert found.all()
    assert ours.found.all()
    assert abs(np.median(ratio) - 1) <= 0.02
    assert np.quantile(np.abs(ratio - 1), 0.9) <= 0.05


@pytest.mark.parametrize(("norm", "oracle", "radius"), [("l2", "L2PGD", 0.3), ("linf", "LinfPGD", 0.06)])
def test_pgd_succeeds_as_often_as_foolboxs(foolbox: Any, norm: str, oracle: str, radius: float) -> None:
    batch = embedded(300)
    method = getattr(foolbox.attacks, oracle)(steps=20, rel_stepsize=0.125)
    torch.manual_seed(0)
    _, found = theirs(foolbox, method, batch, radius)

    own = [torch.Generator().manual_seed(row) for row in range(300)]
    ours = Pgd(Norm(norm), loss=Loss.CROSS_ENTROPY).perturb(batch, torch.full((300,), radius), own)

    assert 0.2 < found.float().mean() < 0.8
    assert abs(float(ours.found.float().mean() - found.float().mean())) <= 0.02
    assert (ours.found == found).float().mean() >= 0.97
