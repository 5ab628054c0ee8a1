"""The protocol of every probe, shipped or a user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from robustness.errors import ProbeError
from robustness.recipes.assets.resources import Resources
from robustness.sensitivity.measurement import Measurement, Space
from robustness.tasks.abilities import Ability
from robustness.testsets.example import Example

if TYPE_CHECKING:  # a victim imports torch, which the protocol does not need
    from robustness.victims.files.checkpoint import Checkpoint
    from robustness.victims.heads.head import Head, LabelHead


class Unsupported(ProbeError):  # noqa: N818 - a finding about the checkpoint, not a failure
    """Raised by a probe that is not defined for a checkpoint: its row says `unsupported` with the reason."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A measurement and its place: one example, one layer, or the whole."""

    measurement: Measurement
    example: Example | None = None
    layer: int | None = None
    """Counted from 0, the first block's input."""
    module: str | None = None
    low: float | None = None
    """Ends of a 95 % interval, for a reading of the whole; the tables compute intervals over examples."""
    high: float | None = None


def _load_nothing(checkpoint: Checkpoint) -> Head:
    raise Unsupported(f"{checkpoint.name} cannot be loaded here")


@dataclass(frozen=True, slots=True)
class Subject:
    """One checkpoint as a probe sees it."""

    checkpoint: Checkpoint
    """Folder, base and adaptation: `TensorFolder` reads weights of checkpoint or base one by one, without a model."""
    examples: Sequence[Example]
    """Examples to measure on; for a probe of structure those of the task's first test set in the run."""
    seed: int
    digest: str
    """The probe's digest: with the seed and an example's id it seeds all randomness."""
    load_victim: Callable[[], Head]
    """The checkpoint with its adapter merged; loaded at the first call and kept for the next probe."""
    partners: Sequence[Checkpoint] = ()
    """The other arms of the checkpoint's pairs."""
    load_partner: Callable[[Checkpoint], Head] = _load_nothing
    """A partner with its adapter merged, loaded at every call."""
    resources: Resources = field(default_factory=Resources.of)
    """The data folders, for a probe that reads word lists."""
    load_unmerged: Callable[[Checkpoint], Any] = _load_nothing
    """The PeftModel of the checkpoint or of a partner, not merged, in float32 on the CPU; loaded at every call."""

    @property
    def full_partner(self) -> Checkpoint | None:
        """The full checkpoint paired with a PEFT checkpoint; never the base, which may be an arm of other pairs."""
        whole = (partner for partner in self.partners if not partner.is_adapter)
        return next((partner for partner in whole if partner.folder.resolve() != partner.base.resolve()), None)

    @property
    def any_victim(self) -> Head:
        """The victim with any kind of answer; a probe of structure that never calls this loads no model."""
        return self.load_victim()

    @property
    def deciding_victim(self) -> Head:
        """The victim, whose answer is the largest of one row of logits (labels or spans).

        Raises:
            Unsupported: its answer is a response of several tokens.
        """
        victim = self.load_victim()
        if Ability.LOGITS not in victim.can:
            raise Unsupported("it answers with a response of several tokens; this probe measures one row of logits")
        return victim

    @property
    def victim(self) -> LabelHead:
        """The victim, which answers with labels.

        Raises:
            Unsupported: it gives no scores of labels.
        """
        from robustness.victims.heads.head import with_scores

        victim = with_scores(self.load_victim())
        if victim is None:
            raise Unsupported("it answers without scores of labels; this probe measures functions to labels")
        return victim


@runtime_checkable
class Probe(Protocol):
    """One sensitivity measure.

    A probe keeps no state between subjects. Its generators are seeded by (subject.seed, subject.digest, example id),
    so that no number depends on other measurements.
    """

    @property
    def space(self) -> Space:
        """The space that it perturbs. A probe of structure runs once per checkpoint, others once per test set."""
        ...

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """Yields readings.

        Raises:
            Unsupported: the probe cannot measure this checkpoint; the row says so.
            DataError: an asset is missing; the row is `errored`, and the same command tries again.
        """
        ...


@dataclass(frozen=True, slots=True)
class NamedProbe:
    """A probe as a run knows it."""

    name: str
    digest: str
    """Changes whenever its numbers could change."""
    probe: Probe
    examples: int | None = None
    """Maximum of examples of each test set."""
