"""The cost of a forward pass: its floating-point operations, and a device's operations per second."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from robustness.errors import CheckpointError, first_line
from robustness.testsets.example import Texts
from robustness.victims.files.checkpoint import Checkpoint
from robustness.victims.files.tokenizers import read_tokenizer
from robustness.victims.heads.labels import Victim
from robustness.victims.loading import Placement

WHOLE_PARAMETERS = 200_000_000
"""Larger models are timed on two of their layers, because all layers are alike."""
TIMED_LAYERS = 2
TIMED_TEXTS = 128


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes of a transformer that determine its operations."""

    parameters: int
    """Parameters in matrices that multiply hidden states: without embeddings, biases and norms."""
    layers: int
    width: int
    """Of the hidden states."""

    def flops(self, tokens: ArrayLike) -> NDArray[np.float64]:
        r"""Returns the operations of a forward pass over texts of `tokens` tokens, with the shape of `tokens`.

        $$2 N T + 4 L d T^2$$: a multiplication and an addition for each of N parameters and T tokens; and, in each of
        L layers, queries times keys and weights times values, 2 d T^2 each. Source: arXiv 2001.08361, section 2.1,
        whose causal attention sees half of the pairs; ours counts all, which is what the kernels of encoders do.

        >>> float(Architecture(parameters=1_000, layers=2, width=10).flops(5))
        12000.0
        """
        lengths = np.asarray(tokens, dtype=np.float64)
        return 2 * self.parameters * lengths + 4 * self.layers * self.width * lengths**2


def read_architecture(config: Any) -> Architecture:
    """Returns the sizes of the model of a transformers config, without creating weights.

    Raises:
        CheckpointError: a config of no known model, or without layers and width.
    """
    from transformers import AutoModel

    try:
        with torch.device("meta"):
            model = AutoModel.from_config(config, trust_remote_code=False)
        embedding = {id(p) for m in model.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()}
        count = sum(p.numel() for p in model.parameters() if p.ndim > 1 and id(p) not in embedding)
        return Architecture(count, int(config.num_hidden_layers), int(config.hidden_size))
    except (ValueError, AttributeError, TypeError) as error:
        reason = first_line(error)
        raise CheckpointError(
            f"config of {getattr(config, 'model_type', 'a model')}: no cost is known: {reason}"
        ) from None


def read_config(checkpoint: Checkpoint) -> tuple[Any, Any]:
    """Returns a checkpoint's transformers config and tokenizer; raises CheckpointError if one is unreadable."""
    from transformers import AutoConfig

    has_own = (checkpoint.folder / "tokenizer_config.json").is_file()
    folder: Path = checkpoint.folder if has_own else checkpoint.base
    try:
        config = AutoConfig.from_pretrained(checkpoint.base, trust_remote_code=False)
        return config, read_tokenizer(folder)
    except Exception as error:  # transformers and tokenizers raise errors of many classes
        reason = first_line(error)
        raise CheckpointError(f"checkpoint {checkpoint.name}: config or tokenizer cannot be read: {reason}") from None


def measure_rate(
    config: Any,
    tokenizer: Any,
    texts: Sequence[Texts],
    placement: Placement,
    *,
    seconds: float = 2.0,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Returns the operations per second of a device that scores such texts, including tokenising.

    Times a model of this config with random weights for about `seconds`; for a large model two layers.

    Args:
        config: transformers config.
        tokenizer: the checkpoint's.
        texts: similar to the texts of the run.
        placement: device and dtype.
        seconds: minimum; a batch is always finished.
        clock: tells the time in seconds.
    """
    from transformers import AutoModelForSequenceClassification

    config = deepcopy(config)
    if read_architecture(config).parameters > WHOLE_PARAMETERS:
        config.num_hidden_layers = TIMED_LAYERS
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:TIMED_LAYERS]
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    config.pad_token_id = tokenizer.pad_token_id
    architecture = read_architecture(config)
    with torch.random.fork_rng(), torch.device(placement.device):  # keeps the state of other random draws
        model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    victim = Victim(model.to(placement.dtype).eval(), tokenizer, range(config.num_labels))
    some = (list(texts) * TIMED_TEXTS)[:TIMED_TEXTS]
    lengths = [len(ids) for ids in victim._encode(some)["input_ids"]]
    victim.scores(some)  # warm-up: memory, kernels, the size of batches
    started, rounds = clock(), 0
    while rounds == 0 or clock() - started < seconds:
        victim.scores(some)
        rounds += 1
    return rounds * float(architecture.flops(lengths).sum()) / max(1e-9, clock() - started)


def describe_device(placement: Placement) -> str:
    """Names a device and its precision."""
    dtype = str(placement.dtype).removeprefix("torch.")
    if placement.device.type == "cuda":
        return f"{torch.cuda.get_device_name(placement.device)}, {dtype}"
    return f"cpu, {torch.get_num_threads()} threads, {dtype}"
