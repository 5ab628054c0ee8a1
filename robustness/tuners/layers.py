"""Frozen layers reshaped by a form, in the structure of peft's layers and models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, check_adapters_to_merge
from peft.utils import PeftType
from torch import nn

from robustness.tuners.forms import FORMS, Form

PREFIX = "form_"


@dataclass
class FormConfig(PeftConfig):  # type: ignore[misc]  # peft is untyped for us
    """The layers to reshape; `peft_type` names the form."""

    target_modules: list[str] | str | None = field(default=None)
    exclude_modules: list[str] | str | None = field(default=None)
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        given: Any = self.peft_type
        self.peft_type: Any = PeftType(given)


class FormLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """A frozen layer with a form's parameters for each adapter."""

    # From BaseTunerLayer, which is untyped for us.
    get_base_layer: Callable[[], nn.Module]
    set_adapter: Callable[..., None]
    active_adapters: list[str]
    disable_adapters: bool
    merged: bool
    _move_adapter_to_device_of_base_layer: Callable[[str], None]

    def __init__(self, base_layer: nn.Module, form: Form, adapter_name: str, *, inference_mode: bool) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.merged_adapters: list[str] = []
        self.adapter_layer_names = tuple(form.start(base_layer))
        self._form = form
        self._unmerged: dict[str, torch.Tensor] = {}
        for name, factor in form.factors(base_layer).items():
            self.register_buffer(f"factor_{name}", factor, persistent=False)
        for name in self.adapter_layer_names:
            setattr(self, name, nn.ParameterDict())
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, inference_mode=inference_mode)

    def update_layer(self, adapter_name: str, *, inference_mode: bool) -> None:
        """Adds an adapter that changes nothing yet."""
        base = self.get_base_layer()
        for name, start in self._form.start(base).items():
            getattr(self, name)[adapter_name] = nn.Parameter(start)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=inference_mode)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Writes the adapter into the layer's weight or bias.

        Raises:
            ValueError: several adapters are given, or (`safe_merge`) the result is not finite.
        """
        names = check_adapters_to_merge(self, adapter_names)
        if not names:
            return
        if len(names) + len(self.merged_adapters) > 1:
            raise ValueError("a layer is reshaped by one adapter at a time: unmerge the other first")
        base = self.get_base_layer()
        with torch.no_grad():
            merged = self._form.merged(base, self._parameters_of(names[0]), self._factors())
        if safe_merge and not all(bool(torch.isfinite(tensor).all()) for tensor in merged.values()):
            raise ValueError(f"adapter {names[0]} merges to numbers that are not finite")
        for name, tensor in merged.items():
            self._unmerged[name] = getattr(base, name).data
            getattr(base, name).data = tensor.detach()
        self.merged_adapters.append(names[0])

    def unmerge(self) -> None:
        """Restores the previous values exactly."""
        for name, tensor in self._unmerged.items():
            getattr(self.get_base_layer(), name).data = tensor
        self._unmerged = {}
        self.merged_adapters = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The reshaped layer's output, shape (..., out)."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        adapters = () if self.disable_adapters or self.merged else self._present_adapters()
        base = self.get_base_layer()
        if not adapters:
            answer: torch.Tensor = base(x)
            return answer
        if len(adapters) > 1:
            raise ValueError("a layer is reshaped by one adapter at a time")
        return self._form.apply(base, self._parameters_of(adapters[0]), self._factors(), x)

    def _present_adapters(self) -> Sequence[str]:
        first = getattr(self, self.adapter_layer_names[0])
        return [name for name in self.active_adapters if name in first]

    def _parameters_of(self, adapter: str) -> dict[str, torch.Tensor]:
        return {name: getattr(self, name)[adapter] for name in self.adapter_layer_names}

    def _factors(self) -> dict[str, torch.Tensor]:
        return {name.removeprefix("factor_"): buffer for name, buffer in self.named_buffers(recurse=False)}

    def __repr__(self) -> str:
        return "form." + super().__repr__()


class FormModel(BaseTuner):  # type: ignore[misc]
    """A model with some reshaped layers."""

    prefix = PREFIX
    tuner_layer_cls = FormLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012  # peft reads it as a class attribute

    def _create_and_replace(
        self,
        config: FormConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **_unused: Any,
    ) -> None:
        if isinstance(target, FormLayer):
            target.update_layer(adapter_name, inference_mode=config.inference_mode)
            return
        form = FORMS[str(config.peft_type.value)]
        try:
            layer = FormLayer(target, form, adapter_name, inference_mode=config.inference_mode)
        except ValueError as error:
            raise ValueError(f"{config.peft_type.value}: target module {current_key} does not fit: {error}") from None
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)
