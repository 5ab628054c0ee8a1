"""Libraries made quiet, in a process whose user is told what matters by this package."""

from __future__ import annotations

import logging
import os
import warnings

LIBRARIES = r"(accelerate|datasets|huggingface_hub|peft|torch|transformers)\b"
"""Whose warnings are for who calls them: this package."""


def quieten_notices() -> None:
    """Turns off what libraries say as they are imported; imports none of them."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", module=LIBRARIES)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # of faster kernels that the hub would have


def quieten_libraries() -> None:
    """Turns off bars and notices that would drown ours; warnings about results go to run.json."""
    quieten_notices()
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
