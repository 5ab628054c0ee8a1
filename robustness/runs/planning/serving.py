"""Finds attacks and probes that a plan's checkpoints cannot serve, before loading them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from robustness.definitions.pairs import Pair
from robustness.errors import UsageError
from robustness.tasks.abilities import Ability
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.heads.kinds import head_kind, possible_kinds

WORDS = {
    Ability.LOSSES: "losses",
    Ability.SCORES: "scores of labels",
    Ability.LOGITS: "logits of one answer",
    Ability.TEXT_GRADIENTS: "gradients at texts",
    Ability.EMBEDDINGS: "answers to embeddings",
}


@dataclass(frozen=True, slots=True)
class Lack:
    """A checkpoint that cannot serve an attack or a probe."""

    asking: str
    """Name of the attack or probe."""
    checkpoint: str
    pair: str
    reason: str
    """The missing ability, and the checkpoint's kind of answer."""


def find_lacks(pairs: Sequence[Pair], needs: Mapping[str, frozenset[Ability]]) -> list[Lack]:
    """Returns the attacks or probes that checkpoints cannot serve.

    Reads a checkpoint's files only if its task allows several kinds of answer and this matters.

    Args:
        pairs: pairs with the checkpoints.
        needs: abilities of attacks or probes, by name.

    Raises:
        CheckpointError: a checkpoint must be read and is missing or unsafe.
    """
    return [lack for name, wanted in needs.items() for pair in pairs for lack in _lacks_of(pair, name, wanted)]


def refuse_lacks(kind: str, lacks: Sequence[Lack]) -> None:
    """Raises UsageError if the caller has named something that a checkpoint cannot serve.

    Args:
        kind: attack or probe.
        lacks: the caller's attacks or probes that lack an ability.
    """
    if lacks:
        first = lacks[0]
        raise UsageError(
            f"--{kind} {first.asking}: {first.reason}; leave the {kind} out, or run pair {first.pair} without it"
        )


def describe_lacks(lacks: Sequence[Lack]) -> tuple[str, ...]:
    """Returns one sentence for each checkpoint and reason, with the suite's attacks left out there."""
    reasons = dict.fromkeys((lack.checkpoint, lack.reason) for lack in lacks)
    names = {key: [lack.asking for lack in lacks if (lack.checkpoint, lack.reason) == key] for key in reasons}
    return tuple(f"checkpoint {key[0]}: left out there: {', '.join(names[key])}: each {key[1]}" for key in reasons)


def _lacks_of(pair: Pair, name: str, wanted: frozenset[Ability]) -> Iterator[Lack]:
    kinds = possible_kinds(pair.task)
    if all(wanted <= kind.traits.can for kind in kinds):
        return
    arms = (
        (pair.reference_name, pair.reference, pair.candidate),
        (pair.candidate_name, pair.candidate, pair.reference),
    )
    for checkpoint, own, partner in arms:
        kind = kinds[0]
        if len(kinds) > 1:
            kind = head_kind(read_checkpoint(checkpoint, own, pair.base, partner), pair.task)
        missing = [WORDS[ability] for ability in Ability if ability in wanted - kind.traits.can]
        if missing:
            yield Lack(
                name,
                checkpoint,
                pair.name,
                f"needs {' and '.join(missing)}, which checkpoint {checkpoint} does not give: it answers with "
                f"{kind.traits.answers}",
            )
