"""Pure functions from outcomes to metrics, intervals, paired tests and verdicts."""

from robustness.stats.components import separate_seeds
from robustness.stats.doses.monotone import MonotoneTest, monotone_trend
from robustness.stats.doses.power import detectable_slope
from robustness.stats.doses.trends import Fit, Slope, Trend, curvature_over_seeds, judge_trend, slope_over_seeds
from robustness.stats.effort import effort_p_value, less_effort, median_effort, signed_effort_ranks
from robustness.stats.estimates import Estimate, difference_over_seeds, mean_difference
from robustness.stats.families import Branch, Correction, adjust, gatekeep, holm
from robustness.stats.intervals import (
    Interval,
    bootstrap_f1_interval,
    bootstrap_mean_interval,
    percentile_interval,
    resample_accuracy_and_f1,
    resample_means,
    wilson_bounds,
    wilson_interval,
)
from robustness.stats.metrics import (
    AdvGlueScores,
    AttackCounts,
    accuracy,
    advglue_macro,
    binary_f1,
)
from robustness.stats.paired import mcnemar_exact, mcnemar_mid_p
from robustness.stats.power import detectable_by_estimate, detectable_difference, rarer_share
from robustness.stats.prediction import Prediction, auc, rank_correlation
from robustness.stats.signed import paired_permutation
from robustness.stats.verdicts import (
    CANDIDATE_FRAGILE,
    REFERENCE_FRAGILE,
    Evidence,
    Judgement,
    Reason,
    Verdict,
    judge,
)

__all__ = [
    "CANDIDATE_FRAGILE",
    "REFERENCE_FRAGILE",
    "AdvGlueScores",
    "AttackCounts",
    "Branch",
    "Correction",
    "Estimate",
    "Evidence",
    "Fit",
    "Interval",
    "Judgement",
    "MonotoneTest",
    "Prediction",
    "Reason",
    "Slope",
    "Trend",
    "Verdict",
    "accuracy",
    "adjust",
    "advglue_macro",
    "auc",
    "binary_f1",
    "bootstrap_f1_interval",
    "bootstrap_mean_interval",
    "curvature_over_seeds",
    "detectable_by_estimate",
    "detectable_difference",
    "detectable_slope",
    "difference_over_seeds",
    "effort_p_value",
    "gatekeep",
    "holm",
    "judge",
    "judge_trend",
    "less_effort",
    "mcnemar_exact",
    "mcnemar_mid_p",
    "mean_difference",
    "median_effort",
    "monotone_trend",
    "paired_permutation",
    "percentile_interval",
    "rank_correlation",
    "rarer_share",
    "resample_accuracy_and_f1",
    "resample_means",
    "separate_seeds",
    "signed_effort_ranks",
    "slope_over_seeds",
    "wilson_bounds",
    "wilson_interval",
]
