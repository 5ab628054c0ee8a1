"""Conditions for comparing two checkpoints."""

from __future__ import annotations

from collections.abc import Iterator

from robustness.definitions.pairs import Pair
from robustness.errors import GateError
from robustness.victims.files.changes import BASE, FULL, LINEAR_PROBE
from robustness.victims.gate import CheckpointFacts


def check_pair(
    pair: Pair, reference: CheckpointFacts, candidate: CheckpointFacts, *, allow_untrained: bool = False
) -> None:
    """Raises GateError with every named reason against comparing the two."""
    arms = reference, candidate
    reasons = [
        f"{arm.checkpoint}: {failure}" for arm in arms for failure in arm.reasons(allow_untrained=allow_untrained)
    ]
    if pair.is_headline:
        reasons += _headline_failures(*arms)
    if all(arm.adaptation == BASE for arm in arms):
        reasons.append("same-weights: neither arm changes the base")
    if reference.architecture != candidate.architecture:
        reasons.append(f"same-base: {reference.architecture} against {candidate.architecture}")
    if reference.tokenizer_digest != candidate.tokenizer_digest:
        reasons.append("same-tokenizer: the two tokenizers encode differently")
    if reasons:
        raise GateError(f"pair {pair.name} is refused: " + "; ".join(reasons))


def describe_rounding(pair: Pair, *arms: CheckpointFacts) -> Iterator[str]:
    """Yields differences in the arms' computations, which round differently in low precision."""
    reference, candidate = arms
    if reference.padded != candidate.padded:
        alone = next(arm for arm in arms if not arm.padded)
        yield f"pair {pair.name}: texts of unequal length share batches on one arm, and not on {alone.checkpoint}"
    if reference.stays_apart != candidate.stays_apart:
        apart = next(arm for arm in arms if arm.stays_apart)
        yield (
            f"pair {pair.name}: {apart.checkpoint} cannot be merged into its base, and computes beside it; the other "
            "arm's weights are whole"
        )


def _headline_failures(full: CheckpointFacts, peft: CheckpointFacts) -> Iterator[str]:
    """Yields problems of a pair that names its arms full and peft."""
    remedy = "for another contrast call the arms reference and candidate"
    if full.adaptation not in (FULL, LINEAR_PROBE):  # a complete model's folder, for any trained part
        yield f"{full.checkpoint}: adaptation: is {full.adaptation}; expected a full checkpoint; {remedy}"
    if peft.adaptation in (FULL, BASE):
        what = f" ({peft.change.words})" if peft.change else ""
        yield f"{peft.checkpoint}: adaptation: is {peft.adaptation}{what}; expected a PEFT adapter; {remedy}"
