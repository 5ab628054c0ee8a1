"""Why a comparison has no verdict, or another than its p-value alone would give it."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """The column `reason` of pairs.csv."""

    FLOOR = "floor"
    CEILING = "ceiling"
    GATE = "gate"
    SUCCESS_RATE_OPPOSES = "success-rate-opposes"
    CLEAN_GAP = "clean-gap"
    TWO_SEEDS = "two-seeds"
    SHARED_REFERENCE = "shared-reference"
    FEW_GROUPS = "few-groups"
    LEFT_OUT = "left-out"
    NOT_PLANNED = "not-planned"

    @property
    def sentence(self) -> str:
        """What a reader should know.

        >>> Reason.TWO_SEEDS.sentence
        'A verdict on a method needs a third training seed.'
        """
        return _SENTENCES[self]


_SENTENCES = {
    Reason.FLOOR: "Both arms are nearly always broken: compare the effort.",
    Reason.CEILING: "Both arms are nearly always right: a stronger attack is needed.",
    Reason.GATE: "The worst case over the test set's attacks does not differ, so no single attack is called.",
    Reason.SUCCESS_RATE_OPPOSES: "On the examples both arms have right, the success rate points the other way.",
    Reason.CLEAN_GAP: "The gap in clean accuracy explains the difference.",
    Reason.TWO_SEEDS: "A verdict on a method needs a third training seed.",
    Reason.SHARED_REFERENCE: "One reference checkpoint serves all candidate seeds: this compares no methods.",
    Reason.FEW_GROUPS: "There are too few groups of examples for a verdict.",
    Reason.LEFT_OUT: "Too many examples have no outcome on one of the arms.",
    Reason.NOT_PLANNED: "The comparison was not planned: it explores.",
}


def read_reason(value: object) -> Reason | None:
    """Returns the reason in a cell of pairs.csv; None where it is empty.

    >>> read_reason("gate"), read_reason(float("nan")), read_reason(None)
    (<Reason.GATE: 'gate'>, None, None)
    """
    return Reason(value) if isinstance(value, str) and value else None
