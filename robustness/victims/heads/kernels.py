"""The kernels that a model answers with: as they are, or compiled."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, final

import torch

from robustness.errors import first_line

logger = logging.getLogger(__name__)


@final
class Kernels:
    """A model's forward pass. Gradients are taken through the model as it was.

    Args:
        model: what is run.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._call = model

    def run(self, **inputs: torch.Tensor) -> Any:
        """Runs the model, or its compiled form where no gradient is wanted."""
        return (self._model if torch.is_grad_enabled() else self._call)(**inputs)

    def compile(self, ask: Callable[[int], object]) -> str | None:
        """Has torch.compile make faster kernels; a model that it cannot compile is used as it is.

        Args:
            ask: has the victim answer so many texts.

        Returns:
            Why there are no faster ones, or None.
        """
        try:
            self._call = torch.compile(self._model, dynamic=True)
            with torch.inference_mode():
                for rows in (2, 3):  # the second size is compiled for all sizes to come
                    ask(rows)
        except Exception as error:  # backends raise kinds of their own
            failure = f"--compile: torch.compile failed, the model is used as it is: {first_line(error)}"
            logger.warning(failure)
            self._call = self._model
            return failure
        return None

    def describe(self) -> list[str]:
        """Returns what answers depend on: device, precision, kernels."""
        parameters = list(self._model.parameters())
        dtypes = sorted({str(parameter.dtype) for parameter in parameters})
        kernels = "as they are" if self._call is self._model else "compiled"
        return [parameters[0].device.type, *dtypes, kernels]
