"""The run folders of a study: started by the gate, then filled."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from robustness.runs.opening import opened
from robustness.runs.planning.plan import Plan, PlanSettings, make_plan
from robustness.runs.run import execute
from robustness.studies.carrying import carry_outcomes
from robustness.studies.conduct import Conduct
from robustness.studies.design import Design, Group, Matching, PlannedRun
from robustness.studies.graph import CHECKPOINTS, run_folder
from robustness.studies.pairing import Arm, keep_matched, write_pairs_file
from robustness.studies.rows import load_group
from robustness.tasks.graders import grader_for
from robustness.victims.loading import place

REPLACED = ".replaced"
"""Ending of a run folder of an earlier content of the study's file."""


def start(design: Design, run: PlannedRun, arms: Sequence[Arm], out: Path, conduct: Conduct) -> None:
    """Writes the pairs of a run, checks each, and starts the run folder.

    Raises:
        RobustnessError: no pair may be compared, or what `opened` raises.
    """
    folder = run_folder(out, run)
    replaced = folder.with_name(folder.name + REPLACED)
    if folder.exists() and not replaced.exists():
        folder.replace(replaced)  # before anything can fail: its rows are not those of this content
    shutil.rmtree(folder, ignore_errors=True)
    if run.matching is Matching.CLEAN:
        keep_matched(arms, out)
    write_pairs_file(design, run.group, run.matching, arms, out)
    plan = plan_run(design, run, out, conduct.device)
    with opened(plan, folder, place(conduct.device, plan.settings.dtype), conduct.on_progress or (lambda _: None)):
        pass
    siblings = [each for each in design.runs if each.group is run.group and each.suite is run.suite]
    for donor in (replaced, *(run_folder(out, each) for each in siblings if each is not run)):
        carry_outcomes(donor, folder)
    shutil.rmtree(replaced, ignore_errors=True)


def fill(design: Design, run: PlannedRun, out: Path, conduct: Conduct) -> None:
    """Computes the missing outcomes of a run folder; raises what `execute` does."""
    plan = plan_run(design, run, out, conduct.device)
    execute(plan, run_folder(out, run), conduct.on_progress, conduct.execution)


def plan_run(design: Design, run: PlannedRun, out: Path, device: str) -> Plan:
    """Returns the plan of a run folder."""
    return make_plan(
        PlanSettings(
            suite=run.reference,
            pairs=out / CHECKPOINTS / f"{run.group.label}-{run.matching}.toml",
            data=design.data,
            limit=design.definition.limit,
            seed=design.definition.seed,
            device=device,
        )
    )


def find_floor(design: Design, group: Group) -> float:
    """Returns the score of the best constant answer on the rows that select a group's checkpoints."""
    rows = load_group(design, group)
    return float(grader_for(rows.task).blind_answer(rows.selecting).points)
