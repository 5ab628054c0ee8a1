"""How the arms of a pair are called where people read."""

from __future__ import annotations

from robustness.reports.answers import method_name
from robustness.runs.record import PairRecord, RunRecord


def arm_names(pair: PairRecord, record: RunRecord) -> tuple[str, str]:
    """Returns the reference's and the candidate's name: their adaptations, their own names where those are one."""
    reference, candidate = (
        method_name(record.find_checkpoint(name).adaptation) for name in (pair.reference, pair.candidate)
    )
    return (pair.reference, pair.candidate) if reference == candidate else (reference, candidate)
