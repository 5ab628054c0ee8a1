"""Which attacks and probes a plan's checkpoints cannot serve, told before anything of them is loaded."""

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
    """What is needed, and what the checkpoint answers with."""


def find_lacks(pairs: Sequence[Pair], needs: Mapping[str, frozenset[Ability]]) -> list[Lack]:
    """Returns what checkpoints cannot serve, attack by attack.

    A checkpoint's files are read only where its task leaves open with what it answers, and that makes a difference.

    Args:
        pairs: whose checkpoints are asked.
        needs: of attacks or probes, by name.

    Raises:
        CheckpointError: a checkpoint that has to be looked at, and is not there or not safe to load.
    """
    return [lack for name, wanted in needs.items() for pair in pairs for lack in _lacks_of(pair, name, wanted)]


def refuse_lacks(kind: str, lacks: Sequence[Lack]) -> None:
    """Raises UsageError where the caller has named what a checkpoint cannot serve.

    Args:
        kind: attack or probe.
        lacks: of those that the caller has named.
    """
    if lacks:
        first = lacks[0]
        raise UsageError(
            f"--{kind} {first.asking}: {first.reason}; leave the {kind} out, or run pair {first.pair} without it"
        )


def describe_lacks(lacks: Sequence[Lack]) -> tuple[str, ...]:
    """Returns one sentence for each checkpoint and reason: which of a suite's attacks are left out there."""
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
