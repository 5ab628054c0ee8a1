"""The gate: conditions for comparing a checkpoint with another."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch

from robustness.errors import CheckpointError, RobustnessError, first_line
from robustness.tasks.task import Task
from robustness.testsets.example import Example, Texts
from robustness.victims.batches import recover_memory
from robustness.victims.files.bases import check_base, check_precision
from robustness.victims.files.changes import BASE, LINEAR_PROBE, UNRELATED, Change, read_change
from robustness.victims.files.checkpoint import Checkpoint
from robustness.victims.files.quantised import count_numbers
from robustness.victims.heads.head import Head
from robustness.victims.heads.kinds import head_remedy, looks_back
from robustness.victims.heads.labels import Scores
from robustness.victims.inputs import accepted_inputs, longest_text, max_tokens
from robustness.victims.isolation import Fault, Isolation, VictimGoneError
from robustness.victims.label_maps import advise_order, find_better_order, read_labels
from robustness.victims.loading import (
    MERGE_ROUNDING,
    LoadedCheckpoint,
    Placement,
    as_victim,
    load_checkpoint,
    merge,
)
from robustness.victims.noise import NoiseFloor, measure_noise
from robustness.victims.precision import rounding_share
from robustness.victims.quantisation import QuantisationEffect, measure_quantisation

R = TypeVar("R")

MERGE_TOLERANCE = {torch.float32: MERGE_ROUNDING, torch.bfloat16: 1e-1}
"""The largest difference of a logit, merged against unmerged, that is still rounding; see `_tolerance`."""

PADDING_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 1e-1}
"""The largest difference of a logit, among other texts against alone, that is still rounding; see `_tolerance`."""

ARCHITECTURE_KEYS = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
PROBES = 8
"""Clean examples for the checks of outputs."""

UNTRAINED = ("head-loaded:", "clean-accuracy:")
"""Failures of a checkpoint that has not learnt the task."""

NAMES_SHOWN = 3
"""Number of parameters that a message names."""


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """The gate's findings about one checkpoint."""

    checkpoint: str
    adaptation: str
    clean_accuracy: float
    """For questions: mean F1."""
    majority_share: float
    """Accuracy of the most frequent label on the same examples; or F1 of the whole paragraph."""
    n_clean: int
    parameters: int
    """All of the model's, with head and adapter."""
    architecture: str
    tokenizer_digest: str
    failures: tuple[str, ...]
    """Named reasons; empty if the checkpoint passes."""
    merge_difference: float | None
    """Largest difference of a logit, merged against unmerged; None if there is nothing to merge."""
    change: Change | None = None
    """The changes of a full checkpoint to its base."""
    notes: tuple[str, ...] = ()
    """Assumptions, and the evidence for them."""
    noise: NoiseFloor | None = None
    """Share of answers that change with irrelevant conditions; None if no clean text was answered."""
    quantisation: QuantisationEffect | None = None
    """What holding weights in 4 bit changes; None if not measured."""
    padded: bool = True
    """Whether texts of unequal length share its batches."""
    stays_apart: bool = False
    """Whether it is an adapter that cannot be merged into its base."""

    @property
    def is_untrained(self) -> bool:
        """Whether it is a base that has not learnt the task."""
        return self.adaptation in (BASE, LINEAR_PROBE) and any(each.startswith(UNTRAINED) for each in self.failures)

    def reasons(self, *, allow_untrained: bool) -> list[str]:
        """Returns the failures that count; an allowed untrained base may fail the task."""
        lifted = allow_untrained and self.is_untrained
        return [failure for failure in self.failures if not (lifted and failure.startswith(UNTRAINED))]


def inspect_checkpoint(
    checkpoint: Checkpoint, task: Task, placement: Placement, clean: Sequence[Example], *, quantised: bool = False
) -> CheckpointFacts:
    """Loads a checkpoint, checks it, and measures its clean accuracy on `clean`.

    With `quantised` also what holding its weights, or its base, in 4 bit changes.

    Raises:
        CheckpointError: it cannot be loaded at all, its labels cannot be mapped, or it answers nothing.
    """
    try:
        return _inspect(load_checkpoint(checkpoint, task), placement, clean, quantised=quantised)
    except RobustnessError:
        raise
    except Exception as error:  # out of memory, or any error of a model, a tokenizer or a library
        raise CheckpointError(
            f"checkpoint {checkpoint.name}: fails on the first clean texts: {type(error).__name__}: "
            f"{first_line(error)}"
        ) from error


