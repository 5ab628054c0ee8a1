"""The rows that the checkpoints of a group are trained and selected on."""

from __future__ import annotations

from robustness.studies.design import Design, Group
from robustness.training.examples.loading import load_rows
from robustness.training.examples.rows import TrainingRows


def load_group(design: Design, group: Group) -> TrainingRows:
    """Loads the rows that all checkpoints of a group have in common, without any that a recipe adds.

    Raises:
        RobustnessError: what `load_rows` raises.
    """
    limits = group.checkpoints[0].settings
    return load_rows(group.reference, design.data, group.rows, limits.dev_limit, limits.report_limit)
