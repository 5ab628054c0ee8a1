"""The kernels of a model: unchanged or compiled."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, final

import torch

from robustness.errors import first_line

logger = logging.getLogger(__name__)


@final
class Kernels:
    """A model's forward pass. Gradients use the uncompiled model.

    Args:
        model: the model to run.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._call = model

    def run(self, **inputs: torch.Tensor) -> Any:
        """Runs the model, or its compiled form if no gradient is needed."""
        return (self._model if torch.is_grad_enabled() else self._call)(**inputs)

    def compile(self, ask: Callable[[int], object]) -> str | None:
        """Compiles faster kernels by torch.compile; falls back to the uncompiled model.

        Args:
            ask: makes the victim answer this many texts.

        Returns:
            The reason on failure, or None.
        """
        try:
            self._call = torch.compile(self._model, dynamic=True)
            with torch.inference_mode():
                for rows in (2, 3):  # the second size is compiled for all sizes to come
                    ask(rows)
        except Exception as error:  # backends raise their own errors
            failure = f"--compile: torch.compile failed, the model runs uncompiled: {first_line(error)}"
            logger.warning(failure)
            self._call = self._model
            return failure
        return None

    def describe(self) -> list[str]:
        """Returns the computation's properties: device, precision, kernels."""
        parameters = list(self._model.parameters())
        dtypes = sorted({str(parameter.dtype) for parameter in parameters})
        kernels = "as they are" if self._call is self._model else "compiled"
        return [parameters[0].device.type, *dtypes, kernels]
