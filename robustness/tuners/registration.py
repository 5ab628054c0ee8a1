"""Makes the peft library know this package's methods."""

from __future__ import annotations

FORM_TYPES = ("SSL", "SSB", "SAM_PARSER", "SVDIFF", "BITFIT")
MPC_TYPES = ("MPC_O", "MPC_D", "MPC_N")


def register_tuners() -> None:
    """Registers missing methods by `peft.utils.register_peft_method`; a second call does nothing."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType, register_peft_method

    from robustness.tuners.layers import PREFIX, FormConfig, FormModel
    from robustness.tuners.mpc import MpcConfig, MpcModel

    for names, config, model, prefix in (
        (FORM_TYPES, FormConfig, FormModel, PREFIX),
        (MPC_TYPES, MpcConfig, MpcModel, "lora_"),
    ):
        for name in names:
            if name not in PeftType.__members__:
                _add_peft_type(name)
            if PeftType(name) not in PEFT_TYPE_TO_CONFIG_MAPPING:
                register_peft_method(name=name.lower(), config_cls=config, model_cls=model, prefix=prefix)


def _add_peft_type(name: str) -> None:
    """The library registers only methods in its enumeration, and Python's enumerations are closed."""
    from peft.utils import PeftType

    member = str.__new__(PeftType, name)
    member._name_ = name
    member._value_ = name
    type.__setattr__(PeftType, name, member)
    PeftType._member_names_.append(name)
    PeftType._member_map_[name] = member
    PeftType._value2member_map_[name] = member
