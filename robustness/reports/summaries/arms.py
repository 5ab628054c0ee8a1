"""The two arms of a comparison by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robustness.runs.storage.record import CheckpointRecord, PairRecord, RunRecord
from robustness.stats import CANDIDATE_FRAGILE, REFERENCE_FRAGILE, Verdict

FULL = "full"
METHOD_NAMES = {
    "lora": "LoRA",
    "qlora": "QLoRA",
    "qdora": "QDoRA",
    "adalora": "AdaLoRA",
    "dora": "DoRA",
    "ia3": "(IA)3",
    "ssl": "SSL",
    "ssb": "SSB",
    "bitfit": "BitFit",
    "prefix": "prefix tuning",
    "prompt": "prompt tuning",
    "freelb": "FreeLB",
}
"""Methods as papers write them."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm, in a sentence and where room is short."""

    name: str
    short: str


LONG_NAMES = {FULL: Arm("full fine-tuning", FULL), "base": Arm("the untuned base", "base")}


@dataclass(frozen=True, slots=True)
class Arms:
    """Both arms of a comparison."""

    reference: Arm
    candidate: Arm

    @property
    def shorts(self) -> tuple[str, str]:
        """Where room is short, the reference first."""
        return self.reference.short, self.candidate.short

    @property
    def with_roles(self) -> str:
        """Both, the candidate first, each with its role."""
        named = zip((self.candidate, self.reference), ("candidate", "reference"), strict=True)
        return " beside ".join(arm.name if arm.short == role else f"{arm.name} ({role})" for arm, role in named)

    @property
    def both(self) -> str:
        """Both in a sentence, the candidate first."""
        return f"{self.candidate.name} and {self.reference.name}"


def method_name(method: str) -> str:
    """A method as papers write it; a user's own name is unchanged.

    >>> method_name("lora"), method_name("lora+freelb"), method_name("mine")
    ('LoRA', 'LoRA+FreeLB', 'mine')
    """
    return "+".join(METHOD_NAMES.get(part, part) for part in method.split("+"))


def name_arms(reference: str, candidate: str) -> Arms:
    """Returns what to call the arms of these methods.

    >>> arms = name_arms("full", "lora")
    >>> arms.reference.name, arms.reference.short, arms.candidate.name
    ('full fine-tuning', 'full', 'LoRA')
    >>> name_arms("lora", "lora").both
    'LoRA (candidate) and LoRA (reference)'
    """
    if reference == candidate:
        name = _arm(reference).name
        return Arms(Arm(f"{name} (reference)", "reference"), Arm(f"{name} (candidate)", "candidate"))
    return Arms(_arm(reference), _arm(candidate))


def arms_of_pair(pair: PairRecord, record: RunRecord) -> Arms:
    """Returns names for the checkpoints of a pair; two of one method by their difference."""
    reference, candidate = (record.find_checkpoint(name) for name in (pair.reference, pair.candidate))
    if reference.method == candidate.method:
        traits = [_trait(arm, other) for arm, other in ((reference, candidate), (candidate, reference))]
        if all(traits):
            name = _arm(reference.method).name
            return Arms(*(Arm(f"{name} ({each})", each) for each in traits))
    arms = name_arms(reference.method, candidate.method)
    return Arms(_on_base(arms.reference, reference), _on_base(arms.candidate, candidate))


def _on_base(arm: Arm, checkpoint: CheckpointRecord) -> Arm:
    """Names the base's precision where it is not that of the training."""
    other = checkpoint.settings.get("base_precision")
    spelt = {"4bit": "a 4-bit base", "full": "a full-precision base"}.get(other or "")
    return arm if spelt is None else Arm(f"{arm.name} on {spelt}", f"{arm.short} on {other}")


def _trait(arm: CheckpointRecord, other: CheckpointRecord) -> str:
    """The first setting in which a checkpoint differs from another, else its training seed; empty for neither."""
    for name in dict.fromkeys((*arm.settings, *other.settings)):
        if arm.adaptation == FULL and name not in arm.settings:
            return "full rank"  # beside a merged update
        if arm.settings.get(name) != other.settings.get(name):
            return f"{name}={arm.settings.get(name, 'default')}"
    seeds = arm.train_seed, other.train_seed
    return f"seed {seeds[0]}" if None not in seeds and seeds[0] != seeds[1] else ""


def arms_of_run(pairs: Sequence[PairRecord], record: RunRecord) -> Arms:
    """Returns what to call the arms of several pairs together: the methods' names where all have the same."""
    both = [arms_of_pair(pair, record) for pair in pairs]
    if len(set(both)) == 1:
        return both[0]
    references = {record.find_checkpoint(pair.reference).method for pair in pairs}
    candidates = {record.find_checkpoint(pair.candidate).adaptation for pair in pairs}
    if references == {FULL} and FULL not in candidates:
        return Arms(_arm(FULL), Arm("PEFT", "PEFT"))
    return Arms(Arm("the reference", "reference"), Arm("the candidate", "candidate"))


def _arm(method: str) -> Arm:
    plain, plus, added = method.partition("+")
    name = method_name(method)
    long = LONG_NAMES.get(plain, Arm(method_name(plain), method_name(plain)))
    return Arm(f"{long.name} with {method_name(added)}", name) if plus else long


def worse_arm(difference: float, arms: Arms) -> Arm:
    """Returns the arm that a difference puts at a disadvantage: above 0 the candidate."""
    return arms.candidate if difference > 0 else arms.reference


def spell_verdict(verdict: Verdict, arms: Arms, difference: float) -> str:
    """A verdict in words.

    >>> arms = name_arms("full", "lora")
    >>> spell_verdict(Verdict.FULL_MORE_FRAGILE, arms, -0.1), spell_verdict(Verdict.LESS_ACCURATE, arms, 0.05)
    ('full more fragile', 'LoRA less accurate')
    """
    if verdict in CANDIDATE_FRAGILE:
        return f"{arms.candidate.short} more fragile"
    if verdict in REFERENCE_FRAGILE:
        return f"{arms.reference.short} more fragile"
    if verdict is Verdict.LESS_ACCURATE:
        return f"{worse_arm(difference, arms).short} less accurate"
    return verdict.value
