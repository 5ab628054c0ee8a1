from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from robustness.errors import UsageError
from robustness.recipes.embedding.attack import ROUNDING, attack_radii
from robustness.recipes.embedding.ball_attacks import Apgd, BallAttack, Fgsm, Pgd, checkpoints
from robustness.recipes.embedding.balls import Norm, sizes
from robustness.recipes.embedding.deepfool import DeepFool, ShrinkingPgd, best_of
from robustness.recipes.embedding.minimal_norm import Ddn, Fmn, MinimalAttack
from robustness.recipes.embedding.trial import EmbeddingResult, Loss, losses
from robustness.victims.heads.embedded_batch import EmbeddedBatch

TOKENS, DIM = 4, 6

STRONG: list[BallAttack] = [
    Pgd(Norm.L2),
    Pgd(Norm.LINF),
    Apgd(Norm.L2, steps=30),
    Apgd(Norm.LINF, steps=30),
]
BALL: list[BallAttack] = [Fgsm(Norm.L2), Fgsm(Norm.LINF), *STRONG]
MINIMAL: list[MinimalAttack] = [Ddn(), Fmn(Norm.L2), Fmn(Norm.LINF)]

Function = Callable[[torch.Tensor], torch.Tensor]


def plant(function: Function, count: int, *, labels: Sequence[int] | None = None, padding: int = 0) -> EmbeddedBatch:
    """A model that is `function` of (batch, TOKENS, DIM); the first token is not open to attack."""
    rng = torch.Generator().manual_seed(11)
    embeddings = torch.randn(count, TOKENS, DIM, generator=rng)
    with torch.no_grad():
        answers = function(embeddings).argmax(dim=1)
    embeddings = torch.nn.functional.pad(embeddings, (0, 0, 0, padding))
    content = torch.zeros(count, TOKENS + padding, dtype=torch.bool)
    content[:, 1:TOKENS] = True

    def forward(points: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        assert len(points) == len(inputs["rows"])
        return function(points[:, :TOKENS])

    given = answers if labels is None else torch.tensor(labels)
    return EmbeddedBatch(embeddings, content, given, 1.0, {"rows": torch.arange(count)}, forward)


def linear(labels: int = 2) -> tuple[Function, torch.Tensor]:
    rng = torch.Generator().manual_seed(3)
    weights = torch.randn(labels, TOKENS, DIM, generator=rng)
    return lambda points: torch.einsum("btd,ctd->bc", points, weights) + 0.1 * torch.arange(labels), weights


def curved(labels: int = 3, dtype: torch.dtype = torch.float32) -> Function:
    """A small network with one hidden layer."""
    rng = torch.Generator().manual_seed(5)
    first = (torch.randn(TOKENS * DIM, 16, generator=rng) / math.sqrt(TOKENS * DIM)).to(dtype)
    second = torch.randn(16, labels, generator=rng).to(dtype)
    return lambda points: (torch.tanh(points.flatten(1).to(dtype) @ first) @ second).float()


def closed_form(batch: EmbeddedBatch, weights: torch.Tensor, norm: Norm) -> np.ndarray:
    """min over c of (z_y - z_c) / |w_y - w_c|_dual over the content, in float64."""
    inside = batch.content[0, :TOKENS]
    logits = batch.logits(batch.embeddings).double().numpy()
    order = 2 if norm is Norm.L2 else 1
    rows = []
    for row, label in enumerate(batch.labels.tolist()):
        rows.append(
            min(
                (logits[row, label] - logits[row, other])
                / np.linalg.norm((weights[label] - weights[other])[inside].double().numpy().ravel(), ord=order)
                for other in range(len(weights))
                if other != label
            )
        )
    return np.array(rows)


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(1000 * seed + row) for row in range(count)]


def attack(method: BallAttack, batch: EmbeddedBatch, radius: float | np.ndarray, seed: int = 0) -> EmbeddingResult:
    count = len(batch.labels)
    radii = torch.as_tensor(np.broadcast_to(radius, count).astype(np.float32).copy())
    return method.perturb(batch, radii, generators(count, seed))


def wrong(batch: EmbeddedBatch, result: EmbeddingResult) -> torch.Tensor:
    """A judgement of our own."""
    with torch.no_grad():
        return batch.logits(batch.embeddings + result.delta).argmax(dim=1) != batch.labels


@pytest.mark.parametrize("method", BALL, ids=repr)
def test_on_a_linear_model_success_means_a_radius_beyond_the_closed_form(method: BallAttack) -> None:
    function, weights = linear()
    batch = plant(function, 20)
    exact = closed_form(batch, weights, method.norm)

    below = attack(method, batch, exact * 0.99)
    above = attack(method, batch, exact * (1.01 if isinstance(method, Fgsm | Apgd) else 1.05))

    assert not below.found.any()
    assert above.found.all()
    assert wrong(batch, above).all()


