"""LoRA under a matrix pattern constraint (arXiv 2407.05417): MPC_o, MPC_d and MPC_n."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from peft import LoraConfig, LoraModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.utils import PeftType
from torch import nn
from transformers.pytorch_utils import Conv1D


@dataclass
class MpcConfig(LoraConfig):  # type: ignore[misc]  # peft is untyped for us
    """LoRA's own configuration, and the weight of the constraint in the loss; `peft_type` names the constraint."""

    mpc_weight: float = field(default=0.0)

    def __post_init__(self) -> None:
        given: Any = self.peft_type  # LoRA's own __post_init__ overwrites it
        kind = PeftType(given)
        super().__post_init__()
        self.peft_type: Any = kind
        if kind.value == "MPC_N":
            self._register_custom_module({nn.Linear: NonlinearLayer, Conv1D: NonlinearLayer})


def constraint_penalty(a: torch.Tensor, b: torch.Tensor, kind: str) -> torch.Tensor:
    """The penalty on one update B A, with A of shape (r, in) and B of shape (out, r), as torch stores them.

    MPC_O: |A At - I|^2 + |Bt B - I|^2. MPC_D: |A At - I|^2 + |Bt B - diag(Bt B)|^2. Frobenius norms.

    >>> a = torch.eye(2, 3)
    >>> b = 2 * torch.eye(4, 2)
    >>> constraint_penalty(a, b, "MPC_O").item(), constraint_penalty(a, b, "MPC_D").item()
    (18.0, 0.0)
    """
    identity = torch.eye(a.shape[0], dtype=a.dtype, device=a.device)
    gram = b.T @ b
    wanted = identity if kind == "MPC_O" else torch.diag(torch.diagonal(gram))
    return (a @ a.T - identity).square().sum() + (gram - wanted).square().sum()


class NonlinearLayer(LoraLinear):  # type: ignore[misc]
    """x W + relu(x A) B: its update depends on the input and cannot be merged."""

    def forward(self, x: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        """The layer's output, shape (..., out)."""
        answer: torch.Tensor = self.base_layer(x, *arguments, **options)
        if self.disable_adapters:
            return answer
        for adapter in self.active_adapters:
            if adapter in self.lora_A:
                a, b = self.lora_A[adapter], self.lora_B[adapter]
                hidden = torch.relu(a(self.lora_dropout[adapter](x.to(a.weight.dtype))))
                answer = answer + (b(hidden) * self.scaling[adapter]).to(answer.dtype)
        return answer

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:  # noqa: ARG002
        """Refused, because no weight has the same effect."""
        raise ValueError("MPC_N puts a nonlinearity into the update: it cannot be merged")


class MpcModel(LoraModel):  # type: ignore[misc]
    """A LoRA model that adds the mean penalty of its updates to the training loss."""

    def forward(self, *arguments: Any, **options: Any) -> Any:
        """The model's own outputs."""
        outputs = self.model.forward(*arguments, **options)
        if self.training and isinstance(getattr(outputs, "loss", None), torch.Tensor):
            penalties = list(self._penalties())
            if penalties:
                outputs.loss = outputs.loss + torch.stack(penalties).mean()
        return outputs

    def _penalties(self) -> Any:
        for adapter in self.active_adapters:
            config = self.peft_config[adapter]
            if config.mpc_weight == 0 or config.peft_type.value == "MPC_N":
                continue
            for layer in self.model.modules():
                if isinstance(layer, LoraLayer) and adapter in layer.lora_A:
                    a, b = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
                    yield config.mpc_weight * constraint_penalty(a, b, config.peft_type.value)
