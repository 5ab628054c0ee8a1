"""Reads a victim's model as layers with known bounds, and checks the logits on every text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, final

import torch

from robustness.sensitivity.blocks import find_blocks
from robustness.sensitivity.bounds.activations import ACTIVATIONS, Activation
from robustness.sensitivity.bounds.attention import Attention, Rotary
from robustness.sensitivity.bounds.feedforward import FeedForward, Linear
from robustness.sensitivity.bounds.linearised import Layer, Residual, TakeToken, linearise
from robustness.sensitivity.bounds.norms import Norm
from robustness.sensitivity.probe import Unsupported
from robustness.victims.heads.embedded_batch import EmbeddedBatch
from robustness.victims.heads.head import Head

TOLERANCE = 1e-3
"""Allowed difference from the model's logits, relative to the largest; single precision stays well below."""
TRIALS = 2
"""Perturbed texts on which logits are compared, in addition to the text itself."""


@final
@dataclass(frozen=True, slots=True)
class ReadText:
    """One text in the form that the layers take."""

    layers: tuple[Layer, ...]
    x: torch.Tensor
    """Word embeddings, and what the model adds to them, shape (tokens, dim), double precision."""
    content: torch.Tensor
    """Shape (tokens,), bool."""
    label: int
    unit: float
    """Median token norm."""
    rounding: float
    """Largest difference of these logits from the model's in single precision."""


