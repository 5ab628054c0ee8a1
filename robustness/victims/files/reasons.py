"""Explains why a library cannot load a folder's files, and which line to mend."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from robustness.definitions.naming import nearest
from robustness.errors import CheckpointError, first_line, shorten
from robustness.pointers import explain_pointer
from robustness.victims.files.checkpoint import ADAPTER_CONFIG, SAFE_FILES, read_json

ATTENTION = ("attn_implementation", "_attn_implementation")
COMPILED_ATTENTION = "flex_attention"
"""Compiled for each length of text, which takes minutes."""


def loading_reason(folder: str | Path, error: Exception) -> str:
    """Returns the fault of a folder that the libraries cannot load, and the remedy if known.

    Args:
        folder: a model's folder; a hub id has no files to inspect.
        error: a library's error.
    """
    for pattern in SAFE_FILES:
        for file in sorted(Path(folder).glob(pattern)):
            if pointer := explain_pointer(file):
                return f"{file.name} {pointer}"
    try:
        config = read_json(Path(folder) / "config.json")
    except CheckpointError:
        config = {}
    reasons = (_padding(config), _unknown_word(config, error), _attention(config, error), _quantised(config, error))
    return next(filter(None, reasons), first_line(error))


def refuse_compiled_attention(name: str, folder: Path) -> None:
    """Raises CheckpointError if a model's config asks for attention that is compiled for each length of text.

    Args:
        name: "checkpoint" or "base" and the name.
        folder: of the model.
    """
    from transformers import AutoConfig

    if not (folder / "config.json").is_file():
        return
    config = read_json(folder / "config.json")
    key = next((key for key in ATTENTION if config.get(key) == COMPILED_ATTENTION), None)
    if key is None:
        return
    try:
        settings = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception:  # of many classes; an unreadable config is refused when the model is built
        return
    if getattr(settings, "_attn_implementation", None) == COMPILED_ATTENTION:  # transformers 4 reads neither key
        raise CheckpointError(
            f"{name}: {folder / 'config.json'}: {key} is {COMPILED_ATTENTION!r}, which is compiled for each length "
            "of text and takes minutes; take it out, or set it to 'sdpa' or 'eager', which compute the same"
        )


def adapter_reason(folder: Path) -> str:
    """Returns a message about a setting in adapter_config.json that should be a number, by peft's types; or nothing.

    peft itself computes with any value and raises later.
    """
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    config = read_json(folder / ADAPTER_CONFIG)
    kind: Any = PEFT_TYPE_TO_CONFIG_MAPPING.get(config.get("peft_type"))
    for key, hint in get_type_hints(kind).items() if kind else ():
        value = config.get(key)
        is_number = {*(get_args(hint) or (hint,))} - {NoneType} <= {int, float}
        if key in config and is_number and not isinstance(value, int | float) and value != getattr(kind, key, None):
            return (
                f"{folder / ADAPTER_CONFIG}: {key} is {shorten(repr(value))}; expected a number; put back the file "
                "that was saved with the weights"
            )
    return ""


def _padding(config: Mapping[str, Any]) -> str:
    padding, words = config.get("pad_token_id"), config.get("vocab_size")
    if isinstance(padding, int) and isinstance(words, int) and padding >= words:
        return f"its config.json pads with token {padding} of {words}: set pad_token_id to one below {words}"
    return ""


def _unknown_word(config: Mapping[str, Any], error: Exception) -> str:
    """A word of the config that transformers does not know, such as an activation."""
    from transformers import __version__
    from transformers.activations import ACT2FN

    word = error.args[0] if isinstance(error, KeyError) and error.args else None
    key = next((key for key, value in config.items() if isinstance(word, str) and value == word), None)
    if key is None:
        return ""
    known = nearest(str(word), ACT2FN) if "act" in key else ""
    return f"{key} in its config.json is {word!r}, which transformers {__version__} does not know{known}"


def _attention(config: Mapping[str, Any], error: Exception) -> str:
    key = next((key for key in ATTENTION if isinstance(config.get(key), str)), None)
    if key is None or not (isinstance(error, ImportError) or _plain(config[key]) in _plain(str(error))):
        return ""
    return (
        f"{key} in its config.json is {shorten(repr(config[key]))}, which is not available here: "
        f"{first_line(error).rstrip('.')}; take it out, or set it to 'sdpa' or 'eager', which compute the same"
    )


def _plain(words: str) -> str:
    return re.sub(r"[^a-z0-9]", "", words.lower())


def _quantised(config: Mapping[str, Any], error: Exception) -> str:
    quantised = config.get("quantization_config")
    if not isinstance(quantised, dict):
        return ""
    method = quantised.get("quant_method", "a library")
    missing = error.name if isinstance(error, PackageNotFoundError | ModuleNotFoundError) else None
    reason = f"{missing} is not installed: pip install {missing}" if missing else first_line(error).rstrip(".")
    return f"its config.json says that {method} quantised it: {reason}; or use the unquantised model"
