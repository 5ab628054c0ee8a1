"""A study on a real Ray cluster of two nodes."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray_nodes import two_nodes
from studies.conftest import Desk

from robustness.studies.journal import State
from robustness.workers.execution import Execution


@pytest.mark.soak  # a cluster of its own, whose workers import for minutes on a busy machine
@pytest.mark.timeout(3000)
def test_a_study_on_two_ray_nodes_ends_in_the_same_tables(small: Path, tmp_path: Path) -> None:
    whole, desk = Desk(small, tmp_path / "whole"), Desk(small, tmp_path / "out")
    whole.run()

    with two_nodes() as cluster:
        result, _ = desk.run(Execution("ray", workers=2, ray_address=cluster.address))

    assert all(ended.state is State.DONE for ended in result.ended.values())
    assert desk.tables() == whole.tables()
    assert desk.counts() == whole.counts()
