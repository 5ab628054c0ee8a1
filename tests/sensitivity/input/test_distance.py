from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from robustness.recipes.embedding.balls import Norm, sizes
from robustness.recipes.embedding.minimal_norm import Ddn, Fmn
from robustness.sensitivity.input.distance import AdversarialDistance, Ensemble, FirstOrderRadius, first_order_radii
from robustness.sensitivity.input.gradient_masking import Battery, plant, random_directions_win
from robustness.sensitivity.input.jacobian import logit_jacobians
from robustness.sensitivity.measurement import MeasurementStatus
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import EmbeddedBatch, frozen, margins
from robustness.victims.heads.labels import Victim

NORMS = [Norm.L2, Norm.LINF]
NO_CHECKS = Battery(examples=0, directions=1)


def probe(*norms: Norm, steps: int = 20, battery: Battery = NO_CHECKS) -> AdversarialDistance:
    return AdversarialDistance(norms or (Norm.L2,), steps, 1, 5, 8, battery.examples, battery.directions)


def exact_linear(batch: EmbeddedBatch, weights: torch.Tensor, norm: Norm) -> np.ndarray:
    """min over c of (z_y - z_c) / |w_y - w_c|_q."""
    logits, order = batch.logits(batch.embeddings).numpy(), 2 if norm is Norm.L2 else 1
    rows = weights.numpy()
    return np.array(
        [
            min(
                (logits[i, y] - logits[i, c]) / np.linalg.norm(rows[y] - rows[c], ord=order)
                for c in range(len(rows))
                if c != y
            )
            for i, y in enumerate(batch.labels.tolist())
        ]
    )


@pytest.mark.parametrize("norm", NORMS)
def test_a_linear_models_first_order_radius_is_its_distance(
    norm: Norm, as_batch: Any, linear: Any, points: torch.Tensor
) -> None:
    function, weights = linear
    batch = as_batch(function, points)

    jacobian, logits = logit_jacobians(batch)

    exact = exact_linear(batch, weights, norm)
    assert first_order_radii(jacobian, logits, batch.labels, norm).numpy() == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_the_search_ends_within_one_percent_above_a_linear_models_distance(
    norm: Norm, as_batch: Any, linear: Any, points: torch.Tensor
) -> None:
    function, weights = linear
    batch = as_batch(lambda p: function(p).float(), points[:10].float())

    found = probe(norm, steps=40)._ensemble(norm).search(batch)

    ratio = found.distance(norm).numpy() / exact_linear(batch, weights.float(), norm)
    assert (ratio > 1 - 1e-5).all() and (ratio < 1.01).all()


def test_the_search_never_ends_nearer_than_a_dense_grid_on_a_network_of_two_inputs(as_batch: Any) -> None:
    rng = np.random.default_rng(7)
    first, bias = torch.from_numpy(rng.normal(size=(2, 24))), torch.from_numpy(rng.normal(size=24))
    second = torch.from_numpy(rng.normal(size=(24, 3)))
    function = lambda p: (torch.relu(p.flatten(1).double() @ first + bias) @ second).float()  # noqa: E731
    points = torch.from_numpy(rng.normal(size=(12, 1, 2))).float()
    batch = as_batch(function, points)

    found = probe(steps=40)._ensemble(Norm.L2).search(batch).distance(Norm.L2)

    side = torch.linspace(-6, 6, 400, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)[:, None, :]
    answers = function(grid.float()).argmax(dim=1)
    spacing = float(side[1] - side[0])
    for row, label in enumerate(batch.labels.tolist()):
        wrong = grid[answers != label][:, 0] - points[row].double()
        nearest = float(wrong.norm(dim=1).min())
        assert found[row] >= nearest - spacing
        assert found[row] <= nearest * 1.1 + spacing


def test_a_circles_boundary_is_found_at_its_known_distance(as_batch: Any) -> None:
    """z = (|x|^2 - 1, 0): from a point at distance s > 1 of the centre the boundary is s - 1 away."""
    points = torch.randn(8, 2, 3, generator=torch.Generator().manual_seed(0))
    lengths = torch.linspace(1.2, 2.5, 8)
    points = points / points.flatten(1).norm(dim=1)[:, None, None] * lengths[:, None, None]
    batch = as_batch(lambda p: torch.stack([p.flatten(1).square().sum(1) - 1, torch.zeros(len(p))], dim=1), points)

    found = probe(steps=40)._ensemble(Norm.L2).search(batch).distance(Norm.L2)

    assert found.tolist() == pytest.approx((lengths - 1).tolist(), rel=0.01)


