"""The share of an update that each parameter-efficient form can represent (arXiv 2407.05417).

Weights are as torch stores them, shape (out, in). In the row notation y = x W of the paper, inputs are W's rows; here
they are columns.
"""

from __future__ import annotations

import torch

from robustness.sensitivity.structure.spectra import Factors

ROUNDS = 100
"""Rounds of alternating least squares."""
SETTLED = 1e-12
"""Relative gain below which alternating least squares ends."""
TINY = torch.finfo(torch.float64).tiny


def core_energy(base: Factors, update: torch.Tensor) -> tuple[float, float]:
    """Returns the shares of |dW|^2 on and off the diagonal of the core C = Ut dW V.

    The first is the R^2 of the best U (S + D) Vt, SAM-PARSER's form. The rest lies outside
    W_0's singular spaces; it is zero for a square matrix.
    """
    core = base.left.T @ update.double() @ base.right
    total = float(update.double().square().sum())
    if total == 0:
        return 0.0, 0.0
    diagonal = float(core.diagonal().square().sum())
    return diagonal / total, (float(core.square().sum()) - diagonal) / total


def fit_outputs(weight: torch.Tensor, update: torch.Tensor) -> float:
    """Returns the R^2 of the best scaling of outputs, W D2 in rows: (IA)3's form.

    Row by row here, dW_i = e_i W_i, with e_i = <dW_i, W_i> / |W_i|^2.

    >>> fit_outputs(torch.eye(2), torch.diag(torch.tensor([1.0, -3.0])))
    1.0
    """
    rows, moved = weight.double(), update.double()
    total = float(moved.square().sum())
    norms = rows.square().sum(dim=1)
    explained = (rows * moved).sum(dim=1).square() / norms.clamp_min(TINY)
    return float(explained.sum()) / total if total else 0.0


def fit_inputs(weight: torch.Tensor, update: torch.Tensor) -> float:
    """Returns the R^2 of the best scaling of inputs, D1 W in rows: SSL's form."""
    return fit_outputs(weight.T, update.T)


def fit_both_sides(weight: torch.Tensor, update: torch.Tensor) -> float:
    """Returns the R^2 of a scaling of inputs and outputs, D1 W D2 in rows: SSB's form.

    Alternating least squares, from no scaling and from the best scaling of inputs, gives a lower bound of the best. A
    round costs four matrix-vector products.
    """
    base, moved = weight.double(), update.double()
    total = float(moved.square().sum())
    if total == 0:
        return 0.0
    squares, products = base.square(), base * (base + moved)
    ones = torch.ones(base.shape[1], dtype=torch.float64)
    starts = (ones, products.sum(dim=0) / squares.sum(dim=0).clamp_min(TINY))
    explained = max(_alternate(squares, products, columns) for columns in starts)
    residual = float((base + moved).square().sum()) - explained
    return 1 - max(residual, 0.0) / total


def fit_rank(values: torch.Tensor, rank: int) -> float:
    """Returns the R^2 of the best update of that rank (Eckart and Young), from the update's singular values.

    >>> fit_rank(torch.tensor([3.0, 1.0]), 1)
    0.9
    """
    squares = values.double().square()
    total = float(squares.sum())
    return float(squares[:rank].sum()) / total if total else 0.0


def compare_updates(full: torch.Tensor, peft: torch.Tensor) -> tuple[float, float, float]:
    """Returns <dW_full, dW_peft>, |dW_full|^2 and |dW_peft|^2 in double precision.

    Summed over matrices they give the cosine of two updates. They also give the scale at which the PEFT update comes
    closest to the full one, s* = <dW_full, dW_peft> / |dW_peft|^2 (arXiv 2407.05417).
    """
    first, second = full.double(), peft.double()
    return float((first * second).sum()), float(first.square().sum()), float(second.square().sum())


def mpc_residuals(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float]:
    """Returns the residuals of MPC_o and MPC_d for B A, with A (r, in) and B (out, r), as shares.

    $$|A At - I|^2 + |Bt B - I|^2$$ and $$|A At - I|^2 + |Bt B - diag(Bt B)|^2,$$ divided by their number of entries,
    2 r^2. Each Gram matrix is first divided by the mean of its diagonal, so that scale does not count.
    """
    grams = [
        gram / gram.diagonal().mean().clamp_min(1e-300)
        for gram in (a.double() @ a.double().T, b.double().T @ b.double())
    ]
    identity = torch.eye(len(grams[0]), dtype=torch.float64)
    first = float((grams[0] - identity).square().sum())
    orthonormal = float((grams[1] - identity).square().sum())
    orthogonal = float((grams[1] - torch.diag(grams[1].diagonal())).square().sum())
    entries = 2 * len(identity) ** 2
    return (first + orthonormal) / entries, (first + orthogonal) / entries


def _alternate(squares: torch.Tensor, products: torch.Tensor, columns: torch.Tensor) -> float:
    """The share of |W + dW|^2 that diag(rows) W diag(columns) explains after alternating least squares."""
    before = 0.0
    for _ in range(ROUNDS):
        rows = (products @ columns) / (squares @ columns.square()).clamp_min(TINY)
        wanted = products.T @ rows
        columns = wanted / (squares.T @ rows.square()).clamp_min(TINY)
        explained = float(wanted @ columns)
        if explained - before <= SETTLED * explained:
            return explained
        before = explained
    return explained
