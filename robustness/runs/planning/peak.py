"""The memory that a plan needs on its device at its peak, told before it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch

from robustness.engine.attack import Access
from robustness.errors import RobustnessError
from robustness.runs.cells import NO_ATTACK
from robustness.runs.planning.rows import Draft
from robustness.sensitivity.blocks import find_stacks
from robustness.sensitivity.measurement import Space
from robustness.victims.batches import CPU_BATCH_TOKENS
from robustness.victims.files.models import automatic_class
from robustness.victims.flops import read_config
from robustness.victims.heads.kinds import HeadKind, head_kind
from robustness.victims.heads.registry import count_tokens
from robustness.victims.live_bytes import LiveBytes
from robustness.victims.loading import place

COMPARED = {"cpu": 3, "cuda": 2}
"""Models in the device's memory while the gate compares an adapter merged with itself unmerged.

On a CPU the model that was loaded stays beside the two that answer.
"""
ARMS_OF_PAIR = "module-transplant"
"""The probe that holds both arms."""
GB = 1e9


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of a batch."""

    rows: int
    tokens: int
    """Of each."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """The bytes of a model and of its passes over a batch."""

    weights: int
    blocks: int
    """Those of the weights that probes of the parameters move."""
    scoring: int
    """Peak of a pass without gradients."""
    gradient: int
    """Peak of a gradient of the embeddings."""
    activations: int
    """Peak of what a gradient of the blocks' weights keeps of the forward pass."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a run, and the memory that it holds at once."""

    name: str
    parts: Mapping[str, int]
    """Bytes by what they are."""

    @property
    def bytes(self) -> int:
        """Of all parts."""
        return sum(self.parts.values())

    def describe(self) -> str:
        """Returns a line.

        >>> Stage("attacks", {"weights": 13_500_000_000, "activations": 700_000_000}).describe()
        'attacks 14.2 GB (weights 13.5, activations 0.7)'
        """
        parts = ", ".join(f"{name} {spell(size)}" for name, size in self.parts.items())
        return f"{self.name} {spell(self.bytes)} GB ({parts})"


def spell(size: float) -> str:
    """Returns bytes in GB, in two digits and at least one decimal.

    >>> spell(26_954_000_000), spell(340_000_000), spell(4_200_000)
    ('27.0', '0.34', '0.0042')
    """
    return f"{size / GB:.1f}" if size >= GB else f"{size / GB:.2g}"


