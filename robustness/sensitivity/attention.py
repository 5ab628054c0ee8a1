"""The attention kernel that has second derivatives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from robustness.sensitivity.probe import Unsupported
from robustness.victims.heads.embedded_batch import EmbeddedBatch
from robustness.victims.heads.head import Head

SCORE_TOLERANCE = 1e-5
"""Allowed difference of logits under this attention kernel, relative to the largest."""


@contextmanager
def twice_differentiable(victim: Head, batch: EmbeddedBatch) -> Iterator[None]:
    """Computes attention by the plain formula, which has second derivatives; fused kernels lack them.

    Raises:
        Unsupported: the logits differ under it: the probe would measure another function.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with torch.no_grad():
        before = batch.logits(batch.embeddings)
    with sdpa_kernel(SDPBackend.MATH):
        with torch.no_grad():
            after = batch.logits(batch.embeddings)
        difference = float((after - before).abs().max() / before.abs().max().clamp_min(1.0))
        if not difference <= SCORE_TOLERANCE:
            raise Unsupported(
                f"model {type(victim.model).__name__}: its logits differ by {difference:.2g} under the attention "
                "kernel that has second derivatives; load it with attn_implementation='eager'"
            )
        yield
