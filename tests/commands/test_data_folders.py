"""A data folder that is missing is told by what named it: the option, or the variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from robustness.definitions.catalog import TESTSETS
from robustness.errors import DataError, UsageError
from robustness.paths import find_data
from robustness.testsets.loading import load_testset


def test_an_option_and_a_variable_that_name_no_folder_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBUSTNESS_DATA", raising=False)
    with pytest.raises(UsageError, match="^--data nowhere: no such folder; .* or leave --data out for the hub$"):
        find_data("nowhere")

    monkeypatch.setenv("ROBUSTNESS_DATA", "nowhere")
    with pytest.raises(UsageError, match="^the variable ROBUSTNESS_DATA is nowhere: .* or unset ROBUSTNESS_DATA"):
        find_data(None)


def test_a_folder_without_a_public_sets_file_says_how_the_hub_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBUSTNESS_DATA", str(tmp_path))

    with pytest.raises(DataError, match="has no advglue/dev.json; add the file, or unset ROBUSTNESS_DATA and leave"):
        load_testset(TESTSETS.find("advglue-sst2"), find_data(None))
