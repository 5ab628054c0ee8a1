from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.spatial.distance import cdist

from robustness.reports.comparisons.claims import find_exclusion
from robustness.sensitivity.input import units as module
from robustness.sensitivity.input.jacobian import JacobianNorm, MarginGradient
from robustness.sensitivity.input.units import TokenUnits, nearest_token_distance

LENGTHS = {"token-norm": "token_norm", "neighbour": "neighbour_distance"}


def test_lengths_are_the_median_norm_and_the_median_distance_to_the_nearest_other_row(
    tiny: Any, victims: Any, monkeypatch: Any
) -> None:
    table = load_file(tiny.full / "model.safetensors")["bert.embeddings.word_embeddings.weight"].double().numpy()
    distances = cdist(table, table)
    np.fill_diagonal(distances, np.inf)
    monkeypatch.setattr(module, "NORM_ROWS", 7)  # in pieces
    module._distances.clear()

    found = TokenUnits.of(victims(tiny.full))

    nearest = np.sort(distances.min(axis=1))
    assert found.neighbour_distance == pytest.approx(nearest[(len(nearest) - 1) // 2], rel=1e-4)
    norms = np.sort(np.linalg.norm(table, axis=1))
    assert found.token_norm == pytest.approx(norms[(len(norms) - 1) // 2], rel=1e-5)


def test_the_lengths_of_minilm_are_known(minilm: Path) -> None:
    """Token norm 1.19 and distance of neighbours 1.00 of all-MiniLM-L6-v2, measured elsewhere over all tokens."""
    weight = load_file(minilm / "model.safetensors")["embeddings.word_embeddings.weight"]
    table = torch.nn.Embedding.from_pretrained(weight)
    victim = type("V", (), {})()
    victim.device = torch.device("cpu")
    victim.model = torch.nn.Module()
    victim.model.config = type("C", (), {"is_encoder_decoder": False})()
    victim.model.get_input_embeddings = lambda: table

    assert nearest_token_distance(victim) == pytest.approx(1.00, abs=0.03)


@pytest.mark.parametrize(
    ("probe", "quantity"), [(MarginGradient(), "margin-gradient"), (JacobianNorm(), "jacobian-norm")]
)
def test_each_slope_stands_also_per_token_norm_and_per_neighbour(
    probe: Any, quantity: str, tiny: Any, victims: Any, subject_of: Any, by_example: Any
) -> None:
    readings = list(probe.measure(subject_of(tiny.full)))

    plain = by_example(readings, quantity)
    lengths = TokenUnits.of(victims(tiny.full))
    for name, field in LENGTHS.items():
        scaled = by_example(readings, f"{quantity}-per-{name}")
        factor = getattr(lengths, field)
        assert scaled == pytest.approx({key: value * factor for key, value in plain.items()})
    assert {r.measurement.kind.value for r in readings} == {"exact"}
    assert sum(r.measurement.forwards for r in readings) == len(plain)  # one pass each pays for all of its rows
    names = {r.measurement.quantity.name for r in readings}
    assert len(names) == (6 if quantity == "margin-gradient" else 3)
    reasons = {find_exclusion({"kind": "exact", "quantity": name, "probe": "p"}) for name in names}
    assert len(reasons) == 1 and "a derivative at one point" in str(reasons)


def test_only_slopes_per_token_stay_where_the_same_function_has_embeddings_twice_as_long(
    tiny: Any, victims: Any, subject_of: Any, by_example: Any, monkeypatch: Any
) -> None:
    victim = victims(tiny.full)
    before = list(JacobianNorm().measure(subject_of(tiny.full)))
    embed = type(victim).embed
    lengths = TokenUnits.of(victim)

    def stretched(self: Any, examples: Any) -> Any:
        """f(e) as g(2 e)."""
        batch = embed(self, examples)
        inner = batch.forward
        return replace(batch, embeddings=2 * batch.embeddings, forward=lambda e, inputs: inner(e / 2, inputs))

    monkeypatch.setattr(type(victim), "embed", stretched)
    twice = TokenUnits(2 * lengths.token_norm, 2 * lengths.neighbour_distance)
    monkeypatch.setattr(TokenUnits, "of", classmethod(lambda cls, victim: twice))

    after = list(JacobianNorm().measure(subject_of(tiny.full)))

    for per, factor in (("", 0.5), ("-per-token-norm", 1), ("-per-neighbour", 1)):
        once, again = (by_example(readings, f"jacobian-norm{per}") for readings in (before, after))
        assert list(again.values()) == pytest.approx([factor * value for value in once.values()], rel=1e-4)


def test_l1_is_measured_where_it_is_asked_for(tiny: Any, subject_of: Any, by_example: Any) -> None:
    readings = list(MarginGradient(norms=("l1",)).measure(subject_of(tiny.full)))

    assert {(r.measurement.quantity.name, r.measurement.norm) for r in readings} == {("margin-gradient", "l1")}
    l2 = by_example(MarginGradient().measure(subject_of(tiny.full)), "margin-gradient")
    assert all(value >= l2[key] for key, value in by_example(readings, "margin-gradient").items())
