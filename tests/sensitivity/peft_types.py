"""How each PEFT type of the installed peft is configured on a tiny model."""

from __future__ import annotations

from typing import Any

from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from robustness.tuners.layers import FormConfig
from robustness.tuners.mpc import MpcConfig
from robustness.tuners.registration import FORM_TYPES, MPC_TYPES, register_tuners

register_tuners()

OPTIONS: dict[str, dict[str, Any]] = {
    "ADALORA": {"total_step": 10, "init_r": 2, "target_r": 2},
    "ADAMSS": {"r": 4, "num_subspaces": 2, "subspace_rank": 1},
    "BOFT": {"boft_block_size": 2},
    "C3A": {"block_size": 2},
    "DEFT": {"r": 2},
    "DELORA": {"r": 2},
    "FOURIERFT": {"n_frequency": 5},
    "GLORA": {"r": 2},
    "GRALORA": {"r": 2, "gralora_k": 2},
    "HIRA": {"r": 2},
    "HRA": {"r": 2},
    "IA3": {"feedforward_modules": []},
    "LOHA": {"r": 1},
    "LOKR": {"r": 1, "decompose_both": True},
    "LORA": {"r": 2},
    "MISS": {"r": 2},
    "OFT": {"oft_block_size": 2, "use_cayley_neumann": False},
    "OSF": {"effective_rank": 2},
    "PEANUT": {"r": 2},
    "PSOFT": {"r": 2},
    "PVERA": {"r": 3},
    "RANDLORA": {"r": 2},
    "ROAD": {"group_size": 2},
    "SHIRA": {"r": 1},
    "SUPERTUNING": {"sparsity": 0.6},
    "TINYLORA": {"r": 2, "u": 3},
    "TRAINABLE_TOKENS": {"token_indices": [1, 3]},
    "UNILORA": {"r": 2, "theta_d_length": 7},
    "VBLORA": {"r": 2, "num_vectors": 6, "vector_length": 2, "topk": 2},
    "VERA": {"r": 3},
    "WAVEFT": {"n_frequency": 5},
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "dora": ("LORA", {"use_dora": True}),
    "rslora": ("LORA", {"use_rslora": True, "lora_alpha": 3}),
    "lora-with-bias": ("LORA", {"lora_bias": True}),
    "ia3-of-inputs": ("IA3", {"feedforward_modules": ["target"]}),
    "road-2": ("ROAD", {"variant": "road_2"}),
    "lokr-of-factors": ("LOKR", {"decompose_factor": 2}),
}

PROMPTS = {"PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING"}
"""Types that put learnt vectors before the text."""
NO_WEIGHT = {
    "PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "ADAPTION_PROMPT", "CPT", "CARTRIDGE",
    "XLORA", "SHADOW", "LILY", "POLY", "MPC_N",
}  # fmt: skip
"""Types that plain peft itself does not merge."""

KINDS = [*(each.value for each in PeftType if each.value not in NO_WEIGHT), *VARIANTS]
"""Types, and variants of types, that change weights."""


def config_of(kind: str, targets: list[str] | None = None, **more: Any) -> Any:
    """A configuration of the type, or of the variant of one, for some modules."""
    kind, extra = VARIANTS.get(kind, (kind, {}))
    if kind in PROMPTS:
        return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)](num_virtual_tokens=2, **more)
    given = {"target_modules": targets, **OPTIONS.get(kind, {}), **extra, **more}
    if kind in FORM_TYPES:
        return FormConfig(peft_type=kind, **given)
    if kind in MPC_TYPES:
        return MpcConfig(peft_type=kind, r=2, **given)
    return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)](**given)