@pytest.mark.parametrize("method", STRONG, ids=repr)
def test_with_three_labels_the_nearest_boundary_is_found(method: BallAttack) -> None:
    function, weights = linear(3)
    batch = plant(function, 20)
    exact = closed_form(batch, weights, method.norm)

    below = attack(method, batch, exact * 0.99)
    above = attack(method, batch, exact * 1.1)

    assert not below.found.any()
    assert above.found.float().mean() >= 0.9  # the runner-up label at the start need not be the nearest


@pytest.mark.parametrize("bisections", [0, 8])
@pytest.mark.parametrize("method", MINIMAL, ids=repr)
def test_minimal_attacks_reach_the_closed_form(method: MinimalAttack, bisections: int) -> None:
    function, weights = linear()
    batch = plant(function, 20)
    kind = Ddn(bisections=bisections) if isinstance(method, Ddn) else Fmn(method.norm, bisections=bisections)

    result = kind.perturb(batch)

    ratio = result.distance(method.norm).numpy() / closed_form(batch, weights, method.norm)
    assert result.found.all()
    assert wrong(batch, result).all()
    assert ratio.min() >= 1 - 1e-4
    assert np.median(ratio) <= 1.01
    assert ratio.max() <= 1.02


@pytest.mark.parametrize("method", MINIMAL, ids=repr)
def test_minimal_distances_scale_with_the_embeddings(method: MinimalAttack) -> None:
    function = curved()
    batch = plant(function, 20)
    scaled = EmbeddedBatch(
        batch.embeddings * 50,
        batch.content,
        batch.labels,
        50.0,
        batch.inputs,
        lambda points, inputs: batch.forward(points / 50, inputs),
    )

    small, large = method.perturb(batch), method.perturb(scaled)

    torch.testing.assert_close(
        small.relative_distance(method.norm), large.relative_distance(method.norm), rtol=0.02, atol=0
    )


