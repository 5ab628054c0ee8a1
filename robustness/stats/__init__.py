"""Pure functions from outcomes to metrics, intervals, paired tests and verdicts."""

from robustness.stats.bca import bca_mean_interval
from robustness.stats.components import VarianceComponents, separate_seeds
from robustness.stats.equivalence import tost
from robustness.stats.families import Correction, adjust, benjamini_hochberg, holm
from robustness.stats.hierarchy import SeededDifference, bootstrap_over_seeds
from robustness.stats.intervals import (
    Interval,
    bootstrap_f1_interval,
    bootstrap_mean_interval,
    paired_difference_interval,
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
    paired_drop,
)
from robustness.stats.paired import PairedTest, mcnemar_exact, mcnemar_mid_p
from robustness.stats.power import design_effect, detectable_difference, mcnemar_power
from robustness.stats.prediction import Prediction, auc, rank_correlation
from robustness.stats.signed import paired_permutation, signed_rank
from robustness.stats.survival import LogRank, Survival, kaplan_meier, log_rank
from robustness.stats.verdicts import Reason, Verdict, smallest_detectable_difference, verdict

__all__ = [
    "AdvGlueScores",
    "AttackCounts",
    "Correction",
    "Interval",
    "LogRank",
    "PairedTest",
    "Prediction",
    "Reason",
    "SeededDifference",
    "Survival",
    "VarianceComponents",
    "Verdict",
    "accuracy",
    "adjust",
    "advglue_macro",
    "auc",
    "bca_mean_interval",
    "benjamini_hochberg",
    "binary_f1",
    "bootstrap_f1_interval",
    "bootstrap_mean_interval",
    "bootstrap_over_seeds",
    "design_effect",
    "detectable_difference",
    "holm",
    "kaplan_meier",
    "log_rank",
    "mcnemar_exact",
    "mcnemar_mid_p",
    "mcnemar_power",
    "paired_difference_interval",
    "paired_drop",
    "paired_permutation",
    "percentile_interval",
    "rank_correlation",
    "resample_accuracy_and_f1",
    "resample_means",
    "separate_seeds",
    "signed_rank",
    "smallest_detectable_difference",
    "tost",
    "verdict",
    "wilson_bounds",
    "wilson_interval",
]
