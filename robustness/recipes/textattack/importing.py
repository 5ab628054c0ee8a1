"""Imports TextAttack without side effects: replaces a missing flair, and restores logging."""

from __future__ import annotations

import importlib.util
import logging.config
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from robustness.errors import AttackError

INSTALL = "pip install 'peft-robustness[textattack]' && pip install --no-deps textattack==0.3.11"
FLAIR_INSTALL = "pip install 'peft-robustness[flair]'"
FLAIR_MISSING = f"flair, whose tagger it asks, is not installed; run: {FLAIR_INSTALL} (with transformers below 5)"


class Missing:
    """Takes the place of a class of flair: TextAttack inherits from one and keeps others, which fail when called."""

    def __init__(self, *_: object, **__: object) -> None:
        raise AttackError(FLAIR_MISSING)

    @classmethod
    def load(cls, name: str) -> Missing:
        """Raises AttackError: there is no tagger to load."""
        return cls(name)


def has_flair() -> bool:
    """Whether the real flair can be imported."""
    return importlib.util.find_spec("flair") is not None


@contextmanager
def importing_textattack() -> Iterator[None]:
    """Lets TextAttack be imported; afterwards flair is as absent for everyone else as before."""
    with _flair_or_stand_in(), _keep_loggers():
        yield


@contextmanager
def _flair_or_stand_in() -> Iterator[None]:
    if "flair" in sys.modules or has_flair():
        yield
        return
    flair, data, models = (ModuleType(name) for name in ("flair", "flair.data", "flair.models"))
    vars(data).update(Tokenizer=Missing, Sentence=Missing)
    vars(models).update(SequenceTagger=Missing)
    vars(flair).update(data=data, models=models)
    stand_ins = {module.__name__: module for module in (flair, data, models)}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


@contextmanager
def _keep_loggers() -> Iterator[None]:
    """TextAttack configures logging from scratch, which would silence every logger there is."""
    configure = logging.config.dictConfig

    def add(config: Any) -> None:
        configure({"disable_existing_loggers": False, **config})

    logging.config.dictConfig = add
    try:
        yield
    finally:
        logging.config.dictConfig = configure
        logging.getLogger("jieba").setLevel(logging.WARNING)  # it would tell of its dictionary