def _inspect(
    loaded: LoadedCheckpoint, placement: Placement, clean: Sequence[Example], *, quantised: bool
) -> CheckpointFacts:
    checkpoint = loaded.checkpoint
    parameters = sum(map(count_numbers, loaded.unmerged.parameters()))  # before the adapter is merged
    victim, merge_difference, failures = _probe(loaded, placement, [each.texts for each in clean[:PROBES]])
    try:
        points = _clean_points(victim, clean)
    except VictimGoneError as error:
        raise CheckpointError(f"checkpoint {checkpoint.name}: answers no clean text: {error}") from error
    accuracy = float(np.mean([points.get(index, 0.0) for index in range(len(clean))]))
    noise = measure_noise(
        victim, loaded, placement, [clean[index] for index in points], merged=merge_difference is not None
    )
    quantisation = (
        measure_quantisation(victim, loaded, placement, [clean[index] for index in points]) if quantised else None
    )
    blind = victim.grader.blind_answer(clean)
    low = f"{blind.measure}{accuracy:.3f} on {len(clean)} clean examples is not above {blind.answer}"
    low = f"{low} ({blind.points:.3f})" if accuracy <= blind.points else ""
    change = read_change(checkpoint)
    if change is not None and change.cosine < UNRELATED:
        failures.append(
            f"same-base: its matrices have a cosine of {change.cosine:.2f} with those of {checkpoint.base}, so it "
            'was made of another base; give its own with --base, or base = "..." in the pairs file'
        )
    adaptation = checkpoint.adaptation if change is None else change.adaptation
    notes = list(filter(None, [check_base(checkpoint), check_precision(checkpoint)]))
    if low and loaded.kind.traits.may_stay_low and adaptation not in (BASE, LINEAR_PROBE):
        notes.append(f"{low}: it is near the floor, where differences say nothing of robustness")
    elif low:
        failures.append(f"clean-accuracy: {low}; {_why_wrong(victim, loaded, accuracy, blind.points)}")
    if noise is not None and noise.share:
        notes.append(f"{noise.describe()}: a difference between checkpoints that is no larger may be rounding")
    if adaptation not in (BASE, LINEAR_PROBE) and _borrows_labels(loaded):
        worse = _order_failure(victim, loaded, clean)
        failures += [worse] if worse else []
        better = f"no other order has more of {len(clean)} clean examples right"
        notes += [] if worse else [f"its own files do not name its labels; its partner's are taken, and {better}"]
    return CheckpointFacts(
        checkpoint=checkpoint.name,
        adaptation=adaptation,
        clean_accuracy=accuracy,
        majority_share=blind.points,
        n_clean=len(clean),
        parameters=parameters,
        architecture=_architecture(victim.model),
        tokenizer_digest=_tokenizer_digest(victim),
        failures=tuple(failures),
        merge_difference=merge_difference,
        change=change,
        notes=tuple(f"{checkpoint.name}: {note}" for note in notes),
        noise=noise,
        quantisation=quantisation,
        padded=victim.company.padded,
        stays_apart=checkpoint.is_adapter and merge_difference is None,
    )


def _probe(
    loaded: LoadedCheckpoint, placement: Placement, probes: Sequence[Texts]
) -> tuple[Head, float | None, list[str]]:
    """The victim after a few texts, the effect of merging on its logits, and the failed checks."""
    failures = list(_head_failures(loaded))
    if loaded.checkpoint.is_adapter and not _adapter_changes_anything(loaded, probes):
        failures.append("adapter-not-zero: the adapter changes no hidden state; was it trained and saved?")
    folded = _merged_copy(loaded)
    victim = as_victim(loaded, folded or loaded.unmerged, placement)
    found = list(_ask_each(loaded.checkpoint.name, probes, lambda probe: victim.logits([probe])))
    answered, alone = [probe for probe, _ in found], np.concatenate([scores for _, scores in found])
    merge_difference: float | None = None
    merge_failures: list[str] = []
    if loaded.checkpoint.is_adapter and folded is not None:
        merge_difference, merge_failures = _compare_merged(loaded, victim, placement, answered)
    return victim, merge_difference, [*failures, *merge_failures, *_output_failures(victim, answered, alone)]