def test_the_ensemble_is_no_farther_than_foolboxs_ddn(as_batch: Any) -> None:
    foolbox = pytest.importorskip("foolbox", reason="the oracle foolbox is not installed")
    rng = torch.Generator().manual_seed(5)
    first, second = torch.randn(24, 16, generator=rng) / 24**0.5, torch.randn(16, 3, generator=rng)

    class Network(torch.nn.Module):
        def forward(self, points: torch.Tensor) -> torch.Tensor:
            return torch.tanh(points.flatten(1) @ first) @ second

    points = torch.randn(16, 4, 6, generator=rng)
    batch = as_batch(Network(), points)
    model = foolbox.PyTorchModel(Network().eval(), bounds=(-100, 100), device="cpu")
    flat = points.flatten(1)
    # Foolbox draws no random numbers here, and clips to bounds that no point comes near.
    _, clipped, success = foolbox.attacks.DDNAttack(init_epsilon=1.0, steps=200, gamma=0.05)(
        model, flat, batch.labels, epsilons=None
    )
    theirs = (clipped - flat).norm(dim=1)

    ours = probe(steps=40)._ensemble(Norm.L2).search(batch).distance(Norm.L2)

    assert success.all()
    assert (ours <= theirs * 1.01).all()
    assert float((ours / theirs).median()) > 0.9


@pytest.fixture(scope="module")
def measured(tiny: Any, subject_of: Any) -> Any:
    battery = Battery(examples=4, directions=20)
    return list(probe(*NORMS, battery=battery).measure(subject_of(tiny.peft, count=6)))


@pytest.mark.soak
def test_a_real_models_distances_pass_the_checks_and_are_upper_bounds(measured: Any) -> None:
    rows = [reading.measurement for reading in measured if reading.example is not None]
    checks = {(r.measurement.quantity.name, r.measurement.norm): r.measurement for r in measured if r.example is None}

    assert {row.status for row in rows} == {MeasurementStatus.OK}
    assert {str(row.kind) for row in rows if "distance" in row.quantity.name} == {"upper"}
    assert checks[("check-unbounded-success", "l2")].value == 1
    assert checks[("check-random-directions-win", "l2")].value == 0
    assert checks[("check-planted-recovered", "l2")].value >= 0.95
    assert len(checks) == 12


def test_kappa_is_the_first_order_radius_over_the_distance(
    measured: Any, tiny: Any, subject_of: Any, by_example: Any
) -> None:
    linear = by_example(FirstOrderRadius((Norm.L2,)).measure(subject_of(tiny.peft)), "first-order-radius", "l2")
    distance = by_example(measured, "relative-distance", "l2")
    kappa = by_example(measured, "kappa", "l2")

    assert kappa
    assert {key: linear[key] / distance[key] for key in kappa} == pytest.approx(kappa, rel=1e-4)


def test_a_found_distance_really_changes_the_answer_and_a_wrong_answer_has_distance_zero(
    tiny: Any, subject_of: Any, examples: list[Example], by_example: Any
) -> None:
    wrong = [Example(f"wrong-{each.id}", each.texts, 1 - each.label) for each in examples[:2]]

    found = by_example(probe().measure(subject_of(tiny.peft, chosen=[*examples[:2], *wrong])), "distance")

    assert [found[each.id] for each in wrong] == [0.0, 0.0]
    assert all(found[each.id] > 0 for each in examples[:2])


def test_ten_times_the_logits_leave_distances_and_radii_as_they_are(
    tiny: Any, subject_of: Any, scaled: Victim, by_example: Any
) -> None:
    for each, quantity in ((probe(), "relative-distance"), (FirstOrderRadius((Norm.L2,)), "first-order-radius")):
        once = by_example(each.measure(subject_of(tiny.peft, count=2)), quantity)
        ten = by_example(each.measure(subject_of(tiny.peft, count=2, victim=scaled)), quantity)
        assert list(ten.values()) == pytest.approx(list(once.values()), rel=1e-3)


