"""attacks.csv: what each attack did to each checkpoint, and the worst case over all attacks."""

from __future__ import annotations

import pandas as pd

from robustness.engine.evaluation import NO_ATTACK
from robustness.engine.goal import GoalKind
from robustness.engine.outcome import Status
from robustness.reports.columns import Table, arrange
from robustness.reports.examples import keeps_prediction
from robustness.stats import AttackCounts, wilson_interval

WORST_CASE = "worst-case"
CELL = ["checkpoint", "adaptation", "task", "testset"]


def build_attacks(examples: pd.DataFrame) -> pd.DataFrame:
    """Returns attacks.csv's rows: each attack on each checkpoint and test set, then its worst case.

    An attack that keeps the prediction leaves every right answer right: it has a success rate, but no robust accuracy
    and no part in the worst case.
    """
    attacked = examples[examples["attack"] != NO_ATTACK]
    rows = []
    for cell, group in attacked.groupby(CELL, sort=False):
        names = dict(zip(CELL, cell, strict=True))
        rows += [names | _row(str(attack), part) for attack, part in group.groupby("attack", sort=False)]
        changing = group[~keeps_prediction(group)]
        if changing["attack"].nunique() > 1:
            rows.append(names | _row(WORST_CASE, worst_case(changing)))
    return arrange(Table.ATTACKS, rows)


def worst_case(examples: pd.DataFrame) -> pd.DataFrame:
    """One row per example over all attacks of one checkpoint and test set.

    Succeeded if any attack succeeded; otherwise errored if any errored; queries, forwards and seconds add up.
    """
    ranks = {Status.FAILED: 0, Status.SKIPPED: 1, Status.ERRORED: 2, Status.SUCCEEDED: 3}
    ranked = examples.assign(rank=examples["status"].map(ranks))
    worst = ranked.sort_values("rank", kind="stable").groupby("example_id", sort=False).last()
    sums = examples.groupby("example_id")[["queries", "forwards", "seconds"]].sum()
    blank = {"attack": WORST_CASE, "modified_share": float("nan"), "similarity": float("nan")}
    return worst.assign(**{name: sums[name] for name in sums}, **blank).reset_index()


def _row(attack: str, part: pd.DataFrame) -> dict[str, object]:
    counts = AttackCounts.of(part["status"])
    attempted = part[part["status"].isin([Status.SUCCEEDED, Status.FAILED])]
    broken = part[part["status"] == Status.SUCCEEDED]
    goal = part["goal"].iloc[0]
    robust = wilson_interval(counts.failed, counts.n_judged)
    robust_accuracy = {
        "robust_accuracy": counts.robust_accuracy,
        "robust_accuracy_low": robust.low,
        "robust_accuracy_high": robust.high,
    }
    success = wilson_interval(counts.succeeded, counts.succeeded + counts.failed)
    return {
        "attack": attack,
        "n": counts.n,
        "n_skipped": counts.skipped,
        "n_errored": counts.errored,
        "clean_accuracy": counts.clean_accuracy,
        **({} if goal == GoalKind.KEEP_PREDICTION else robust_accuracy),
        "attack_success_rate": counts.attack_success_rate,
        "attack_success_rate_low": success.low,
        "attack_success_rate_high": success.high,
        "mean_queries": attempted["queries"].mean(),
        "mean_forwards": attempted["forwards"].mean(),
        "mean_modified_share": broken["modified_share"].mean(),
        "mean_similarity": broken["similarity"].mean(),
        "seconds": part["seconds"].sum(),
        "goal": goal,
    }
