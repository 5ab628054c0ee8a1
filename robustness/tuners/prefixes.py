"""Prefix tuning's cache argument, which transformers has renamed."""

from __future__ import annotations

import inspect
from typing import Any


def name_cache(model: Any) -> None:
    """Lets peft pass a learnt prefix to a model; does not change other adapters, or models with peft's name for it.

    peft (0.21) looks for `past_key_values` in the signatures of a model and its encoder. Without it, peft refuses to
    run or takes a wrong path. transformers 5.24 names this argument `cache`. The patched signatures have both names,
    and calls use the new one.

    Args:
        model: a PeftModel.
    """
    if not model.active_peft_config.is_prompt_learning:
        return
    inner = getattr(model, "transformer_backbone_name", None)
    for module in (model.base_model, *([model.base_model.get_submodule(inner)] if inner else [])):
        forward = type(module).forward
        parameters = dict(inspect.signature(forward).parameters)
        if "cache" not in parameters:
            continue
        old = inspect.Parameter("past_key_values", inspect.Parameter.KEYWORD_ONLY, default=None)
        ordered = sorted((parameters | {old.name: old}).values(), key=lambda parameter: parameter.kind)
        forward.__signature__ = inspect.Signature(ordered)  # **kwargs come last
        module.register_forward_pre_hook(_rename, with_kwargs=True)


def _rename(_: Any, args: tuple[Any, ...], inputs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if "past_key_values" in inputs:
        inputs = {**inputs, "cache": inputs["past_key_values"]}
        del inputs["past_key_values"]
    return args, inputs
