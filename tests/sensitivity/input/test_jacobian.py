from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from robustness.errors import CheckpointError
from robustness.sensitivity.input.condition import ConditionProfile
from robustness.sensitivity.input.jacobian import (
    JacobianNorm,
    Margin,
    MarginGradient,
    logit_jacobians,
    margin_gradients,
    spectral_norms,
)
from robustness.sensitivity.measurement import MeasurementStatus
from robustness.sensitivity.probe import Unsupported
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import frozen, margins
from robustness.victims.heads.labels import Victim

PROBES = [Margin(), MarginGradient(), JacobianNorm(), ConditionProfile()]


def test_a_linear_heads_jacobian_norm_is_its_largest_singular_value(
    as_batch: Any, linear: Any, points: torch.Tensor
) -> None:
    function, weights = linear

    jacobian, _ = logit_jacobians(as_batch(function, points))

    exact = np.linalg.norm(weights.numpy(), ord=2)
    assert spectral_norms(jacobian).numpy() == pytest.approx(np.full(30, exact), rel=1e-6)


def test_a_linear_heads_margin_gradient_is_the_difference_of_two_rows(
    as_batch: Any, linear: Any, points: torch.Tensor
) -> None:
    function, weights = linear
    batch = as_batch(function, points)

    gradient, values = margin_gradients(batch)

    logits = function(points)
    for row, label in enumerate(batch.labels.tolist()):
        other = max((c for c in range(3) if c != label), key=lambda c: logits[row, c].item())
        assert torch.allclose(gradient[row].flatten(), weights[label] - weights[other], rtol=1e-10)
        assert values[row] == logits[row, label] - logits[row, other]


def test_the_jacobian_agrees_with_finite_differences_in_double_precision(as_batch: Any, points: torch.Tensor) -> None:
    rng = np.random.default_rng(5)
    first, second = torch.from_numpy(rng.normal(size=(40, 16))), torch.from_numpy(rng.normal(size=(16, 3)))
    batch = as_batch(lambda p: torch.tanh(p.flatten(1) @ first / 6) @ second, points[:4])

    jacobian, _ = logit_jacobians(batch)

    direction = torch.from_numpy(rng.normal(size=(4, 5, 8)))
    step = 1e-6
    difference = batch.logits(points[:4] + step * direction) - batch.logits(points[:4] - step * direction)
    assert torch.allclose(
        (jacobian * direction[:, None]).sum(dim=(2, 3)), difference / (2 * step), rtol=1e-6, atol=1e-8
    )


def test_only_the_content_moves(tiny: Any, victims: Any, examples: list[Example]) -> None:
    victim = victims(tiny.full)
    with frozen(victim):
        batch = victim.embed(examples[:4])
        jacobian, _ = logit_jacobians(batch)

    assert not jacobian.permute(0, 2, 1, 3)[~batch.content].any()
    assert jacobian.permute(0, 2, 1, 3)[batch.content].any()


def test_the_condition_profile_begins_with_the_margins_own_condition_at_the_first_block(
    tiny: Any, victims: Any, subject_of: Any, examples: list[Example]
) -> None:
    """The hidden states before the first block are the embedding layer's output: differentiated here by hand."""
    victim = victims(tiny.full)
    readings = list(ConditionProfile().measure(subject_of(tiny.full, count=3)))
    first = {r.example.id: r.measurement.value for r in readings if r.layer == 0 and r.example is not None}

    for example in examples[:3]:
        inputs = victim.tokenizer(example.texts[0], return_tensors="pt")
        with torch.no_grad():
            hidden = victim.model.bert.embeddings(inputs["input_ids"], token_type_ids=inputs["token_type_ids"])
        hidden = hidden.requires_grad_()
        states = victim.model.bert.encoder(hidden)[0]
        logits = victim.model.classifier(victim.model.bert.pooler(states))
        margin = margins(logits, torch.tensor([example.label]))
        (gradient,) = torch.autograd.grad(margin.sum(), hidden)
        exact = gradient.norm() * hidden.norm() / margin.abs()
        assert first[example.id] == pytest.approx(exact.item(), rel=1e-4)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: type(probe).__name__)
def test_padding_and_company_change_no_examples_numbers(
    probe: Any, tiny: Any, subject_of: Any, examples: Any
) -> None:
    longer = Example("long", (" ".join(example.texts[0] for example in examples[:3]),), 1)

    def collect(chosen: list[Example]) -> dict[Any, float]:
        return {
            (r.example.id, r.layer, r.measurement.quantity.name, r.measurement.norm): r.measurement.value
            for r in probe.measure(subject_of(tiny.peft, chosen=chosen))
        }

    together = collect([*examples[:4], longer])
    alone = {key: value for example in (*examples[:4], longer) for key, value in collect([example]).items()}

    assert together.keys() == alone.keys()
    assert [together[key] for key in alone] == pytest.approx(list(alone.values()), rel=1e-4)


def test_ten_times_the_logits_are_ten_times_the_gradients_and_the_same_conditions(
    tiny: Any, subject_of: Any, scaled: Victim, by_example: Any
) -> None:
    plain, times_ten = subject_of(tiny.peft), subject_of(tiny.peft, victim=scaled)

    for probe, quantity, factor in (
        (MarginGradient(), "margin-gradient", 10),
        (JacobianNorm(), "jacobian-norm", 10),
        (ConditionProfile(), "peak-condition", 1),
    ):
        once, ten = (by_example(probe.measure(each), quantity, "l2") for each in (plain, times_ten))
        assert list(ten.values()) == pytest.approx([factor * value for value in once.values()], rel=1e-4)


def test_a_number_that_is_not_finite_is_errored(tiny: Any, victims: Any, subject_of: Any, monkeypatch: Any) -> None:
    victim = victims(tiny.full)
    original = victim.model.classifier.weight.data.clone()
    try:
        victim.model.classifier.weight.data[0, 0] = torch.nan
        rows = [r.measurement for probe in PROBES for r in probe.measure(subject_of(tiny.full, count=2))]
    finally:
        victim.model.classifier.weight.data.copy_(original)

    assert {row.status for row in rows} == {MeasurementStatus.ERRORED}
    assert all(row.value is None and "not finite" in row.reason for row in rows)


def test_a_victim_without_embeddings_to_move_is_unsupported(tiny: Any, subject_of: Any, monkeypatch: Any) -> None:
    def refuse(*_: object) -> None:
        raise CheckpointError("no embeddings")

    monkeypatch.setattr(Victim, "embed", refuse)

    with pytest.raises(Unsupported, match="no embeddings"):
        list(Margin().measure(subject_of(tiny.full)))


def test_one_bad_example_is_errored_and_the_others_are_measured(
    tiny: Any, subject_of: Any, monkeypatch: Any, examples: list[Example]
) -> None:
    embed = Victim.embed

    def fail_on_two(victim: Any, batch: Any) -> Any:
        if any(example.id == "2" for example in batch):
            raise torch.cuda.OutOfMemoryError("too long")
        return embed(victim, batch)

    monkeypatch.setattr(Victim, "embed", fail_on_two)

    rows = {r.example.id: r.measurement for r in Margin().measure(subject_of(tiny.full)) if r.example}

    assert [key for key, row in rows.items() if row.status is MeasurementStatus.ERRORED] == ["2"]
    assert "too long" in rows["2"].reason and len(rows) == 6