def describe_peak(draft: Draft) -> Iterator[str]:
    """Yields the peak of a plan's memory on its device and its parts, or why it is not known."""
    try:
        stages = list_stages(draft)
    except (RobustnessError, RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        yield f"peak memory: not known: {type(error).__name__}"  # a model that runs only with its weights
        return
    device = place(draft.plan.settings.device, draft.plan.settings.dtype).device.type
    largest = max(stages, key=lambda stage: stage.bytes)
    yield f"peak memory on the {'GPU' if device == 'cuda' else 'CPU'}: about {spell(largest.bytes)} GB"
    yield from (f"  {stage.describe()}" for stage in stages)
    if device == "cuda":
        yield "  counted with the longest text alone: batches on a GPU take the rest, and are halved if need be"


def list_stages(draft: Draft) -> list[Stage]:
    """Returns the stages of a run, each for the checkpoint that needs most.

    Raises:
        CheckpointError: a config or a tokenizer that cannot be read.
        RuntimeError: a model that cannot be run without weights, or other errors of its code.
    """
    plan, found = draft.plan, dict[str, Stage]()
    placement = place(plan.settings.device, plan.settings.dtype)
    known: dict[Any, Footprint] = {}
    for name, checkpoint in draft.admission.checkpoints.items():
        task = draft.admission.tasks[name]
        kind = head_kind(checkpoint, task)
        config, tokenizer = read_config(checkpoint)
        sets = {cell.testset for cell in plan.cells if cell.checkpoint == name}
        texts = [example.texts for each in sets for example in draft.examples[each]]
        longest = max(1, int(max(count_tokens(kind, task, tokenizer, config, texts))))
        rows = max(1, CPU_BATCH_TOKENS // longest) if placement.device.type == "cpu" else 1
        key = (checkpoint.base, kind, len(task.labels), longest)
        if key not in known:
            config = resize(config, kind.label_settings(len(task.labels)))
            known[key] = measure_footprint(config, kind, placement.dtype, Texts(rows, longest))
        for stage in stages_of(known[key], draft, name, placement.device.type):
            if stage.name not in found or stage.bytes > found[stage.name].bytes:
                found[stage.name] = stage
    return list(found.values())


def stages_of(footprint: Footprint, draft: Draft, name: str, device: str) -> Iterator[Stage]:
    """Yields the stages of one checkpoint."""
    plan, size = draft.plan, footprint.weights
    is_adapter = draft.admission.checkpoints[name].is_adapter
    models = COMPARED[device] if is_adapter else 1
    yield Stage("checks", {_models(models): models * size, "activations": footprint.scoring})
    attacks = [attack for attack in plan.attacks if attack.name != NO_ATTACK]
    if any(getattr(attack.attack, "access", None) is Access.GRADIENTS for attack in attacks):
        yield Stage("attacks", {"weights": size, "activations and gradients": footprint.gradient})
    elif plan.cells:
        yield Stage("attacks", {"weights": size, "activations": footprint.scoring})
    for probe in plan.probes:
        copies = getattr(probe.probe, "copies", 0)
        if copies and plan.settings.dtype == "float32":
            held = {"weights": size, "activations": footprint.activations, "gradient": footprint.blocks}
            yield Stage(probe.name, held | {f"copies {copies - 1}": (copies - 1) * footprint.blocks})
        elif copies:
            yield Stage(f"{probe.name}: unsupported in {plan.settings.dtype},", {"weights": size})
        elif probe.probe.space is not Space.STRUCTURE:
            arms = 2 if probe.name == ARMS_OF_PAIR else 1
            yield Stage("other probes", {_models(arms): arms * size, "activations": footprint.gradient})


def _models(count: int) -> str:
    return "weights" if count == 1 else f"weights of {count} models"


def resize(config: Any, settings: Mapping[str, Any]) -> Any:
    """Returns a config with a head of the task's size."""
    changed = deepcopy(config)
    for key, value in settings.items():
        setattr(changed, key, value)
    return changed


def measure_footprint(config: Any, kind: HeadKind, dtype: torch.dtype, texts: Texts) -> Footprint:
    """Returns the bytes of a config's model by running it on tensors without data.

    Args:
        config: transformers config.
        kind: of the head.
        dtype: of weights and activations.
        texts: of a batch.
    """
    config = deepcopy(config)
    config._attn_implementation = "eager"  # fused kernels decide by the numbers of a mask; they need less
    config.use_cache = False
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = 0
    with torch.device("meta"):
        model = automatic_class(kind).from_config(config, trust_remote_code=False).to(dtype).eval()
    blocks = [each for stack in find_stacks(model) for block in stack.values() for each in block.parameters()]
    model.requires_grad_(False)
    scoring = _peak_of_pass(model, texts)
    gradient = _peak_of_pass(model, texts, of_embeddings=True)
    for parameter in blocks:
        parameter.requires_grad_(True)
    activations = _peak_of_pass(model, texts)
    return Footprint(_bytes(model.parameters()), _bytes(blocks), scoring, gradient, activations)


def _bytes(parameters: Iterable[torch.Tensor]) -> int:
    """Of each once, wherever it is used."""
    return sum(each.numel() * each.element_size() for each in {id(each): each for each in parameters}.values())


def _peak_of_pass(model: Any, texts: Texts, *, of_embeddings: bool = False) -> int:
    width = model.get_input_embeddings().weight.shape[1]
    weight = next(model.parameters())
    mask = torch.ones(texts.rows, texts.tokens, dtype=torch.long, device="meta")
    for inputs in ({"attention_mask": mask}, {}):
        try:
            point = torch.empty(texts.rows, texts.tokens, width).to(weight)
            return _peak(model, point, inputs, of_embeddings=of_embeddings)
        except RuntimeError:  # a mask whose numbers decide what is computed
            if not inputs:
                raise
    raise AssertionError("the loop returns or raises")


def _peak(model: Any, point: torch.Tensor, inputs: Mapping[str, torch.Tensor], *, of_embeddings: bool) -> int:
    point.requires_grad_(of_embeddings)
    wanted = of_embeddings or any(each.requires_grad for each in model.parameters())
    live = LiveBytes([*model.parameters(), *model.buffers()])
    with _meta_autocast(), live, torch.set_grad_enabled(wanted):
        output = model(inputs_embeds=point, **inputs)
        if of_embeddings:
            torch.autograd.grad(sum(each.float().sum() for each in output.values() if _differs(each)), point)
    peak: int = live.peak
    return peak


@contextmanager
def _meta_autocast() -> Iterator[None]:
    """Lets models turn autocast off on tensors without data, whose device torch.autocast refuses."""
    own = torch.autocast

    def autocast(device_type: str, *arguments: Any, **settings: Any) -> Any:
        return nullcontext() if device_type == "meta" else own(device_type, *arguments, **settings)

    torch.autocast = autocast  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        torch.autocast = own  # type: ignore[misc]


def _differs(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.requires_grad
