from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from peft.utils import PeftType
from torch import nn
from transformers.pytorch_utils import Conv1D

from robustness.tuners.forms import FORMS, Bias, Scaling, Spectrum
from robustness.tuners.layers import FormConfig
from robustness.tuners.mpc import MpcConfig, constraint_penalty
from robustness.tuners.registration import FORM_TYPES, MPC_TYPES, register_tuners

register_tuners()
X = torch.randn(7, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Net(nn.Module):
    """Two linear layers and a normalisation, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 9)
        self.norm = nn.LayerNorm(9)
        self.second = nn.Linear(9, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.norm(self.first(x))))


@pytest.fixture
def net() -> Callable[[], Net]:
    def make() -> Net:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Net().double().eval()

    return make


def adapted(net: Callable[[], Net], kind: str, *, noise: float) -> PeftModel:
    targets = ["first", "norm"] if kind == "BITFIT" else ["first", "second"]
    config = FormConfig(peft_type=kind, target_modules=targets)
    if kind in MPC_TYPES:
        config = MpcConfig(peft_type=kind, r=2, target_modules=targets, mpc_weight=0.1)
    base = net()
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = get_peft_model(base, config).double().eval()
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += noise * torch.randn(parameter.shape, generator=generator)
    return model


def test_registering_twice_is_registering_once() -> None:
    before = list(PeftType)

    register_tuners()

    assert list(PeftType) == before
    assert PeftType("SSB") is PeftType.SSB
    assert set(FORM_TYPES) == set(FORMS)


@pytest.mark.parametrize("kind", [*FORM_TYPES, *MPC_TYPES])
def test_an_adapter_starts_as_the_model_it_adapts(net: Callable[[], Net], kind: str) -> None:
    torch.testing.assert_close(adapted(net, kind, noise=0.0)(X), net()(X), atol=1e-7, rtol=0)


@pytest.mark.parametrize("kind", [*FORM_TYPES, *MPC_TYPES])
def test_a_saved_adapter_loads_back_and_can_be_switched_off(
    net: Callable[[], Net], tmp_path: Path, kind: str
) -> None:
    model = adapted(net, kind, noise=0.3)
    model.save_pretrained(tmp_path)

    loaded = PeftModel.from_pretrained(net(), tmp_path).double().eval()

    torch.testing.assert_close(loaded(X), model(X), atol=1e-6, rtol=0)
    with loaded.disable_adapter():
        torch.testing.assert_close(loaded(X), net()(X), atol=0, rtol=0)
    torch.testing.assert_close(loaded(X), model(X), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", [*FORM_TYPES, "MPC_O", "MPC_D"])
def test_merging_keeps_the_answers_and_unmerging_the_base(net: Callable[[], Net], kind: str) -> None:
    model = adapted(net, kind, noise=0.3)
    expected = model(X)

    model.merge_adapter(safe_merge=True)
    merged = model(X)
    model.unmerge_adapter()

    torch.testing.assert_close(merged, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(model(X), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(model.merge_and_unload()(X), expected, atol=1e-6, rtol=0)


def test_what_is_not_linear_is_not_merged(net: Callable[[], Net]) -> None:
    with pytest.raises(ValueError, match="cannot be merged"):
        adapted(net, "MPC_N", noise=0.3).merge_and_unload()


def test_an_update_that_is_not_finite_is_not_merged(net: Callable[[], Net]) -> None:
    with pytest.raises(ValueError, match="not finite"):
        adapted(net, "SSB", noise=float("inf")).merge_and_unload(safe_merge=True)


@pytest.mark.parametrize(("kind", "module"), [("SSB", "norm"), ("BITFIT", "second")])
def test_a_module_that_a_form_cannot_reshape_is_refused_by_name(
    net: Callable[[], Net], kind: str, module: str
) -> None:
    with pytest.raises(ValueError, match=rf"{kind}: target module {module} does not fit"):
        get_peft_model(net(), FormConfig(peft_type=kind, target_modules=[module]))


@pytest.mark.parametrize("kind", FORM_TYPES)
def test_a_form_in_rows_is_the_formula_of_the_paper(kind: str) -> None:
    """y = x W with W = weight transposed, each formula written out."""
    generator = torch.Generator().manual_seed(3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layer = nn.Linear(6, 4).double()
    form = FORMS[kind]
    parameters = {
        name: value + torch.randn(value.shape, generator=generator, dtype=torch.float64)
        for name, value in form.start(layer).items()
    }
    factors = {name: value.double() for name, value in form.factors(layer).items()}
    w, b = layer.weight.T, layer.bias
    if isinstance(form, Scaling):
        w = torch.diag(parameters["form_input"]) @ w
        w = w @ torch.diag(parameters["form_output"]) if "form_output" in parameters else w
    elif isinstance(form, Spectrum):
        u, s, vt = torch.linalg.svd(w, full_matrices=False)
        values = s + parameters["form_spectrum"]
        w = u @ torch.diag(values.relu() if kind == "SVDIFF" else values) @ vt
    elif isinstance(form, Bias):
        b = b + parameters["form_bias"]

    torch.testing.assert_close(form.apply(layer, parameters, factors, X), X @ w + b, atol=2e-6, rtol=0)


@pytest.mark.parametrize("kind", ["MPC_O", "MPC_D"])
def test_in_training_the_mean_penalty_joins_the_loss(kind: str) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    tiny = BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    config = MpcConfig(peft_type=kind, task_type="SEQ_CLS", r=2, target_modules=["query", "key"], mpc_weight=0.5)
    model = get_peft_model(BertForSequenceClassification(tiny), config)
    batch = {"input_ids": torch.tensor([[1, 2, 3]]), "labels": torch.tensor([1])}

    with_penalty, without = model.train()(**batch).loss, model.eval()(**batch).loss

    layers = [model.base_model.model.bert.encoder.layer[0].attention.self.get_submodule(n) for n in ("query", "key")]
    penalties = [constraint_penalty(m.lora_A["default"].weight, m.lora_B["default"].weight, kind) for m in layers]
    torch.testing.assert_close(with_penalty - without, 0.5 * torch.stack(penalties).mean(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["MPC_O", "MPC_D"])
def test_the_penalty_is_that_of_the_paper_in_rows(kind: str) -> None:
    """In rows the update is A B, with A of shape (in, r) and B of shape (r, out)."""
    generator = torch.Generator().manual_seed(4)
    a, b = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((5, 2), (2, 7)))
    gram_a, gram_b = a.T @ a, b @ b.T
    wanted = torch.eye(2) if kind == "MPC_O" else torch.diag(gram_b.diagonal())
    expected = sum((gram_a - torch.eye(2)).flatten() ** 2) + sum((gram_b - wanted).flatten() ** 2)

    torch.testing.assert_close(constraint_penalty(a.T, b.T, kind), expected)


def turned(layer: nn.Linear) -> Conv1D:
    """The same layer, its matrix stored transposed as GPT-2 does."""
    twin = Conv1D(layer.out_features, layer.in_features).double()
    twin.weight.data = layer.weight.detach().T.clone()
    twin.bias.data = torch.zeros(layer.out_features).double() if layer.bias is None else layer.bias.detach().clone()
    return twin


@pytest.mark.parametrize("width", [6, 9])
@pytest.mark.parametrize("kind", [*FORM_TYPES, *MPC_TYPES])
def test_a_layer_that_stores_its_matrix_transposed_is_reshaped_alike(
    net: Callable[[], Net], kind: str, width: int
) -> None:
    """Square layers too, of which no shape says which axis is which."""

    def make(*, transposed: bool) -> Net:
        model = net()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            model.first, model.norm = nn.Linear(6, width).double(), nn.LayerNorm(width).double()
            model.second = nn.Linear(width, 6).double()
        if transposed:
            model.first, model.second = turned(model.first), turned(model.second)  # type: ignore[assignment,arg-type]
        return model

    plain, other = (adapted(lambda turn=turn: make(transposed=turn), kind, noise=0.5) for turn in (False, True))  # type: ignore[misc]

    expected = plain(X)
    torch.testing.assert_close(other(X), expected, atol=1e-6, rtol=0)
    assert not torch.allclose(expected, make(transposed=False)(X), atol=1e-2)
    if kind != "MPC_N":
        torch.testing.assert_close(other.merge_and_unload()(X), expected, atol=1e-6, rtol=0)
