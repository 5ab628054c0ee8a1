"""Weights that come out the same on every machine: drawn as whole thousandths, or fitted by ridge and rounded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

THOUSANDTH = 1_000
HUNDREDTH = 2
"""Decimals of a fitted head."""
PENALTY = 0.1
"""Of the ridge regression."""
SHARPNESS = 4.0
"""Of the logits: a label's targets are this much above and below 0."""

Floats = NDArray[np.float64]
Labelled = tuple[str, Sequence[str], int]
"""Id, texts and label of a row."""
Question = tuple[str, str, int, str]
"""Question, paragraph, where its answer begins, and the answer."""


def draw(shape: Sequence[int], largest: int, rng: np.random.Generator) -> torch.Tensor:
    """Returns whole thousandths between -`largest` and `largest` of them, which single precision keeps alike."""
    return torch.from_numpy(rng.integers(-largest, largest + 1, size=tuple(shape)) / THOUSANDTH).float()


@torch.no_grad()
def draw_weights(model: torch.nn.Module, seed: int) -> None:
    """Draws every matrix anew, in the order of the names; vectors keep their initial ones and zeros."""
    rng = np.random.default_rng(seed)
    for _, parameter in sorted(model.named_parameters()):
        if parameter.dim() > 1:
            parameter.copy_(draw(parameter.shape, int(THOUSANDTH * 2 / parameter.shape[-1] ** 0.5), rng))


@torch.no_grad()
def add_lora(model: Any, *, seed: int, targets: Sequence[str], head: str | None, largest: int) -> Any:
    """Returns the model under a LoRA of rank 4 whose matrices are drawn; a head is saved with it."""
    saved = {"modules_to_save": [head]} if head else {"task_type": "CAUSAL_LM"}
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=list(targets), **saved))
    rng = np.random.default_rng(seed)
    for name, parameter in sorted(adapted.named_parameters()):
        if "lora_" in name:
            parameter.copy_(draw(parameter.shape, largest, rng))
    return adapted.eval()


def fit_ridge(features: Floats, targets: Floats, penalty: float = PENALTY) -> tuple[Floats, Floats]:
    """Returns weights, shape (targets, features), and biases, rounded, of ridge regression in double precision."""
    centre, level = features.mean(axis=0), targets.mean(axis=0)
    centred = features - centre
    square = centred.T @ centred + penalty * np.eye(features.shape[1])
    weights = np.linalg.solve(square, centred.T @ (targets - level)).T
    return weights.round(HUNDREDTH), (level - weights @ centre).round(HUNDREDTH)


def sign_targets(labels: Sequence[int], count: int) -> Floats:
    """Returns for each row what its labels' logits should be, shape (rows, labels)."""
    return SHARPNESS * (2 * np.eye(count)[list(labels)] - 1)


@torch.no_grad()
def set_head(head: torch.nn.Linear, weights: Floats, biases: Floats) -> None:
    """Writes a fitted head into its layer."""
    head.weight.copy_(torch.from_numpy(weights))
    head.bias.copy_(torch.from_numpy(biases))


@torch.inference_mode()
def fit_classifier(model: Any, tokenizer: Any, rows: Sequence[Labelled], penalty: float = PENALTY) -> None:
    """Fits the head of a BERT for sequences, adapted or not, on its pooled outputs."""
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    features = [
        inner.bert(**tokenizer(*texts, truncation=True, return_tensors="pt")).pooler_output[0].double().numpy()
        for _, texts, _ in rows
    ]
    targets = sign_targets([label for _, _, label in rows], inner.config.num_labels)
    fitted = fit_ridge(np.stack(features), targets, penalty)
    set_head(_layer(inner.classifier), *fitted)


@torch.inference_mode()
def fit_spans(model: Any, tokenizer: Any, questions: Sequence[Question], penalty: float = PENALTY) -> None:
    """Fits the head of a BERT for spans, adapted or not, on the tokens of paragraphs."""
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    features, targets = [], []
    for question, context, start, answer in questions:
        encoded = tokenizer(question, context, return_tensors="pt")
        states = inner.bert(**encoded).last_hidden_state[0].double().numpy()
        bounds = start, start + len(answer) - 1
        tokens = [encoded.char_to_token(0, place, sequence_index=1) for place in bounds]
        marks = np.zeros((len(states), 2))
        marks[tokens, [0, 1]] = SHARPNESS
        allowed = [part == 1 for part in encoded.sequence_ids(0)]
        features.append(states[allowed])
        targets.append(marks[allowed])
    set_head(_layer(inner.qa_outputs), *fit_ridge(np.concatenate(features), np.concatenate(targets), penalty))


def _layer(head: Any) -> torch.nn.Linear:
    """The layer itself or, where an adapter saves it, the copy that is in use."""
    layer: torch.nn.Linear = head.modules_to_save["default"] if hasattr(head, "modules_to_save") else head
    return layer


def digest_tensors(folder: Path) -> str:
    """Returns 16 hexadecimal digits of all tensors in a folder, by name."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        for name, tensor in sorted(load_file(file).items()):
            digest.update(name.encode() + str(tensor.dtype).encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
