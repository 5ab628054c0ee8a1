"""What probes say of the arms, in one sentence a pair."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from robustness.reports.comparisons.claims import Direction
from robustness.reports.summaries.arms import Arms, arms_of_pair
from robustness.reports.summaries.wording import capital
from robustness.reports.tables.probes.sensitivity import CHECK
from robustness.runs.storage.record import RunRecord


def say_sensitivity(compared: pd.DataFrame, record: RunRecord) -> Iterator[str]:
    """Yields for each pair with probes which arm they call more sensitive, and in how many numbers.

    Args:
        compared: sensitivity_pairs.csv's rows; single layers and checks are not counted.
        record: The run's.
    """
    is_check = compared["quantity"].astype(str).str.startswith(CHECK)
    whole = compared[compared["layer"].isna() & compared["module"].isna() & ~is_check]
    several = whole["pair"].nunique() > 1
    for pair in record.pairs:
        rows = whole[whole["pair"] == pair.name]
        if len(rows):
            sentence = _say(rows["direction"].value_counts().to_dict(), arms_of_pair(pair, record))
            yield f"{pair.name}: {sentence}" if several else sentence


def _say(counts: dict[str, int], arms: Arms) -> str:
    candidate, reference, neither = (
        counts.get(each, 0) for each in (Direction.CANDIDATE, Direction.REFERENCE, Direction.NO_DIFFERENCE)
    )
    n = candidate + reference + neither
    if not n:
        return "These probes support no claim about which arm is more sensitive; each row says why."
    numbers = f"{n} numbers that support a claim" if n > 1 else "the only number that supports a claim"
    if candidate and reference:
        said = f"{arms.candidate.name} is more sensitive in {candidate} and {arms.reference.name} in {reference}"
        rest = f"; in {neither} no difference was found" if neither else ""
        return capital(f"{said} of {numbers}{rest}.")
    if candidate or reference:
        arm, other = (arms.candidate, arms.reference) if candidate else (arms.reference, arms.candidate)
        if n == 1:
            return capital(f"{arm.name} is more sensitive than {other.name} in {numbers}.")
        found = candidate or reference
        rest = "" if found == n else "; in the others no difference was found"
        share = f"all {numbers}" if found == n else f"{found} of {numbers}"
        return capital(f"{arm.name} is more sensitive than {other.name} in {share}{rest}.")
    return f"No difference in sensitivity was found in {numbers}; that is no proof of equality."