@pytest.mark.parametrize("norm", NORMS)
def test_company_changes_no_distance(
    norm: Norm, tiny: Any, subject_of: Any, examples: list[Example], by_example: Any
) -> None:
    """In batches of one, of three and of eight, of texts of different lengths: the same to the last bit."""
    longer = Example("long", (" ".join(example.texts[0] for example in examples[:3]),), examples[0].label)
    chosen = [longer, *examples[:7]]

    def distances(size: int) -> dict[str, float]:
        found: dict[str, float] = {}
        for start in range(0, 8, size):
            part = chosen[start : start + size]
            found |= by_example(probe(norm, steps=5)._find(subject_of(tiny.peft, chosen=part), norm), "distance")
        return found

    assert distances(1) == distances(3) == distances(8)


def test_a_padded_row_of_a_batch_is_searched_as_it_is_alone(tiny: Any, victims: Any, examples: list[Example]) -> None:
    victim, search = victims(tiny.peft), Ensemble(Norm.L2, 20).search
    with frozen(victim):
        batch = victim.embed(examples[:3])

        together = search(batch).distance(Norm.L2)
        alone = torch.cat([search(batch.select(torch.tensor([row]))).distance(Norm.L2) for row in range(3)])

    assert torch.equal(together, alone)


def test_restarts_find_no_farther_points(tiny: Any, victims: Any, examples: list[Example]) -> None:
    victim = victims(tiny.peft)
    with frozen(victim):
        batch = victim.embed(examples[:4])

        once, thrice = (Ensemble(Norm.L2, 20, restarts).search(batch) for restarts in (1, 3))

    assert (thrice.distance(Norm.L2) <= once.distance(Norm.L2) * (1 + 1e-5)).all()
    assert (thrice.forwards > once.forwards).all()