def _ask_each(name: str, probes: Sequence[Texts], ask: Callable[[Texts], R]) -> Iterator[tuple[Texts, R]]:
    """Yields the answers to single texts, so that one text's error does not affect the others."""
    reason, answered = "", False
    for probe in probes:
        try:
            found = ask(probe)
        except RobustnessError:
            raise
        except Exception as error:  # of many classes, as in the gate itself
            reason = reason or f"{type(error).__name__}: {first_line(error)}"
        else:
            answered = True
            yield probe, found
            continue
        recover_memory()
    if not answered:
        raise CheckpointError(f"checkpoint {name}: fails on each of the first {len(probes)} clean texts: {reason}")


def _borrows_labels(loaded: LoadedCheckpoint) -> bool:
    return bool(loaded.label_columns) and read_labels(loaded.checkpoint, loaded.task).is_borrowed


def _order_failure(victim: Head, loaded: LoadedCheckpoint, clean: Sequence[Example]) -> str:
    """Says if another order of labels than the partner's gives more right answers; empty otherwise."""

    def score(part: Mapping[int, Example]) -> Iterator[tuple[int, int]]:
        return zip(part, victim.rows(list(part.values())).argmax(axis=1).tolist(), strict=True)

    found = Isolation().ask(score, dict(enumerate(clean)), lambda example: example.group)
    pairs = np.array([(answer, clean[i].label) for i, answer in found if not isinstance(answer, Fault)])
    order = find_better_order(pairs[:, 0], pairs[:, 1], len(loaded.task.labels))
    if order is None:
        return ""
    columns = [loaded.label_columns[order.index(label)] for label in range(len(order))]
    names = ", ".join(f"{loaded.task.labels[i]} as {loaded.task.labels[j]}" for i, j in enumerate(order) if i != j)
    return (
        f"label-map: its labels have no names, and in the order of its partner fewer of {len(clean)} clean examples "
        f"are right than with {names}; {advise_order(loaded.checkpoint, loaded.task, columns)}"
    )


def _clean_points(victim: Head, clean: Sequence[Example]) -> dict[int, float]:
    """The row of each clean example, by its index, without texts on which the victim fails."""

    def score(part: Mapping[int, Example]) -> Iterator[tuple[int, float]]:
        asked = list(part.values())
        return zip(part, victim.grader.points(victim.rows(asked), asked).tolist(), strict=True)

    found = dict(Isolation().ask(score, dict(enumerate(clean)), lambda example: example.group))
    return {index: each for index, each in sorted(found.items()) if not isinstance(each, Fault)}


def _why_wrong(victim: Head, loaded: LoadedCheckpoint, accuracy: float, majority: float) -> str:
    """Causes other than a lack of training for an accuracy at the floor."""
    if looks_back(victim.model):
        return "its config.json says is_decoder: true, by which no token sees those behind it: set it to false"
    if len(loaded.task.labels) == 2 and 1 - accuracy > majority:
        return (
            f"the other label than it gives would be right on {1 - accuracy:.3f}: are its labels (or those of the "
            "rows) in the order that it was trained with? If they are not, mend id2label in its config.json"
        )
    if victim.truncated:
        return (
            f"{len(victim.truncated)} of them were cut to {victim.max_tokens} tokens: see model_max_length in its "
            "tokenizer_config.json"
        )
    return "an attack on a model that has not learnt the task says nothing"


def _head_failures(loaded: LoadedCheckpoint) -> Iterator[str]:
    names = loaded.uninitialised
    if names:
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        yield (
            f"head-loaded: no file holds {', '.join(names[:NAMES_SHOWN])}{more}: freshly initialised, so its answers "
            f"are random{head_remedy(loaded.unmerged, names) if loaded.checkpoint.is_adapter else ''}"
        )


@torch.inference_mode()
def _adapter_changes_anything(loaded: LoadedCheckpoint, probes: Sequence[Texts]) -> bool:
    """Compares hidden states, which do not depend on the restored head, with the adapter on and off."""
    model = loaded.unmerged

    def changes(probe: Texts) -> bool:
        inputs = _encode(loaded, probe)
        if not inputs["input_ids"].numel():
            return False
        adapted = _last_states(model, inputs)
        if model.active_peft_config.is_prompt_learning:  # prompts precede the base, which is unchanged
            plain = _last_states(model.get_base_model(), inputs)
        else:
            with model.disable_adapter():
                plain = _last_states(model, inputs)
        return adapted.shape != plain.shape or not torch.equal(adapted, plain)

    return any(changed for _, changed in _ask_each(loaded.checkpoint.name, probes, changes))


