from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from robustness.sensitivity.attention import twice_differentiable
from robustness.sensitivity.blocks import find_blocks
from robustness.sensitivity.input.block_jacobians import BlockJacobians, block_norms, spectral_norm_lower
from robustness.sensitivity.measurement import Kind
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import frozen
from robustness.victims.heads.labels import Victim


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in range(count)]


def test_the_iteration_reaches_the_norm_of_a_dense_jacobian_from_below_and_one_step_more_is_never_less() -> None:
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(12, 12, generator=rng, dtype=torch.float64)
    before = torch.randn(3, 4, 12, generator=rng, dtype=torch.float64, requires_grad=True)
    after = torch.tanh(before @ weight.T) * before.sum(dim=(1, 2), keepdim=True)
    start = torch.randn(3, 4, 12, generator=rng, dtype=torch.float64)
    mask = torch.ones(3, 4, 1, dtype=torch.bool)

    found = [spectral_norm_lower(before, after, mask, start, steps) for steps in (1, 2, 4, 8, 48)]

    rows = [
        torch.autograd.grad(after[:, i, j].sum(), before, retain_graph=True)[0] for i in range(4) for j in range(12)
    ]
    exact = torch.linalg.matrix_norm(torch.stack(rows, dim=1).flatten(2), ord=2)
    assert found[-1].tolist() == pytest.approx(exact.tolist(), rel=1e-9)
    for low, high in pairwise(found):
        assert (low <= high * (1 + 1e-12)).all() and (high <= exact * (1 + 1e-9)).all()


def test_the_norms_of_a_bert_are_those_of_its_dense_jacobians(tiny: Any, victims: Any) -> None:
    """In double precision; texts of unequal length in one batch, padding left out."""
    victim = victims(tiny.peft)
    model = deepcopy(victim.model).double()
    doubled = Victim(model, victim.tokenizer, victim.label_columns)
    blocks = list(find_blocks(model).values())
    chosen = [Example("short", ("fine film",), 1), Example("long", ("the plot is dull .",), 0)]

    with frozen(doubled):
        batch = doubled.embed(chosen)
        batch = type(batch)(
            batch.embeddings.double(), batch.content, batch.labels, batch.unit, batch.inputs, batch.forward
        )
        with twice_differentiable(doubled, batch):
            found = block_norms(batch, blocks, 60, generators(2))

    for row, example in enumerate(chosen):
        tokens = doubled.tokenizer(example.texts[0], return_tensors="pt")

        def embeddings_part(e: torch.Tensor) -> torch.Tensor:
            return model.bert.embeddings(inputs_embeds=e[None])[0]

        def block(h: torch.Tensor, depth: int) -> torch.Tensor:
            out = blocks[depth](h[None])
            return out[0][0] if isinstance(out, tuple) else out[0]

        with torch.no_grad():
            e = model.get_input_embeddings()(tokens["input_ids"])[0]
            h0 = embeddings_part(e)
            h1 = block(h0, 0)
        parts = [
            (embeddings_part, e),
            (lambda h: block(h, 0), h0),
            (lambda h: block(h, 1), h1),
            (lambda x: block(block(embeddings_part(x), 0), 1), e),
        ]
        for column, (function, point) in enumerate(parts):
            dense = torch.autograd.functional.jacobian(function, point).reshape(point.numel(), point.numel())
            assert float(found[row, column]) == pytest.approx(float(torch.linalg.matrix_norm(dense, ord=2)), rel=1e-6)


def test_a_number_does_not_depend_on_what_is_measured_beside_it_and_slack_is_what_the_product_overstates(
    tiny: Any, subject_of: Any, by_example: Any, examples: Any
) -> None:
    together = list(BlockJacobians(6).measure(subject_of(tiny.full, count=5)))
    alone = list(BlockJacobians(6).measure(subject_of(tiny.full, chosen=[examples[3]])))

    assert by_example(together, "composed-jacobian")["3"] == pytest.approx(
        by_example(alone, "composed-jacobian")["3"], rel=1e-4
    )
    blocks = {r.module: r.measurement.value for r in alone if r.measurement.quantity.name == "block-jacobian"}
    assert list(blocks) == ["embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1"]
    product = np.prod(list(blocks.values()))
    assert by_example(alone, "alignment-slack")["3"] == pytest.approx(
        np.log(product / by_example(alone, "composed-jacobian")["3"])
    )
    assert {r.measurement.kind for r in together} == {Kind.LOWER, Kind.ESTIMATE}
    assert by_example(alone, "alignment-slack")["3"] > 0
