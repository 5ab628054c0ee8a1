"""Steps on probes: each of those that are shipped, on a few examples of a LoRA checkpoint and of other heads."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from unittest import mock

from gpu.attacks import DEFINITIONS
from gpu.bench import Bench
from gpu.steps import Found, Step, StepError, require
from robustness.sensitivity.probe import Subject, Unsupported
from robustness.testsets.example import Example
from robustness.victims.files.checkpoint import Checkpoint
from robustness.victims.heads.head import Head

PROBES = (
    *("margin", "margin-gradient", "jacobian-norm", "adversarial-distance", "smoothing", "reachability", "sharpness"),
    *("condition-profile", "first-order-radius", "lipschitz-lower", "parameter-margin", "weight-rounding"),
    *("lipschitz-upper", "layer-product", "block-jacobians", "curvature", "clever", "one-substitution", "safer"),
    *("margin-gradient-l1", "weight-rounding-int8", "sharpness-adaptive-in-tangent"),
    *("update-structure", "update-gain", "update-path", "module-transplant"),
)
"""The most used first; a test holds them against what is shipped."""
FEWER: Mapping[str, Mapping[str, Any]] = {
    "adversarial-distance": {
        "norms": ["l2"],
        "steps": 3,
        "shrinking_rounds": 1,
        "checked_examples": 1,
        "random_directions": 3,
    },
    "smoothing": {"samples": 20, "selection_samples": 4},
    "safer": {"samples": 20},
    "reachability": {"attack_steps": 2},
    "sharpness": {"steps": 1},
    "sharpness-adaptive-in-tangent": {"steps": 1},
    "parameter-margin": {"steps": 2},
    "lipschitz-lower": {"steps": 2, "restarts": 1},
    "lipschitz-upper": {"samples": 16, "exact_examples": 0},
    "curvature": {"iterations": 3, "draws": 1},
    "clever": {"batches": 2, "samples": 2},
    "block-jacobians": {"steps": 2},
    "module-transplant": {"steps": 2, "distance_examples": 1},
}
"""What takes long on a processor, where only small models are measured."""
ON_SPANS = ("margin", "jacobian-norm", "condition-profile", "block-jacobians")
ON_PROMPTS = ("margin", "jacobian-norm", "sharpness")


def probe_pair(name: str, bench: Bench) -> Found:
    """Measures the LoRA checkpoint of a pair on disk, as a run does."""
    world = bench.world
    full = Checkpoint("full", world.folder / "full", world.base, "full")
    lora = Checkpoint("lora", world.folder / "lora", world.base, "lora", world.base)
    examples = [
        Example(f"r{i}", text, label) for i, (text, label) in enumerate(zip(world.texts, world.labels, strict=True))
    ]
    parts = {"load_partner": bench.load, "partners": (full,)}
    return _described(measure(bench, name, lora, bench.load(lora), examples, parts))


def probe_heads(bench: Bench) -> Found:
    """Measures a reader and a prompted language model, from memory."""
    nowhere = Checkpoint("drawn", bench.folder, bench.folder, "full")
    details = {}
    for head, victim, examples, names in (
        ("spans", bench.reader, bench.asked, ON_SPANS),
        ("prompts", bench.prompted, bench.prompts, ON_PROMPTS),
    ):
        for name in names:
            details[f"{head}: {name}"] = measure(bench, name, nowhere, victim, examples[:2], {})
    return Found(", ".join(f"{name} {each['seconds']:.1f} s" for name, each in details.items()), details)


def measure(
    bench: Bench,
    name: str,
    checkpoint: Checkpoint,
    victim: Head,
    examples: Sequence[Example],
    parts: Mapping[str, Any],
) -> dict[str, Any]:
    """Seconds, readings and peak memory of a probe; fails where a reading is errored."""
    from robustness.sensitivity.building import find_probe

    named = find_probe(name, {} if bench.size.name == "real" else dict(FEWER.get(name, {})))
    used = list(examples)[: bench.size.probed]
    subject = Subject(checkpoint, used, 0, named.digest, load_victim=lambda: victim, **parts)
    bench.peak_bytes()
    started = time.perf_counter()
    try:
        with mock.patch(
            "robustness.sensitivity.input.substitution.load_neighbours", lambda _: _neighbours(bench.words)
        ):
            readings = list(named.probe.measure(subject))
    except Unsupported as error:
        raise StepError(f"unsupported: {error}") from None
    statuses = Counter(str(reading.measurement.status) for reading in readings)
    reasons = [reading.measurement.reason for reading in readings if str(reading.measurement.status) == "errored"]
    require(not reasons, f"{len(reasons)} of {len(readings)} readings errored: {reasons[:1]}")
    require(statuses["ok"] > 0, f"no reading is ok: {dict(statuses)}")
    seconds = time.perf_counter() - started
    return {
        "examples": len(used),
        "readings": dict(statuses),
        "seconds": seconds,
        "peak_bytes": bench.peak_bytes(),
    }


def _described(figure: Mapping[str, Any]) -> Found:
    memory = "" if figure["peak_bytes"] is None else f", {figure['peak_bytes'] / 2**30:.1f} GiB"
    readings = ", ".join(f"{count} {status}" for status, count in figure["readings"].items())
    return Found(f"{readings} on {figure['examples']} examples{memory}", dict(figure))


def _neighbours(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Made-up synonyms: every word has its next three."""
    return {word: tuple(words[(i + step) % len(words)] for step in (1, 2, 3)) for i, word in enumerate(words)}


STEPS: tuple[Step[Bench], ...] = tuple(
    Step(f"probe {name}", partial(probe_pair, name), DEFINITIONS, seconds=60.0) for name in PROBES
)
HEADS: tuple[Step[Bench], ...] = (Step("probes of other heads", probe_heads, DEFINITIONS),)
