from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from robustness.sensitivity.measurement import Kind
from robustness.sensitivity.structure import anatomy, randomised
from robustness.sensitivity.structure.anatomy import UpdateStructure
from robustness.sensitivity.structure.randomised import complete, decompose_leading
from robustness.sensitivity.structure.spectra import describe

SIZE, KEPT = 160, 24
SPECTRA = {"flat": np.linspace(3, 1, SIZE), "falling": 10 / np.arange(1, SIZE + 1)}


def matrix_of(values: np.ndarray) -> torch.Tensor:
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(SIZE, SIZE)))[0] for _ in range(2))
    return torch.from_numpy((left * values) @ right.T)


@pytest.mark.parametrize("values", SPECTRA.values(), ids=SPECTRA)
def test_a_value_is_below_the_full_decompositions_and_within_the_measured_error_of_one(values: np.ndarray) -> None:
    """The reference is LAPACK's full decomposition, in double precision."""
    matrix = matrix_of(values)
    exact = np.linalg.svd(matrix.numpy(), compute_uv=False)

    found = decompose_leading(matrix, KEPT, torch.Generator().manual_seed(0))

    ours = found.factors.values.numpy()
    assert (ours <= exact[:KEPT] + 1e-5).all() and (ours >= 0.85 * exact[:KEPT]).all()
    assert max(np.abs(exact - value).min() for value in ours) <= found.error
    assert found.rest == pytest.approx((exact**2).sum() - (ours**2).sum(), rel=1e-5)


def test_an_update_of_low_rank_is_found_exactly_and_has_no_rest() -> None:
    rng = torch.Generator().manual_seed(0)
    matrix = torch.randn(SIZE, 4, generator=rng) @ torch.randn(4, SIZE, generator=rng)

    found = decompose_leading(matrix, KEPT, rng)

    exact = torch.linalg.svdvals(matrix.double())
    values = complete(found, SIZE)
    assert torch.allclose(values[:4], exact[:4], rtol=1e-5)
    assert float(values[4:].max()) < 1e-3 * float(values[0]) and found.error < 1e-3 * float(values[0])
    assert describe(values).energy_rank == describe(exact).energy_rank


def test_a_completed_spectrum_has_the_matrixs_norm() -> None:
    values = SPECTRA["flat"]

    found = complete(decompose_leading(matrix_of(values), KEPT, torch.Generator().manual_seed(0)), SIZE)

    assert len(found) == SIZE and bool((found[:-1] >= found[1:]).all())
    assert describe(found).stable_rank == pytest.approx((values**2).sum() / values[0] ** 2, rel=0.05)


def test_quantities_of_large_matrices_are_estimates_near_the_exact_ones_and_those_of_small_stay_exact(
    tiny: Any, subject_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The full arm's matrices of 32 x 32 and 32 x 64 count as large, and half of their directions are kept."""
    exact = rows(UpdateStructure(draws=1), subject_of(tiny.full))
    monkeypatch.setattr(randomised, "LARGE", 32)
    monkeypatch.setattr(anatomy, "KEPT", 20)

    found = rows(UpdateStructure(draws=1), subject_of(tiny.full))

    assert {row.kind for name, row in exact.items() if name != "intruders-by-chance"} <= {
        Kind.EXACT, Kind.UPPER, Kind.LOWER
    }  # fmt: skip
    assert "randomised-svd-error" not in exact and 0 < found["randomised-svd-error"].value < 0.5
    for name in ("update-stable-rank", "update-relative-spectral-norm", "log-spectral-growth", "overlap-left"):
        assert found[name].kind is Kind.ESTIMATE
        assert found[name].value == pytest.approx(exact[name].value, rel=0.1, abs=0.02), name
    for name in ("update-relative-norm", "fit-outputs"):
        assert (found[name].kind, found[name].value) == (Kind.EXACT, exact[name].value)


def rows(probe: UpdateStructure, subject: Any) -> Any:
    module = "encoder.layer.1.attention.self.query"
    return {r.measurement.quantity.name: r.measurement for r in probe.measure(subject) if r.module == module}