@final
class Reader:
    """Reads a victim's weights once, then its texts one by one.

    Raises:
        Unsupported: the victim is no plain classifier, or has unknown modules.
    """

    def __init__(self, victim: Head) -> None:
        self._model: Any = victim.model
        blocks = list(find_blocks(self._model).values())
        with torch.no_grad():
            encoder = all(hasattr(block, "attention") and hasattr(block, "intermediate") for block in blocks)
            decoder = all(hasattr(block, "self_attn") and hasattr(block, "mlp") for block in blocks)
            if encoder == decoder:
                raise Unsupported(f"{_name(blocks[0])}: expected a block of BERT's or Llama's kind")
            self._causal = decoder
            self._blocks = blocks
            self._entry = self._find_entry()
            with _understood(self._model):
                self._body = [each for block in blocks for each in (_decoder if decoder else _encoder)(block)]
                self._before_head, self._out, self._dense = self._read_head()
                self._start = () if decoder else (_norm(self._entry),)

    def _find_entry(self) -> Any:
        """The module that the embeddings enter first once positions are added."""
        if self._causal:
            return self._blocks[0]
        found = [each for name, each in self._model.named_modules() if name.endswith("embeddings.LayerNorm")]
        if len(found) != 1:
            raise Unsupported(f"{type(self._model).__name__}: expected one embeddings.LayerNorm, got {len(found)}")
        return found[0]

    def _read_head(self) -> tuple[tuple[Layer, ...], Linear, Linear | None]:
        """The parts after the blocks: layers, the map to the logits, and the layer before it, with a tanh between."""
        model = self._model
        if self._causal:
            last = next(iter(model.children())).norm
            return (_norm(last), TakeToken(-1)), _linear(model.score), None
        pooler = getattr(getattr(model, model.base_model_prefix), "pooler", None)
        head = model.classifier
        dense, out = (head.dense, head.out_proj) if pooler is None else (pooler.dense, head)
        return (TakeToken(0),), _linear(out), _linear(dense)

    def read(self, batch: EmbeddedBatch) -> ReadText:
        """Returns the one text of a batch.

        Raises:
            Unsupported: the layers give other logits than the model.
        """
        assert len(batch.embeddings) == 1, "one text at a time"
        entering, rotary = self._record(batch)
        embedded = batch.embeddings[0].cpu().double()
        body = (each.turned(rotary) if isinstance(each, _Turning) else each for each in self._body)
        layers = (*self._start, *body, *self._before_head)
        moved = _moved(batch)
        with torch.no_grad():
            expected = torch.cat([batch.logits(each) for each in moved]).cpu().double()
        texts = [each[0].cpu().double() + entering - embedded for each in moved]
        every = self._logits(self._with_head(layers, self._out), texts)
        # The numbers show which row of the last map is which label; names of heads differ.
        rows = (every[:, :, None] - expected[:, None]).abs().amax(dim=0).argmin(dim=0).tolist()
        bias = self._out.bias
        whole = self._with_head(layers, Linear(self._out.weight[rows], None if bias is None else bias[rows]))
        gap = float((every[:, rows] - expected).abs().max())
        if len(set(rows)) < len(rows) or not gap <= TOLERANCE * max(1.0, float(expected.abs().max())):
            raise Unsupported(
                f"{_name(self._model)}: its modules, read as blocks of BERT's or Llama's kind, give logits that "
                f"differ by {gap:.2g} from its own"
            )
        return ReadText(whole, entering, batch.content[0].cpu(), int(batch.labels[0]), batch.unit, gap)

    def _with_head(self, layers: tuple[Layer, ...], out: Linear) -> tuple[Layer, ...]:
        return (*layers, out if self._dense is None else FeedForward(self._dense, ACTIVATIONS["tanh"], out))

    def _logits(self, layers: tuple[Layer, ...], texts: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat([linearise(layers, each)[1] for each in texts])

    def _record(self, batch: EmbeddedBatch) -> tuple[torch.Tensor, Rotary | None]:
        """The input of the entry, and the rotations that the first block receives."""
        kept: list[Any] = []

        def keep(_module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            hidden = arguments[0] if arguments else keywords["hidden_states"]
            kept.append((hidden, keywords.get("position_embeddings")))

        hook = self._entry.register_forward_pre_hook(keep, with_kwargs=True)
        try:
            with torch.no_grad():
                batch.logits(batch.embeddings)
        finally:
            hook.remove()
        if len(kept) != 1 or kept[0][0].shape != batch.embeddings.shape:
            raise Unsupported(f"{_name(self._entry)}: is not called once with one vector per token")
        entering, turns = kept[0]
        rotary = None if turns is None else Rotary(*(each[0].cpu().double() for each in turns))
        return entering[0].cpu().double(), rotary


def _moved(batch: EmbeddedBatch) -> list[torch.Tensor]:
    """The text's embeddings, and others up to a token's norm away."""
    generator = torch.Generator().manual_seed(0)
    shape = batch.embeddings.shape
    noise = [torch.randn(shape, generator=generator).to(batch.embeddings) for _ in range(TRIALS)]
    return [batch.embeddings, *(batch.embeddings + batch.unit * each / shape[-1] ** 0.5 for each in noise)]


@final
@dataclass(frozen=True, slots=True)
class _Turning:
    """A residual branch whose attention rotates by positions, so that it depends on the text's length."""

    norm: Norm
    attention: Attention

    def turned(self, rotary: Rotary | None) -> Residual:
        """Returns the branch for one text."""
        return Residual((self.norm, replace(self.attention, rotary=rotary)))


def _encoder(block: Any) -> list[Any]:
    attend, out = block.attention.self, block.attention.output
    heads = attend.num_attention_heads
    query = _linear(attend.query)
    attention = Attention(
        query, _linear(attend.key), _linear(attend.value), _linear(out.dense), heads,
        (len(query.weight) / heads) ** -0.5,
    )  # fmt: skip
    forward = FeedForward(
        _linear(block.intermediate.dense), _activation(block.intermediate.intermediate_act_fn),
        _linear(block.output.dense),
    )  # fmt: skip
    return [Residual((attention,)), _norm(out.LayerNorm), Residual((forward,)), _norm(block.output.LayerNorm)]


def _decoder(block: Any) -> list[Any]:
    attend, mlp = block.self_attn, block.mlp
    query, key = _linear(attend.q_proj), _linear(attend.k_proj)
    dim = attend.head_dim
    attention = Attention(
        query, key, _linear(attend.v_proj), _linear(attend.o_proj), len(query.weight) // dim,
        float(attend.scaling), causal=True, key_heads=len(key.weight) // dim,
    )  # fmt: skip
    forward = FeedForward(
        _linear(mlp.up_proj), _activation(mlp.act_fn), _linear(mlp.down_proj), gate=_linear(mlp.gate_proj)
    )
    return [
        _Turning(_norm(block.input_layernorm), attention),
        Residual((_norm(block.post_attention_layernorm), forward)),
    ]


def _linear(module: Any) -> Linear:
    if type(module) is not torch.nn.Linear:
        raise Unsupported(f"{_name(module)}: expected a Linear, its adapter merged")
    weight = module.weight.detach().cpu().double()
    bias = None if module.bias is None else module.bias.detach().cpu().double()
    return Linear(weight, bias)


def _norm(module: Any) -> Norm:
    eps = getattr(module, "eps", getattr(module, "variance_epsilon", None))
    if eps is None or getattr(module, "weight", None) is None:
        raise Unsupported(f"{_name(module)}: expected a LayerNorm or an RMSNorm with weights")
    centred, bias = isinstance(module, torch.nn.LayerNorm), getattr(module, "bias", None)
    bias = None if bias is None else bias.detach().cpu().double()
    return Norm(module.weight.detach().cpu().double(), bias, float(eps), centred)


def _activation(module: Any) -> Activation:
    """The known activation that the module computes, recognised by its values."""
    x = torch.linspace(-6, 6, 97, dtype=torch.float64)
    found = module(x)
    for activation in ACTIVATIONS.values():
        if torch.allclose(found, activation.value(x), rtol=0, atol=1e-10):
            return activation
    raise Unsupported(f"{_name(module)}: no bounds of this activation's derivatives are known")


def _name(module: Any) -> str:
    return type(module).__name__


@contextmanager
def _understood(model: Any) -> Iterator[None]:
    """Reports a missing module as Unsupported."""
    try:
        yield
    except AttributeError as error:
        raise Unsupported(f"{_name(model)}: {error}; expected modules named as BERT's or Llama's") from None
