"""Prefix tuning on encoders, whose argument for a cache has had two names."""

from __future__ import annotations

import inspect
from typing import Any


def name_cache(model: Any) -> None:
    """Lets peft hand a learnt prefix to an encoder; other adapters, and encoders that name it as peft does, are left.

    peft (0.21) asks the signature of the encoder's forward for `past_key_values`, and refuses to run where it is not;
    transformers 5.24 names that argument `cache`. The signature is made to say both, the call to say the new one.

    Args:
        model: a PeftModel.
    """
    if model.active_peft_config.peft_type != "PREFIX_TUNING" or not hasattr(model, "transformer_backbone_name"):
        return
    encoder = model.base_model.get_submodule(model.transformer_backbone_name)
    forward = type(encoder).forward
    parameters = dict(inspect.signature(forward).parameters)
    if "cache" not in parameters:
        return
    parameters["past_key_values"] = inspect.Parameter("past_key_values", inspect.Parameter.KEYWORD_ONLY, default=None)
    ordered = sorted(parameters.values(), key=lambda parameter: parameter.kind)  # **kwargs come last
    forward.__signature__ = inspect.Signature(ordered)
    encoder.register_forward_pre_hook(_rename, with_kwargs=True)


def _rename(_: Any, args: tuple[Any, ...], inputs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if "past_key_values" in inputs:
        inputs = {**inputs, "cache": inputs["past_key_values"]}
        del inputs["past_key_values"]
    return args, inputs
