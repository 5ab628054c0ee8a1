"""What an interrupted run has not made yet."""

from __future__ import annotations

from itertools import permutations

import pandas as pd

from robustness.engine.outcome import Status
from robustness.runs.cells import NO_ATTACK
from robustness.runs.storage.record import RunRecord, TestsetRecord
from robustness.tasks.objective import ObjectiveKind

COLUMNS = ["checkpoint", "testset", "attack", "n", "n_expected"]


def find_missing(examples: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns the cells with fewer outcomes than examples: checkpoint, testset, attack, n, n_expected."""
    counts = examples.groupby(["checkpoint", "testset", "attack"]).size().to_dict()
    seen = {(testset, attack) for _, testset, attack in counts}
    rows = []
    for checkpoint in record.checkpoints:
        for testset in record.testsets:
            if testset.task == checkpoint.task:
                for attack in (NO_ATTACK, *_attacks(testset, record, seen)):
                    n = counts.get((checkpoint.name, testset.name, attack), 0)
                    attacked = record.count_attacked(checkpoint.name, testset)
                    expected = testset.n_used if attack == NO_ATTACK else attacked
                    if n < expected:
                        rows.append((checkpoint.name, testset.name, attack, n, expected))
    return pd.DataFrame(rows, columns=COLUMNS)


def count_missing_probes(sensitivity: pd.DataFrame, record: RunRecord) -> int:
    """Returns how many probes on one checkpoint and test set are not measured yet."""
    tasks = [testset.task for testset in record.testsets]
    cells = sum(
        min(1, tasks.count(checkpoint.task)) if probe.space == "structure" else tasks.count(checkpoint.task)
        for checkpoint in record.checkpoints
        for probe in record.probes
    )
    return cells - len(sensitivity[["checkpoint", "testset", "probe"]].drop_duplicates())


def count_missing_replays(replays: pd.DataFrame, examples: pd.DataFrame, record: RunRecord) -> int:
    """Returns how many texts that broke one arm of a pair are not scored on the other arm yet."""
    keys = ["testset", "attack", "example_id"]
    attacks = [attack.name for attack in record.attacks if attack.goal == ObjectiveKind.CHANGE_PREDICTION]
    is_text = examples["adversarial_text"].notna() & examples["attack"].isin(attacks)
    found = examples.loc[is_text & (examples["status"] == Status.SUCCEEDED), ["checkpoint", *keys]]
    ways = {way for pair in record.pairs for way in permutations((pair.reference, pair.candidate))}
    partners = pd.DataFrame(sorted(ways), columns=["checkpoint", "target"])
    wanted = found.merge(partners, on="checkpoint").rename(columns={"checkpoint": "source"})
    answered = replays[["source", "target", *keys]].drop_duplicates()
    return len(wanted) - len(wanted.merge(answered, on=["source", "target", *keys]))


def _attacks(testset: TestsetRecord, record: RunRecord, seen: set[tuple[str, str]]) -> list[str]:
    """The attacks that apply to a test set; if not all do, the attacks that any checkpoint has met there."""
    names = [attack.name for attack in record.attacks]
    if testset.n_attacks is None or testset.n_attacks == len(names):
        return names
    return [name for name in names if (testset.name, name) in seen]
