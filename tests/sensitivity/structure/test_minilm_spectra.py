"""Spectral norms of a real model's weights, against figures computed elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from robustness.sensitivity.structure.spectra import describe, singular_values

# Largest singular value of Q, K, V, attention output, feed-forward in and out of all-MiniLM-L6-v2, layer by layer.
NORMS = (
    (6.12, 6.84, 2.50, 2.58, 11.18, 8.00),
    (5.47, 6.05, 3.32, 2.56, 11.27, 4.97),
    (4.79, 5.64, 3.43, 2.87, 11.65, 7.42),
    (4.60, 5.60, 4.19, 3.29, 9.39, 5.91),
    (5.76, 5.38, 3.98, 3.21, 8.65, 6.98),
    (4.98, 4.02, 2.96, 2.26, 7.44, 9.42),
)
FIRST_STABLE_RANKS = (36, 27, 45, 42, 20, 19)
MATRICES = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)


def test_the_spectral_norms_of_minilm_are_known_to_a_hundredth(minilm: Path) -> None:
    weights = load_file(minilm / "model.safetensors")

    for layer, norms in enumerate(NORMS):
        found = [describe(singular_values(weights[f"encoder.layer.{layer}.{name}.weight"])) for name in MATRICES]

        assert [spectrum.spectral for spectrum in found] == pytest.approx(norms, abs=0.01)
        if layer == 0:
            assert [round(spectrum.stable_rank) for spectrum in found] == list(FIRST_STABLE_RANKS)
