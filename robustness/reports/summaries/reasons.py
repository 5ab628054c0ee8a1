"""What a reader should know where a comparison has no verdict, or another than its difference suggests."""

from __future__ import annotations

from robustness.stats import Reason

_SENTENCES = {
    Reason.FLOOR: "Both arms are nearly always broken: compare the effort.",
    Reason.CEILING: "Both arms are nearly always right: a stronger attack is needed.",
    Reason.GATE: "The worst case over the test set's attacks does not differ, so no single attack is called.",
    Reason.SUCCESS_RATE_OPPOSES: "On the examples both arms have right, the success rate points the other way.",
    Reason.CLEAN_GAP: "The gap in clean accuracy explains the difference.",
    Reason.CLEAN_UNKNOWN: "Answers to the clean texts are unknown, so the difference may be a gap in clean accuracy.",
    Reason.TWO_SEEDS: "A verdict on a method needs a third training seed.",
    Reason.SHARED_REFERENCE: "One reference checkpoint serves several training seeds: this compares no methods.",
    Reason.SHARED_CANDIDATE: "One candidate checkpoint stands for several training seeds: it was trained once.",
    Reason.LEFT_OUT: "Too many examples have no outcome on one of the arms.",
}
_SHORT = {
    Reason.SUCCESS_RATE_OPPOSES: "rate opposes",
    Reason.SHARED_REFERENCE: "one reference",
    Reason.SHARED_CANDIDATE: "one candidate",
}


def explain(reason: Reason) -> str:
    """Returns a reason in a sentence.

    >>> explain(Reason.TWO_SEEDS)
    'A verdict on a method needs a third training seed.'
    """
    return _SENTENCES[reason]


def name_shortly(reason: Reason) -> str:
    """Returns a reason where room is short.

    >>> name_shortly(Reason.CLEAN_GAP), name_shortly(Reason.SHARED_REFERENCE)
    ('clean gap', 'one reference')
    """
    return _SHORT.get(reason, reason.value.replace("-", " "))


def read_reason(value: object) -> Reason | None:
    """Returns the reason in a cell of pairs.csv; None where it is empty.

    >>> read_reason("gate"), read_reason(float("nan")), read_reason(None)
    (<Reason.GATE: 'gate'>, None, None)
    """
    return Reason(value) if isinstance(value, str) and value else None
