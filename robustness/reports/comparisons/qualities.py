"""How good the answers of both arms are, where an answer can be half right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from robustness.reports.comparisons.comparison import Comparison, Family, has_repeats
from robustness.reports.comparisons.grid import OutcomeGrid, RowIndex
from robustness.reports.tables.examples import RIGHT
from robustness.stats import mean_difference, paired_permutation


def compare_qualities(
    grid: OutcomeGrid,
    rows: tuple[RowIndex, RowIndex],
    labels: Mapping[str, object],
    *,
    metric: str,
    is_attacked: bool,
    seed: int,
) -> Iterator[Comparison]:
    """Yields the comparison of both arms' qualities on the same rows; none where every answer is right or wrong.

    Of a test set as it stands over all rows; under an attack of the judged answers to what both arms have right
    before it. If rates end at the floor, it says which arm's answers stay nearer to the gold.

    Args:
        grid: All outcomes.
        rows: Of the same examples on the reference and on the candidate.
        labels: Of the row.
        metric: What the quality is called.
        is_attacked: Whether the rows are of an attack.
        seed: Of the test's draws.
    """
    compared = np.logical_and(*(grid.clean[arm] == RIGHT for arm in rows)) | (not is_attacked)
    qualities = np.stack([grid.numbers("quality")[arm[compared]] for arm in rows])
    told = ~np.isnan(qualities).any(axis=0)
    qualities, groups = qualities[:, told], grid.groups[rows[0][compared]][told]
    if not qualities.size or np.isin(qualities, (0.0, 1.0)).all():
        return
    names = groups if has_repeats(groups) else None
    differences = qualities[0] - qualities[1]
    yield Comparison(
        labels=labels,
        metric=metric,
        population="both_correct" if is_attacked else "all",
        family=Family.SECONDARY,
        n=qualities.shape[1],
        reference_value=float(qualities[0].mean()),
        candidate_value=float(qualities[1].mean()),
        estimate=mean_difference(differences, names),
        test="permutation" if names is None else "permutation-of-groups",
        p_value=paired_permutation(differences, names, rng=np.random.default_rng(seed)),
        n_left_out=int((~told).sum()),
    )
