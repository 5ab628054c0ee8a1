"""Transplants modules between arms: which of them carry the difference in distance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, final

from pydantic import Field, PositiveInt

from robustness.recipes.embedding.balls import Norm
from robustness.sensitivity.batching import measure_batches, require_float32
from robustness.sensitivity.blocks import find_stacks
from robustness.sensitivity.input.distance import Ensemble
from robustness.sensitivity.measurement import (
    Aggregate,
    Kind,
    Measurement,
    MeasurementStatus,
    Quantity,
    Space,
    measure,
)
from robustness.sensitivity.parameter.weights import replaced
from robustness.sensitivity.probe import Reading, Subject, Unsupported
from robustness.tasks.abilities import Ability
from robustness.testsets.example import Example
from robustness.tuners.matrices import weight_storages
from robustness.victims.heads.embedded_batch import EmbeddedBatch
from robustness.victims.heads.head import Head

EFFECT = Quantity("transplant-effect", "log-ratio", scale_free=True)
DISTANCE = Quantity("transplant-distance", "token-norms", scale_free=True)
GAP = Quantity("transplant-gap", "log-ratio", scale_free=True)
ACCURACY = Quantity("transplant-accuracy", "share", aggregate=Aggregate.MEAN, scale_free=True)
HEAD = "head"
NOT_FOUND = "no wrong answer was found at any distance"


@dataclass(frozen=True, slots=True)
class Module:
    """A part of the model that is transplanted as a whole."""

    name: str
    layer: int | None
    """Counted from 0, in an encoder and in a decoder; None for parts before and after the blocks."""
    parameters: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class ModuleTransplant:
    """log(d_hybrid / d_recipient) for the recipient with one module of its partner: an intervention.

    Below 0 the module reduces the distance. The modules are the embeddings, each block and the head. Measured at the
    PEFT arm, both ways: `peft-in-full` puts a module of the PEFT arm into the full arm, `full-in-peft` the reverse.
    All modules together would give the `transplant-gap` log(d_peft / d_full); single ones need not add up to it.
    Distances are l2, by DeepFool and a walk along the boundary, in each model's own token norms. They are measured on
    examples with a right answer from both arms. A ratio of two upper bounds bounds nothing. A hybrid that loses more
    clean accuracy than `max_accuracy_loss` is another model and is discarded. An example with a wrong answer from
    another hybrid has the distance 0 and no ratio.
    """

    steps: PositiveInt
    """Steps of the walk."""
    distance_examples: PositiveInt
    """Examples for distances; accuracy is measured on all."""
    max_accuracy_loss: Annotated[float, Field(ge=0, le=1)]
    """Fraction of the examples."""
    space: Space = Space.PARAMETER
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.LOGITS})

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""
        arms = _load_arms(subject)
        right = {name: answered_rightly(victim, subject.examples) for name, victim in arms.items()}
        both = [each for each, a, b in zip(subject.examples, right["full"], right["peft"], strict=True) if a and b]
        if not both:
            raise Unsupported("there is no example that both arms answer rightly")
        chosen = replace(subject, examples=both[: self.distance_examples])
        distances: dict[str, list[Reading]] = {}
        for name, victim in arms.items():
            distances[name] = self._distances(chosen, victim, scope=name)
            yield from distances[name]
        yield from log_ratios(GAP, distances["peft"], distances["full"], "peft-over-full")
        for recipient, donor in (("full", "peft"), ("peft", "full")):
            answered = sum(right[recipient])
            for module in find_modules(arms[recipient].model):
                scope = f"{donor}-in-{recipient}"
                with transplanted(arms[recipient], arms[donor], [module]) as hybrid:
                    found = self._of_hybrid(subject, chosen, hybrid, answered, scope)
                yield from (replace(reading, layer=module.layer, module=module.name) for reading in found)
                if found[-1].measurement.status is not MeasurementStatus.UNSUPPORTED:
                    effects = log_ratios(EFFECT, found, distances[recipient], scope)
                    yield from (replace(reading, layer=module.layer, module=module.name) for reading in effects)

    def _of_hybrid(self, subject: Subject, chosen: Subject, hybrid: Head, answered: int, scope: str) -> list[Reading]:
        """The hybrid's clean accuracy, and its distances unless it loses too many of the answered examples."""
        own, count = sum(answered_rightly(hybrid, subject.examples)), len(subject.examples)
        readings = [Reading(measure(ACCURACY, own / count, Kind.EXACT, scope=scope))]
        loss = (answered - own) / count  # a difference of shares rounds, so that 0.8 - 0.7 is above 0.1
        if loss > self.max_accuracy_loss:
            reason = f"discarded: the hybrid loses {loss:.3f} of clean accuracy"
            status = MeasurementStatus.UNSUPPORTED
            return [
                *readings,
                Reading(Measurement(EFFECT, None, Kind.ESTIMATE, scope=scope, status=status, reason=reason)),
            ]
        return readings + self._distances(chosen, hybrid, scope)

    def _distances(self, subject: Subject, victim: Head, scope: str) -> list[Reading]:
        search = Ensemble(Norm.L2, self.steps)

        def of_batch(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            found = search.search(batch)
            costs = zip(found.forwards.tolist(), found.backwards.tolist(), strict=True)
            relative = found.relative_distance(Norm.L2).tolist()
            readings = []
            for example, value, (ahead, back) in zip(examples, relative, costs, strict=True):
                labels = {"norm": "l2", "scope": scope, "forwards": ahead, "backwards": back}
                nothing = Measurement(
                    DISTANCE, None, Kind.UPPER, status=MeasurementStatus.NOT_CONVERGED, reason=NOT_FOUND, **labels
                )
                found_one = math.isfinite(value)
                readings.append(
                    Reading(measure(DISTANCE, value, Kind.UPPER, **labels) if found_one else nothing, example)
                )
            return readings

        return list(measure_batches(replace(subject, load_victim=lambda: victim), DISTANCE, of_batch, singly=True))


def find_modules(model: Any) -> list[Module]:
    """Returns the model's parameters as embeddings, blocks and head, from the input to the output.

    Raises:
        Unsupported: a model without a list of blocks.
    """
    stacks = find_stacks(model)
    lookups = {name for name, storage in weight_storages(model).items() if storage.is_lookup}
    names = [name for name, _ in model.named_parameters()]
    prefixes = tuple(f"{path}." for blocks in stacks for path in blocks)
    outside = [name for name in names if not name.startswith(prefixes)]
    embeddings = tuple(name for name in outside if "embed" in name or name in lookups)
    head = tuple(name for name in outside if name not in embeddings)
    modules = [Module("embeddings", None, embeddings)]
    modules += [
        Module(path, index, tuple(name for name in names if name.startswith(f"{path}.")))
        for blocks in stacks
        for index, path in enumerate(blocks)
    ]
    return [module for module in [*modules, Module(HEAD, None, head)] if module.parameters]


@contextmanager
def transplanted(recipient: Head, donor: Head, modules: Sequence[Module]) -> Iterator[Head]:
    """The recipient with modules of the donor; restored afterwards. A head keeps its own order of labels."""
    own, given = (dict(victim.model.named_parameters()) for victim in (recipient, donor))
    changed = {name: given[name].data for module in modules for name in module.parameters}
    labels_of = donor if any(module.name == HEAD for module in modules) else recipient
    with replaced(own, changed):
        yield recipient.read_as(labels_of)


def answered_rightly(victim: Head, examples: Sequence[Example]) -> list[bool]:
    """Returns whether the victim answers each example rightly."""
    right: list[bool] = victim.grader.correct(victim.rows(examples), examples).tolist()
    return right


def log_ratios(
    quantity: Quantity, above: Sequence[Reading], below: Sequence[Reading], scope: str
) -> Iterator[Reading]:
    """Yields log(above / below) for each example with two distances other than 0."""
    under = {reading.example.id: reading.measurement.value for reading in below if reading.example}
    for reading in above:
        if reading.example is None or reading.measurement.quantity != DISTANCE:
            continue
        high, low = reading.measurement.value, under.get(reading.example.id)
        if high and low:
            yield Reading(
                measure(quantity, math.log(high / low), Kind.ESTIMATE, norm="l2", scope=scope), reading.example
            )


def _load_arms(subject: Subject) -> dict[str, Head]:
    """The full and the PEFT arm, of one architecture.

    Raises:
        Unsupported: the subject is no PEFT checkpoint with a full partner, or the two differ in parameters.
    """
    partner = subject.full_partner
    if not subject.checkpoint.is_adapter or partner is None:
        raise Unsupported("a full checkpoint: modules are exchanged once per pair, at its PEFT arm")
    arms: dict[str, Head] = {}
    shapes = []
    for name, victim in (("full", subject.load_partner(partner)), ("peft", subject.deciding_victim)):
        require_float32(victim)
        arms[name] = victim
        shapes.append({name: value.shape for name, value in victim.model.named_parameters()})
    if shapes[0] != shapes[1]:
        raise Unsupported(
            f"a {subject.checkpoint.adaptation} adapter cannot be merged and has other parameters than the full "
            "arm: no module of the one fits the other"
        )
    return arms
