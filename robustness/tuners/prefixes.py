"""Prefix tuning on models whose argument for a cache has had two names."""

from __future__ import annotations

import inspect
from typing import Any


def name_cache(model: Any) -> None:
    """Lets peft hand a learnt prefix to a model; other adapters, and models that name it as peft does, are left.

    peft (0.21) asks the signature of the model's forward, then that of the encoder in it, for `past_key_values`, and
    refuses to run where neither has it; transformers 5.24 names that argument `cache`. The signature is made to say
    both, the call to say the new one.

    Args:
        model: a PeftModel.
    """
    config = model.active_peft_config
    if config.peft_type not in ("PREFIX_TUNING", "CARTRIDGE") or not hasattr(model, "transformer_backbone_name"):
        return
    for module in (model.base_model, model.base_model.get_submodule(model.transformer_backbone_name)):
        forward = type(module).forward
        parameters = dict(inspect.signature(forward).parameters)
        if "cache" not in parameters:
            continue
        cache = inspect.Parameter("past_key_values", inspect.Parameter.KEYWORD_ONLY, default=None)
        parameters["past_key_values"] = cache
        ordered = sorted(parameters.values(), key=lambda parameter: parameter.kind)  # **kwargs come last
        forward.__signature__ = inspect.Signature(ordered)
        module.register_forward_pre_hook(_rename, with_kwargs=True)


def _rename(_: Any, args: tuple[Any, ...], inputs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if "past_key_values" in inputs:
        inputs = {**inputs, "cache": inputs["past_key_values"]}
        del inputs["past_key_values"]
    return args, inputs