def test_a_search_that_finds_much_less_in_half_its_steps_is_not_converged(
    tiny: Any, subject_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Ensemble.search

    def lazy(search: Ensemble, batch: EmbeddedBatch) -> Any:
        found = whole(search, batch)
        return replace(found, delta=found.delta * (1.5 if search.steps == 3 else 1.0))

    monkeypatch.setattr(Ensemble, "search", lazy)
    readings = list(probe(steps=3).measure(subject_of(tiny.peft, count=2)))

    rows = [r.measurement for r in readings if r.example and "distance" in r.measurement.quantity.name]
    assert {row.status for row in rows} == {MeasurementStatus.NOT_CONVERGED}
    assert all("twice the steps gain" in row.reason for row in rows)


def test_planted_wrong_answers_lie_where_they_were_planted(tiny: Any, victims: Any, examples: list[Example]) -> None:
    victim = victims(tiny.peft)
    with frozen(victim):
        batch = victim.embed(examples[:4])
        found = probe()._ensemble(Norm.L2).search(batch)
        planted = plant(batch, victim.model, found, Norm.L2, [torch.Generator().manual_seed(n) for n in range(4)])
        assert planted is not None
        clean = margins(planted.batch.logits(planted.batch.embeddings), planted.batch.labels)

    assert (clean > 0).all()
    assert set(planted.radius.tolist()) <= set(sizes(found.delta, Norm.L2).tolist())


def test_an_answer_that_nothing_changes_voids_the_distances(tiny: Any, subject_of: Any) -> None:
    """The full arm is saturated: from its second label no attack comes back."""
    readings = list(probe(battery=Battery(4, 5)).measure(subject_of(tiny.full, count=4)))

    rows = [reading.measurement for reading in readings if reading.example is not None]
    assert {row.status for row in rows} == {MeasurementStatus.NOT_CONVERGED}
    assert any(row.value is None and "no attack" in row.reason for row in rows)
    assert any(row.value is not None and "without a limit" in row.reason for row in rows)


def test_a_text_without_open_tokens_is_unsupported_and_voids_no_other_distance(
    tiny: Any, subject_of: Any, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ensemble, "search", lambda _, batch: Ddn(steps=20).perturb(batch))
    text = examples[0].texts[0]
    closed = replace(examples[0], id="closed", protected=((0, 0, len(text)),))
    checked = probe(battery=Battery(2, 2))

    found = list(checked.measure(subject_of(tiny.peft, chosen=[closed, *examples[:2]])))

    assert [r for r in found if r.example is None or r.example.id != "closed"] == list(
        checked.measure(subject_of(tiny.peft, chosen=examples[:2]))
    )
    (row,) = (reading.measurement for reading in found if reading.example == closed)
    assert (row.quantity.name, row.status) == ("relative-distance", MeasurementStatus.UNSUPPORTED)
    assert "no token that may be perturbed" in row.reason


def test_only_the_l2_distance_is_divided_by_the_root_of_its_tokens(
    tiny: Any, subject_of: Any, examples: list[Example], by_example: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ensemble, "search", lambda search, batch: Fmn(search.norm, steps=20).perturb(batch))
    subject = subject_of(tiny.peft, count=2)

    found = list(probe(*NORMS).measure(subject))

    distances = by_example(found, "relative-distance", "l2")
    tokens = {each.id: len(subject.any_victim.tokenizer(each.texts[0])["input_ids"]) - 2 for each in examples[:2]}
    expected = {key: distances[key] / tokens[key] ** 0.5 for key in tokens}
    assert by_example(found, "distance-per-root-token", "l2") == pytest.approx(expected, rel=1e-6)
    assert by_example(found, "relative-distance", "linf").keys() == tokens.keys()
    assert not by_example(found, "distance-per-root-token", "linf")


def test_an_example_on_which_the_search_fails_is_errored_and_not_checked(
    tiny: Any, subject_of: Any, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = replace(examples[0], id="long", texts=(f"{examples[0].texts[0]} film" * 3,))

    def fails_on_long(search: Ensemble, batch: EmbeddedBatch) -> Any:
        if batch.embeddings.shape[1] > 20:
            raise RuntimeError("too long")
        return Ddn(steps=20).perturb(batch)

    monkeypatch.setattr(Ensemble, "search", fails_on_long)
    found = list(probe(battery=Battery(2, 2)).measure(subject_of(tiny.peft, chosen=[long, *examples[:1]])))

    errored = [reading for reading in found if reading.measurement.status is MeasurementStatus.ERRORED]
    assert [reading.example for reading in errored] == [long]
    assert "check-unbounded-success" in {r.measurement.quantity.name for r in found if r.example is None}


class Masked(torch.nn.Module):
    """A classifier whose logits are rounded: the same answers nearly everywhere, and no gradient at all."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inner, self.config = model, model.config

    def get_input_embeddings(self) -> Any:
        return self.inner.get_input_embeddings()

    def forward(self, **inputs: Any) -> Any:
        logits = self.inner(**inputs).logits
        return SimpleNamespace(logits=torch.round(logits * 4) / 4)


def test_masked_gradients_void_the_distances(tiny: Any, victims: Any, subject_of: Any) -> None:
    plain = victims(tiny.peft)
    victim = Victim(Masked(plain.model), plain.tokenizer, plain._columns)

    readings = list(probe(battery=Battery(4, 20)).measure(subject_of(tiny.peft, count=4, victim=victim)))

    rows = [reading.measurement for reading in readings if reading.example is not None]
    assert rows and {row.status for row in rows} == {MeasurementStatus.NOT_CONVERGED}
    checks = {r.measurement.quantity.name: r.measurement.value for r in readings if r.example is None}
    assert checks["check-zero-gradients"] == 1


def test_a_search_that_stops_early_is_voided_by_random_directions(tiny: Any, victims: Any, examples: Any) -> None:
    victim = victims(tiny.peft)
    with frozen(victim):
        batch = victim.embed(examples[:4])
        found = probe()._ensemble(Norm.L2).search(batch)
        generators = [torch.Generator().manual_seed(n) for n in range(4)]
        far = type(found)(
            **{name: getattr(found, name) for name in found.__slots__ if name != "delta"}, delta=found.delta * 60
        )

        assert random_directions_win(batch, found, Norm.L2, generators, 20) == 0
        assert random_directions_win(batch, far, Norm.L2, generators, 20) > 0
