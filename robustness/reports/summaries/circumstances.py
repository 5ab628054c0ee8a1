"""What a reader should know of how a pair was measured, before its differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robustness.reports.summaries.arms import arms_of_pair
from robustness.reports.summaries.wording import join_words, percent
from robustness.runs.storage.record import CheckpointRecord, PairRecord, RunRecord


def describe_circumstances(pairs: Sequence[PairRecord], record: RunRecord) -> Iterator[str]:
    """Yields that arms know nothing of the task, that answers change by rounding, and that rows were chosen.

    Args:
        pairs: One, or those of a method.
        record: The run's.
    """
    arms = {name: record.find_checkpoint(name) for pair in pairs for name in (pair.reference, pair.candidate)}
    yield from _near_floor(pairs, record)
    if noise := max(map(noise_floor, arms.values()), default=0.0):
        yield (
            f"Noise floor: {percent(noise)} of an arm's answers change when the same texts are asked in another "
            "batch or order, or by the unmerged adapter; a difference that is no larger may be rounding."
        )
    yield from _quantised(pairs, record)
    yield from _chosen(pairs, record)


def noise_floor(checkpoint: CheckpointRecord) -> float:
    """Returns the share of a checkpoint's answers that change with what should not matter; 0 where not measured."""
    return checkpoint.noise_floor or 0.0


def is_near_floor(checkpoint: CheckpointRecord) -> bool:
    """Whether a checkpoint does no better on clean texts than one answer given to all."""
    return checkpoint.clean_accuracy <= checkpoint.majority_share


def _near_floor(pairs: Sequence[PairRecord], record: RunRecord) -> Iterator[str]:
    said: dict[str, None] = {}
    for pair in pairs:
        arms = arms_of_pair(pair, record)
        for name, arm in ((pair.reference, arms.reference), (pair.candidate, arms.candidate)):
            checkpoint = record.find_checkpoint(name)
            if is_near_floor(checkpoint):
                scores = f"{percent(checkpoint.clean_accuracy)}, against {percent(checkpoint.majority_share)}"
                said[f"{arm.name} ({scores})"] = None
    if said:
        yield (
            f"Near the floor: on clean texts {join_words(list(said))} did no better than one answer given to all: "
            "differences here say nothing of robustness."
        )


def _quantised(pairs: Sequence[PairRecord], record: RunRecord) -> Iterator[str]:
    """Which arms stand on a base in 4 bit, and what 4 bits alone change in each arm: of several pairs, at most."""
    on_four_bit: dict[str, None] = {}
    measured: dict[str, tuple[float, float]] = {}
    for pair in pairs:
        arms = arms_of_pair(pair, record)
        for name, arm in ((pair.reference, arms.reference), (pair.candidate, arms.candidate)):
            checkpoint = record.find_checkpoint(name)
            if checkpoint.base_precision == "4bit":
                on_four_bit[arm.name] = None
            if checkpoint.quantised_changed is not None:
                found = checkpoint.quantised_changed, checkpoint.quantised_probability or 0.0
                measured[arm.name] = tuple(map(max, found, measured.get(arm.name, found)))  # type: ignore[assignment]
    if on_four_bit:
        yield f"Evaluated on a base in 4 bit, unmerged: {join_words(list(on_four_bit))}."
    effects = [
        f"{percent(changed)} of the answers of {name} (a probability by up to {probability:.3f})"
        for name, (changed, probability) in measured.items()
    ]
    if effects:
        yield (
            f"On clean texts 4 bits alone change {join_words(effects)}; a difference that is no larger may be "
            "quantisation."
        )


def _chosen(pairs: Sequence[PairRecord], record: RunRecord) -> Iterator[str]:
    if record.attacked is None:
        return
    rows = {(each.checkpoint, each.testset): set(each.rows) for each in record.chosen}
    counts = []
    for testset in dict.fromkeys(each.testset for each in record.chosen):
        arms = [[(name, testset) for name in (pair.reference, pair.candidate)] for pair in pairs]
        # An arm of several pairs is attacked on the rows of all of them.
        of_pairs = [len(rows[one] & rows[other]) for one, other in arms if one in rows and other in rows]
        if of_pairs:
            fewest, most = min(of_pairs), max(of_pairs)
            n = f"{most}" if fewest == most else f"{fewest} to {most}"
            counts.append(f"{n} of {record.find_testset(testset).n_used} of {testset}")
    if counts:
        yield (
            f"Only rows that both arms have right are attacked ({join_words(counts)}): accuracies under attack are "
            "of these."
        )
