from __future__ import annotations

import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

from robustness.cli import app
from robustness.definitions.studies import StudyDefinition, StudyTraining, read_study

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")


def _block(language: str) -> str:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)[0]


def test_the_pages_study_is_one(tmp_path: Path) -> None:
    file = tmp_path / "capacity.toml"
    file.write_text(_block("toml"), encoding="utf-8")

    study = read_study(file)

    assert [len(list(each.combinations())) for each in study.methods] == [1, 1, 1, 7]


def test_the_pages_commands_have_options_that_are_known() -> None:
    """A base that is missing is found after all options are read."""
    for line in _block("console").splitlines():
        found = CliRunner().invoke(app, [*shlex.split(line)[1:]])

        assert "capacity.toml: no such file" in str(found.exception)


def test_every_key_of_a_study_is_explained() -> None:
    from robustness.definitions.part_docs import field_meanings

    described = set(field_meanings(StudyDefinition)) | {"summary", "paper", "deviations"}
    assert set(StudyDefinition.model_fields) - {"training"} <= described
    assert set(StudyTraining.model_fields) <= set(field_meanings(StudyTraining))
