"""Pure functions from outcomes to metrics, intervals, paired tests and verdicts."""

from robustness.stats.intervals import (
    Interval,
    bootstrap_f1_interval,
    bootstrap_mean_interval,
    paired_difference_interval,
    percentile_interval,
    resample_accuracy_and_f1,
    resample_means,
    wilson_interval,
)
from robustness.stats.metrics import (
    AdvGlueScores,
    AttackCounts,
    accuracy,
    advglue_macro,
    binary_f1,
    paired_drop,
)
from robustness.stats.paired import PairedTest, holm, mcnemar_exact
from robustness.stats.verdicts import Verdict, smallest_detectable_difference, verdict

__all__ = [
    "AdvGlueScores",
    "AttackCounts",
    "Interval",
    "PairedTest",
    "Verdict",
    "accuracy",
    "advglue_macro",
    "binary_f1",
    "bootstrap_f1_interval",
    "bootstrap_mean_interval",
    "holm",
    "mcnemar_exact",
    "paired_difference_interval",
    "paired_drop",
    "percentile_interval",
    "resample_accuracy_and_f1",
    "resample_means",
    "smallest_detectable_difference",
    "verdict",
    "wilson_interval",
]
