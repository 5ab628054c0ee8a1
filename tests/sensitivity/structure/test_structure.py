"""Pure linear algebra in float64, against definitions written out, numpy, scipy and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from scipy.optimize import least_squares
from scipy.stats import entropy

from robustness.sensitivity.structure import spectra as structure_spectra
from robustness.sensitivity.structure.forms import (
    compare_updates,
    core_energy,
    fit_both_sides,
    fit_inputs,
    fit_outputs,
    fit_rank,
    mpc_residuals,
)
from robustness.sensitivity.structure.growth import (
    Growth,
    chance_intruders,
    count_intruders,
    irreducible_share,
    measure_growth,
)
from robustness.sensitivity.structure.spectra import (
    decompose,
    decompose_top,
    describe,
    singular_values,
    spectral_norm,
    squared_norm,
    subspace_overlap,
)

SHAPES = [(9, 6), (6, 9), (7, 7)]
seeds = st.integers(0, 10_000)
shapes = st.sampled_from(SHAPES)


def gaussian(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(shapes, seeds)
def test_singular_values_are_numpys(shape: tuple[int, int], seed: int) -> None:
    matrix = gaussian(*shape, seed=seed)

    np.testing.assert_allclose(singular_values(matrix), np.linalg.svd(matrix.numpy(), compute_uv=False), atol=1e-7)


@given(shapes, seeds)
def test_ranks_are_their_definitions_and_lie_between_one_and_full(shape: tuple[int, int], seed: int) -> None:
    matrix = gaussian(*shape, seed=seed)
    values = np.linalg.svd(matrix.numpy(), compute_uv=False)

    found = describe(singular_values(matrix))

    shares = values**2 / (values**2).sum()
    assert found.frobenius == pytest.approx(np.linalg.norm(matrix))
    assert found.spectral == pytest.approx(np.linalg.norm(matrix, 2))
    assert found.stable_rank == pytest.approx((values**2).sum() / values[0] ** 2)
    assert found.effective_rank == pytest.approx(math.exp(entropy(shares)))
    assert shares[: found.energy_rank].sum() >= 0.9 - 1e-9 > shares[: found.energy_rank - 1].sum() - 1e-9
    assert 1 <= found.stable_rank <= found.effective_rank + 1e-9 <= min(shape) + 1e-6
    assert found.frobenius / math.sqrt(min(shape)) <= found.spectral + 1e-9 <= found.frobenius + 1e-6


def test_no_update_has_no_rank() -> None:
    found = describe(singular_values(torch.zeros(4, 3)))

    assert (found.frobenius, found.stable_rank, found.energy_rank) == (0, 0, 0)


@pytest.mark.parametrize("decay", [0.5, 0.9, 1.0])
def test_a_truncated_decomposition_is_the_full_ones_beginning(decay: float) -> None:
    """A flat spectrum (decay 1) makes it give way to the full decomposition."""
    left, right = (torch.linalg.qr(gaussian(60, 60, seed=seed))[0] for seed in (1, 2))
    matrix = left @ torch.diag(decay ** torch.arange(60, dtype=torch.float64)) @ right.T + 1e-3 * gaussian(
        60, 60, seed=3
    )

    top = decompose_top(matrix, 5, torch.Generator().manual_seed(0))

    u, s, vt = np.linalg.svd(matrix.numpy())
    np.testing.assert_allclose(top.values, s[:5], rtol=1e-5)
    np.testing.assert_allclose(np.abs(np.sum(top.left.numpy() * u[:, :5], axis=0)), 1, atol=1e-3)
    np.testing.assert_allclose(np.abs(np.sum(top.right.numpy() * vt[:5].T, axis=0)), 1, atol=1e-3)


@given(seeds)
def test_overlap_is_the_mean_squared_cosine_of_principal_angles(seed: int) -> None:
    first, second = (torch.linalg.qr(gaussian(8, 3, seed=seed + shift))[0] for shift in (0, 1))

    expected = np.mean(np.cos(subspace_angles(first.numpy(), second.numpy())) ** 2)
    assert subspace_overlap(first, second) == pytest.approx(expected)


def test_random_subspaces_overlap_by_chance() -> None:
    overlaps = [
        subspace_overlap(*(torch.linalg.qr(gaussian(40, 8, seed=2 * seed + shift))[0] for shift in (0, 1)))
        for seed in range(200)
    ]

    assert np.mean(overlaps) == pytest.approx(8 / 40, abs=4 * np.std(overlaps) / math.sqrt(200))


@given(shapes, seeds)
def test_the_core_of_a_square_update_holds_all_its_energy(shape: tuple[int, int], seed: int) -> None:
    weight, update = gaussian(*shape, seed=seed), gaussian(*shape, seed=seed + 1)

    diagonal, off = core_energy(decompose(weight), update)

    u, _, vt = np.linalg.svd(weight.numpy(), full_matrices=False)
    core = u.T @ update.numpy() @ vt.T
    total = np.sum(update.numpy() ** 2)
    assert diagonal == pytest.approx(np.sum(np.diag(core) ** 2) / total, abs=1e-5)
    assert diagonal + off == pytest.approx(np.sum(core**2) / total, abs=1e-5)
    assert diagonal + off <= 1 + 1e-6
    assert shape[0] != shape[1] or diagonal + off == pytest.approx(1, abs=1e-5)


@given(shapes, seeds)
def test_every_form_explains_its_own_updates_fully(shape: tuple[int, int], seed: int) -> None:
    weight = gaussian(*shape, seed=seed)
    rows, columns = gaussian(shape[0], seed=seed + 1), gaussian(shape[1], seed=seed + 2)
    base = decompose(weight)
    moved = base.left @ torch.diag(gaussian(min(shape), seed=seed + 3)) @ base.right.T

    assert fit_outputs(weight, rows[:, None] * weight) == pytest.approx(1)
    assert fit_inputs(weight, weight * columns) == pytest.approx(1)
    assert core_energy(base, moved)[0] == pytest.approx(1, abs=1e-5)
    assert fit_rank(
        singular_values(gaussian(shape[0], 2, seed=seed) @ gaussian(2, shape[1], seed=seed + 4)), 2
    ) == pytest.approx(1)


@given(seeds)
def test_small_two_sided_scalings_are_found_whole(seed: int) -> None:
    weight = gaussian(6, 5, seed=seed)
    rows, columns = 1 + 0.1 * gaussian(6, seed=seed + 1), 1 + 0.1 * gaussian(5, seed=seed + 2)

    assert fit_both_sides(weight, rows[:, None] * weight * columns - weight) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_one_sided_fits_are_least_squares_and_the_two_sided_one_no_worse_than_scipys(seed: int) -> None:
    weight, update = gaussian(5, 4, seed=seed), 0.3 * gaussian(5, 4, seed=seed + 50)
    w, d = weight.numpy(), update.numpy()
    total = np.sum(d**2)
    row_wise = sum(np.linalg.lstsq(w[i][:, None], d[i], rcond=None)[1][0] for i in range(5))
    column_wise = sum(np.linalg.lstsq(w[:, [j]], d[:, j], rcond=None)[1][0] for j in range(4))
    scipys = least_squares(
        lambda p: (p[:5, None] * w * p[5:] - w - d).ravel(), np.ones(9), xtol=1e-15, ftol=1e-15, gtol=1e-15
    )

    assert fit_outputs(weight, update) == pytest.approx(1 - row_wise / total)
    assert fit_inputs(weight, update) == pytest.approx(1 - column_wise / total)
    both = fit_both_sides(weight, update)
    assert both >= 1 - 2 * scipys.cost / total - 1e-6
    assert both >= max(fit_outputs(weight, update), fit_inputs(weight, update)) - 1e-9


@given(shapes, seeds)
def test_no_projection_onto_r_directions_explains_more_than_the_rank_fit(shape: tuple[int, int], seed: int) -> None:
    update = gaussian(*shape, seed=seed)
    random = torch.linalg.qr(gaussian(shape[0], 2, seed=seed + 1))[0]

    explained = float((random.T @ update).square().sum() / update.square().sum())

    assert fit_rank(singular_values(update), 2) >= explained


def test_the_best_scale_is_that_of_scipy_and_parallel_updates_have_cosine_one() -> None:
    full, peft = gaussian(4, 5, seed=1), gaussian(4, 5, seed=2)
    inner, full_square, peft_square = compare_updates(full, peft)

    best = least_squares(lambda s: (full.numpy() - s * peft.numpy()).ravel(), [0.0]).x[0]
    parallel = compare_updates(full, 3 * full)
    assert inner / peft_square == pytest.approx(best)
    assert parallel[0] / math.sqrt(parallel[1] * parallel[2]) == pytest.approx(1)
    assert full_square == pytest.approx(np.sum(full.numpy() ** 2))


def test_orthogonal_factors_leave_no_residual_whatever_their_scale() -> None:
    a = 3 * torch.linalg.qr(gaussian(9, 4, seed=1))[0].T
    b = torch.linalg.qr(gaussian(7, 4, seed=2))[0]

    stretched = b * torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    assert mpc_residuals(a, 0.1 * b) == pytest.approx((0, 0), abs=1e-12)
    assert mpc_residuals(a, stretched)[1] == pytest.approx(0, abs=1e-12)
    assert mpc_residuals(a, stretched)[0] > 0.01


def test_a_planted_intruder_is_found_and_a_small_update_has_none() -> None:
    base = torch.linalg.qr(gaussian(40, 40, seed=1))[0] @ torch.diag(torch.linspace(2, 1, 40, dtype=torch.float64))
    base = base[:, :20]  # no base direction spans everything: there is room for a new one
    left = torch.linalg.qr(torch.cat([base, gaussian(40, 1, seed=2)], dim=1))[0][:, -1]
    planted = 10 * torch.outer(left, gaussian(20, seed=3) / 20**0.5)
    factors = decompose(base)

    for update, expected in ((planted, 1), (1e-3 * gaussian(40, 20, seed=4), 0)):
        tuned = decompose_top(base + update, 10, torch.Generator().manual_seed(0))
        assert count_intruders(factors, tuned, 0.5).count == expected


@pytest.mark.parametrize("seed", range(3))
def test_intruders_are_counted_as_the_peft_library_counts_them(seed: int) -> None:
    """Its routine for LoRA names the intruders of each layer."""
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora.intruders import reduce_intruder_dimension

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = torch.nn.Sequential(torch.nn.Linear(24, 24, bias=False))
        weight = net[0].weight.detach().clone()
        model = get_peft_model(net, LoraConfig(r=4, lora_alpha=4, target_modules=["0"]))
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.6)
    update = model.base_model.model[0].get_delta_weight("default").detach()
    lines: list[str] = []
    reduce_intruder_dimension(model, top_k=10, threshold_epsilon=0.5, logging_sink=lines.append)

    tuned = decompose_top(weight + update, 10, torch.Generator().manual_seed(0))
    count = count_intruders(decompose(weight), tuned, 0.5).count
    assert count > 0
    assert lines[0].endswith(f"Intruders: {count}")


def test_random_low_rank_updates_make_intruders_and_spread_out_ones_few() -> None:
    """The count is norm and rank before it is learning: what random updates of the same norm make."""
    weight = gaussian(64, 64, seed=1) @ torch.diag(torch.linspace(2, 0.1, 64, dtype=torch.float64))
    norm = 0.5 * float(weight.norm())

    def count(norm: float, rank: int) -> float:
        generator = torch.Generator().manual_seed(0)
        return chance_intruders(
            weight, decompose(weight), norm, rank, k=10, threshold=0.5, draws=3, generator=generator
        )

    low, high, nothing = count(norm, 2), count(norm, 64), count(1e-6, 2)

    assert nothing == 0
    assert low >= 1
    assert low == count(norm, 2)
    assert high < low


def growth_of(weight: torch.Tensor, update: torch.Tensor) -> Growth:
    before, after, change = (spectral_norm(each) for each in (weight, weight + update, update))
    return measure_growth(decompose(weight), update, before=before, after=after, change=change)


@given(shapes, seeds, st.floats(0.01, 3))
def test_the_spectral_norm_grows_within_weyls_bound(shape: tuple[int, int], seed: int, scale: float) -> None:
    weight, update = gaussian(*shape, seed=seed), scale * gaussian(*shape, seed=seed + 1)

    growth = growth_of(weight, update)

    before = np.linalg.norm(weight, 2)
    assert growth.log_growth == pytest.approx(math.log(np.linalg.norm(weight + update, 2) / before), abs=1e-6)
    assert growth.log_growth <= growth.weyl + 1e-6
    assert growth.log_growth >= math.log(max(1e-12, 1 - math.expm1(growth.weyl))) - 1e-6


def test_a_small_update_grows_the_norm_by_its_first_order() -> None:
    weight, update = gaussian(8, 6, seed=1), 1e-5 * gaussian(8, 6, seed=2)

    growth = growth_of(weight, update)

    assert growth.log_growth == pytest.approx(growth.first_order, rel=1e-3)


@given(shapes, seeds, st.integers(1, 4), st.floats(0.1, 10))
def test_no_update_of_rank_r_brings_the_norm_below_the_next_singular_value(
    shape: tuple[int, int], seed: int, rank: int, scale: float
) -> None:
    weight = gaussian(*shape, seed=seed)
    update = scale * gaussian(shape[0], rank, seed=seed + 1) @ gaussian(rank, shape[1], seed=seed + 2)

    share = irreducible_share(singular_values(weight), rank)

    assert np.linalg.norm(weight + update, 2) >= share * np.linalg.norm(weight, 2) - 1e-6


def test_the_update_that_cuts_the_first_directions_reaches_the_limit() -> None:
    weight = gaussian(7, 5, seed=1)
    u, s, vt = np.linalg.svd(weight.numpy(), full_matrices=False)
    cut = weight.numpy() - u[:, :2] @ np.diag(s[:2]) @ vt[:2]

    assert np.linalg.norm(cut, 2) / s[0] == pytest.approx(irreducible_share(singular_values(weight), 2), abs=1e-6)
    assert irreducible_share(singular_values(weight), 5) == 0


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (12, 12)])
def test_a_full_decomposition_gives_the_matrix_back(shape: tuple[int, int]) -> None:
    matrix = torch.from_numpy(np.random.default_rng(3).normal(size=shape))

    found = decompose(matrix)

    assert found.left.shape == (shape[0], min(shape)) and found.right.shape == (shape[1], min(shape))
    torch.testing.assert_close((found.left * found.values) @ found.right.T, matrix, atol=1e-5, rtol=0)
    np.testing.assert_allclose(found.values, np.linalg.svd(matrix.numpy(), compute_uv=False), atol=1e-5)


def test_squares_are_summed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure_spectra, "PIECE", 8)
    one, other = gaussian(7, 3, seed=1), gaussian(7, 3, seed=2)

    assert squared_norm(one) == pytest.approx(float(one.square().sum()))
    assert squared_norm(one, other) == pytest.approx(float((one - other).square().sum()))
    assert squared_norm(one[:, 0], other[:, 0]) == pytest.approx(float((one - other)[:, 0].square().sum()))