@pytest.mark.parametrize("method", [*BALL, *MINIMAL], ids=repr)
def test_multiplying_all_logits_changes_nothing(method: BallAttack | MinimalAttack) -> None:
    function = curved()
    batch, loud = plant(function, 20), plant(lambda points: 8 * function(points), 20)

    def run(one: EmbeddedBatch) -> EmbeddingResult:
        return method.perturb(one) if isinstance(method, Ddn | Fmn) else attack(method, one, 0.3)

    assert torch.equal(run(batch).found, run(loud).found)
    torch.testing.assert_close(run(batch).delta, run(loud).delta, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", BALL, ids=repr)
def test_perturbations_stay_in_the_ball_and_in_the_content(method: BallAttack) -> None:
    batch = plant(curved(), 30, padding=2)
    radius = np.linspace(0, 0.5, 30)

    result = attack(method, batch, radius)

    assert (sizes(result.delta, method.norm).numpy() <= radius * (1 + 1e-5)).all()
    assert not result.delta[~batch.content].any()
    assert result.found.any()
    assert not result.found.all()


@pytest.mark.parametrize("method", MINIMAL, ids=repr)
def test_minimal_perturbations_stay_in_the_content(method: MinimalAttack) -> None:
    batch = plant(curved(), 30, padding=2)

    result = method.perturb(batch)

    assert result.found.all()
    assert not result.delta[~batch.content].any()


@pytest.mark.parametrize("method", BALL, ids=repr)
def test_a_radius_of_zero_changes_nothing(method: BallAttack) -> None:
    result = attack(method, plant(curved(), 10), 0.0)

    assert not result.delta.any()
    assert not result.found.any()


@pytest.mark.parametrize("method", [*BALL, *MINIMAL], ids=repr)
def test_what_is_wrong_already_is_not_attacked(method: BallAttack | MinimalAttack) -> None:
    batch = plant(curved(), 10)
    batch = plant(curved(), 10, labels=[(label + (row < 4)) % 3 for row, label in enumerate(batch.labels.tolist())])

    result = method.perturb(batch) if isinstance(method, Ddn | Fmn) else attack(method, batch, 5.0)

    assert result.skipped.tolist() == [True] * 4 + [False] * 6
    assert result.forwards[:4].tolist() == [1] * 4
    assert not result.delta[:4].any()
    assert not result.backwards[:4].any()
    assert not result.found[:4].any()
    assert result.distance(method.norm)[:4].tolist() == [0.0] * 4


@pytest.mark.parametrize("method", [*BALL, *MINIMAL], ids=repr)
def test_what_runs_beside_it_does_not_change_an_examples_result(method: BallAttack | MinimalAttack) -> None:
    exact = curved(dtype=torch.float64)  # a sign that flips with the last bit would be another path
    batch, padded = plant(exact, 12), plant(exact, 12, padding=3)
    rows = torch.tensor([7, 2, 11])
    radius = torch.full((12,), 0.3)

    def run(one: EmbeddedBatch, own: list[torch.Generator]) -> EmbeddingResult:
        if isinstance(method, Ddn | Fmn):
            return method.perturb(one)
        return method.perturb(one, radius[: len(own)], own)

    together = run(batch, generators(12))
    apart = run(padded.select(rows), [generators(12)[row] for row in rows.tolist()])

    assert torch.equal(apart.found, together.found[rows])
    torch.testing.assert_close(apart.delta[:, :TOKENS], together.delta[rows], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", STRONG, ids=repr)
def test_the_generators_decide_the_random_start(method: BallAttack) -> None:
    batch = plant(curved(), 10)

    first, again, other = (attack(method, batch, 0.05, seed) for seed in (0, 0, 1))

    assert torch.equal(first.delta, again.delta)
    assert not torch.equal(first.delta, other.delta)


@pytest.mark.parametrize("kind", [Pgd, Apgd])
@pytest.mark.parametrize("norm", Norm)
def test_over_many_examples_success_grows_with_the_radius(kind: type, norm: Norm) -> None:
    # Not a law for one example and one seed: a larger ball has another random start and longer steps.
    batch = plant(curved(), 200)
    radii = [0.05, 0.1, 0.2, 0.4, 1.6] if norm is Norm.L2 else [0.01, 0.02, 0.05, 0.1, 0.5]

    rates = [float(attack(kind(norm, steps=15, restarts=2), batch, radius).found.float().mean()) for radius in radii]

    assert all(later >= earlier for earlier, later in pairwise(rates))
    assert rates[0] < 0.3 < 0.7 < rates[-1]


def test_restarts_never_lose_a_find() -> None:
    batch = plant(curved(), 100)

    once = attack(Pgd(Norm.L2, steps=3), batch, 0.3)
    often = attack(Pgd(Norm.L2, steps=3, restarts=4), batch, 0.3)

    assert (often.found | ~once.found).all()


def test_growing_radii_attack_what_is_left_standing() -> None:
    batch = plant(curved(), 60)
    radii = (0.05, 0.2, 0.8)
    method = Pgd(Norm.L2)

    result = attack_radii(method, batch, radii, generators(60))

    distance = result.relative_distance(Norm.L2)
    rates = [float((distance <= radius).float().mean()) for radius in radii]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]
    assert torch.equal(wrong(batch, result), result.found)
    alone = attack(method, batch, 0.05 * (1 - ROUNDING))
    assert rates[0] == float(alone.found.float().mean())


def test_costs_are_counted_for_each_example() -> None:
    batch = plant(curved(), 30)

    pgd = attack(Pgd(Norm.L2, steps=7), batch, 0.2)
    ddn = Ddn(steps=10, bisections=3).perturb(batch)

    # Clean, one a step and one at the end; an example leaves at its find.
    assert pgd.forwards[~pgd.found].tolist() == [9] * int((~pgd.found).sum())
    assert pgd.backwards[~pgd.found].tolist() == [7] * int((~pgd.found).sum())
    assert (pgd.forwards[pgd.found] <= 9).all()
    assert ddn.backwards.tolist() == [10] * 30
    assert ddn.forwards[ddn.found].tolist() == [1 + 10 + 1 + 3] * int(ddn.found.sum())


def count_points(batch: EmbeddedBatch) -> tuple[EmbeddedBatch, torch.Tensor]:
    """The batch, and how often the model was asked about each row at another point than the clean one."""
    counts = torch.zeros_like(batch.labels)

    def forward(points: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        rows = inputs["rows"]
        for row, is_clean in zip(rows.tolist(), (points == batch.embeddings[rows]).all(2).all(1), strict=True):
            counts[row] += int(not is_clean)
        return batch.forward(points, inputs)

    return replace(batch, forward=forward), counts


@pytest.mark.parametrize("method", [*BALL, *MINIMAL, DeepFool(Norm.L2), DeepFool(Norm.LINF)], ids=repr)
def test_queries_are_the_points_asked_about_without_the_clean_one(method: BallAttack | MinimalAttack) -> None:
    batch, counts = count_points(plant(curved(), 12))

    if isinstance(method, Fgsm | Pgd | Apgd):
        result = attack_radii(method, batch, (0.02, 0.1, 0.4), generators(12))
        assert 0 < int(result.found.sum()) < 12
    else:
        result = method.perturb(batch)

    assert result.queries.tolist() == counts.tolist()
    assert (result.queries < result.forwards).all()


def test_queries_of_several_searches_add_up() -> None:
    batch, counts = count_points(plant(curved(), 12))

    first = best_of([DeepFool(Norm.LINF, steps=2).perturb(batch), Fmn(Norm.LINF, steps=5).perturb(batch)], Norm.LINF)
    result = ShrinkingPgd(Norm.LINF, rounds=2, steps=3).shorten(batch, first)

    assert result.queries.tolist() == counts.tolist()
    assert (result.queries > first.queries).any()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_radius_that_finds_nothing_costs_the_same_queries(count: int) -> None:
    batch, radii = plant(curved(), 5), (1e-4, 2e-4, 3e-4)[:count]

    pgd, apgd, fgsm = (
        attack_radii(method, batch, radii, generators(5))
        for method in (Pgd(Norm.L2, steps=5), Apgd(Norm.L2, steps=5), Fgsm(Norm.L2))
    )

    assert pgd.queries.tolist() == apgd.queries.tolist() == [count * (5 + 1)] * 5
    assert fgsm.queries.tolist() == [count] * 5  # the gradient is that of the clean point


def test_apgd_beats_pgd_at_a_poor_step_size() -> None:
    batch = plant(curved(), 200)

    poor = attack(Pgd(Norm.L2, steps=30, step_size=0.01, random_start=False), batch, 0.3)
    own = attack(Apgd(Norm.L2, steps=30), batch, 0.3)

    assert own.found.sum() > poor.found.sum()


def test_checkpoints_of_apgd_are_the_papers() -> None:
    # The AutoAttack code keeps the same schedule as gaps of 22, 19, 16, 13, 10, 7, then 6.
    assert np.diff([0, *checkpoints(100)]).tolist() == [22, 19, 16, 13, 10, 7, 6, 6]
    assert checkpoints(1) == []


@pytest.mark.parametrize("method", [*BALL, *MINIMAL], ids=repr)
def test_a_vanished_gradient_is_reported(method: BallAttack | MinimalAttack) -> None:
    # A step function: right everywhere nearby, flat everywhere.
    batch = plant(lambda points: torch.stack([points.sum(dim=(1, 2)) * 0 + 1, points.sum(dim=(1, 2)) * 0], 1), 5)

    result = method.perturb(batch) if isinstance(method, Ddn | Fmn) else attack(method, batch, 0.3)

    assert result.zero_gradient.all()
    assert torch.equal(result.zero_gradients, result.backwards)
    assert not result.found.any()
    assert result.delta.isfinite().all()


def test_a_saturated_model_hides_from_cross_entropy_and_not_from_the_margin() -> None:
    function, _ = linear()
    batch = plant(lambda points: 1e3 * function(points), 20)

    blind = attack(Fgsm(Norm.LINF, Loss.CROSS_ENTROPY), batch, 10.0)
    sees = attack(Fgsm(Norm.LINF, Loss.MARGIN), batch, 10.0)

    assert blind.zero_gradient.sum() >= 15
    assert not blind.found[blind.zero_gradient].any()
    assert sees.found.all()
    assert not sees.zero_gradient.any()


def test_gradients_that_are_not_finite_count_as_vanished() -> None:
    def broken(points: torch.Tensor) -> torch.Tensor:
        total = (points - points.detach()).sum(dim=(1, 2)).abs().sqrt()  # infinite slope at zero
        return torch.stack([total + 1, torch.zeros_like(total)], 1)

    result = attack(Pgd(Norm.L2, random_start=False), plant(broken, 3), 0.3)

    assert result.zero_gradient.all()
    assert result.delta.isfinite().all()


@pytest.mark.parametrize("method", [*BALL, *MINIMAL], ids=repr)
def test_an_example_without_content_is_left_alone(method: BallAttack | MinimalAttack) -> None:
    batch = plant(curved(), 3)
    batch.content[1] = False

    result = method.perturb(batch) if isinstance(method, Ddn | Fmn) else attack(method, batch, 9.0)

    assert not result.delta[1].any()
    assert result.zero_gradient.tolist()[1]
    assert not result.found[1]


def test_the_losses_rise_as_the_true_logit_falls() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0]], dtype=torch.float64)

    values = {loss: losses(logits, torch.tensor([0]), loss).item() for loss in Loss}

    assert values[Loss.MARGIN] == -2
    assert values[Loss.CROSS_ENTROPY] == pytest.approx(-math.log(math.e**3 / (math.e**3 + math.e + 1)))
    assert values[Loss.DLR] == pytest.approx(-(3 - 1) / (3 - 0))


def test_dlr_needs_three_labels() -> None:
    function, _ = linear()

    with pytest.raises(UsageError, match="dlr: needs at least 3 labels"):
        attack(Apgd(Norm.L2, loss=Loss.DLR), plant(function, 2), 0.1)


def test_dlr_attacks_three_labels() -> None:
    batch = plant(curved(), 50)

    assert attack(Apgd(Norm.L2, steps=30, loss=Loss.DLR), batch, 1.5).found.float().mean() > 0.8