def _last_states(model: Any, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The head's input: for an encoder-decoder the decoder's states."""
    output = model(**inputs, output_hidden_states=True)
    states = output.get("decoder_hidden_states") or output.hidden_states
    last: torch.Tensor = states[-1]
    return last


def _compare_merged(
    loaded: LoadedCheckpoint, victim: Head, placement: Placement, probes: Sequence[Texts]
) -> tuple[float, list[str]]:
    unmerged = as_victim(loaded, copy.deepcopy(loaded.unmerged), placement).logits(probes)
    merged = victim.logits(probes)
    difference = float(np.abs(merged - unmerged).max())
    tolerance = _tolerance(MERGE_TOLERANCE, placement.dtype, unmerged)
    if difference <= tolerance:
        return difference, []
    reason = (
        f"merge: merged and unmerged logits differ by {difference:.2g}, more than {tolerance:g} in "
        f"{str(placement.dtype).removeprefix('torch.')}; try --dtype float32"
    )
    return difference, [reason]


def _tolerance(constants: Mapping[torch.dtype, float], dtype: torch.dtype, logits: Scores) -> float:
    """The precision's constant; in a lower precision than float32 at least the rounding of large logits."""
    if dtype is torch.float32:
        return constants[dtype]
    # Not of the largest: models set unused tokens to -10,000.
    finite = np.abs(logits[np.isfinite(logits)])
    large = float(np.quantile(finite, 0.99)) if finite.size else 0.0
    return max(constants[dtype], rounding_share(dtype) * large)


def _merged_copy(loaded: LoadedCheckpoint) -> Any | None:
    """The model with merged adapter; None if it cannot be merged."""
    return merge(replace(loaded, unmerged=copy.deepcopy(loaded.unmerged)))


def _output_failures(victim: Head, probes: Sequence[Texts], alone: Scores) -> Iterator[str]:
    if any(module.training for module in victim.model.modules()):
        yield "eval-mode: a module is in training mode"
    switched = switched_attention(victim.model)
    first = victim.logits(probes)
    if switched:
        yield switched
    elif not np.isfinite(first).all():
        yield "finite: some logits are not finite"
    elif not np.array_equal(first, victim.logits(probes)):
        yield "deterministic: two identical forwards differ; is dropout still on?"
    else:
        difference = float(np.abs(first - alone).max())
        if difference > _tolerance(PADDING_TOLERANCE, next(victim.model.parameters()).dtype, alone):
            yield (
                f"padding: scores change by {difference:.2g} with what is scored beside a text; "
                "are padding side and padding token those it was trained with?"
            )
    if _are_probabilities(first):
        yield "logits: outputs lie in [0, 1] and sum to 1: probabilities, where logits are expected"


def switched_attention(model: Any) -> str:
    """Says why scores depend on earlier texts, if a text switched the attention; empty otherwise."""
    stated = getattr(model.config, "attention_type", None)
    used = {kind for module in model.modules() if isinstance(kind := getattr(module, "attention_type", None), str)}
    if stated is None or used <= {stated}:
        return ""
    now = ", ".join(sorted(used - {stated}))
    return (
        f"attention: a short batch turned the attention from {stated} to {now} for all texts that follow, so scores "
        f'depend on what was scored before; set "attention_type": "{now}" in the config.json of base and checkpoint'
    )


def _are_probabilities(scores: Scores) -> bool:
    return bool((scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-4))


def _architecture(model: Any) -> str:
    return json.dumps({key: getattr(model.config, key, None) for key in ARCHITECTURE_KEYS})


def _tokenizer_digest(victim: Head) -> str:
    """Vocabulary, truncation, and a sentence that shows casing, accents, splitting and special tokens."""
    tokenizer = victim.tokenizer
    truncation = [tokenizer.truncation_side, max_tokens(victim.model, tokenizer)]
    probe = tokenizer("Naïve  words, don't UN-fold\n¿ok? 1,000", "Second segment.")["input_ids"]
    content = json.dumps([sorted(tokenizer.get_vocab().items()), truncation, probe])
    return hashlib.sha256(content.encode()).hexdigest()


def _encode(loaded: LoadedCheckpoint, probe: Texts) -> dict[str, torch.Tensor]:
    model = loaded.unmerged
    limit = longest_text(model, loaded.tokenizer)
    segments = [[segment] for segment in probe]
    encoded = loaded.tokenizer(*segments, truncation=True, max_length=min(128, limit), return_tensors="pt")
    return {name: encoded[name] for name in encoded if name in accepted_inputs(model)}
