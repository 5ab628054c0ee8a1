"""Shipped studies: a protocol that papers cite by its digest does not change under its name."""

from __future__ import annotations

from pathlib import Path

from robustness.definitions.studies import STUDIES, find_study
from robustness.studies.graph import digest_protocol

STANDARD_V1 = "6790e98ef4e50f2d"
"""Of the file, and of all methods, suites, attacks, probes and test sets that it names.

Where one of them changes, results are no longer those of `standard-v1`: ship the new protocol as `standard-v2`.
"""


def test_the_protocol_of_papers_is_what_it_was() -> None:
    assert digest_protocol(find_study("standard-v1")) == STANDARD_V1


def test_a_changed_file_of_a_shipped_name_is_another_protocol(tmp_path: Path) -> None:
    shipped = STUDIES.find("standard-v1").path.read_text(encoding="utf-8")
    same, other = (tmp_path / name / "standard-v1.toml" for name in ("same", "other"))
    for file, text in ((same, shipped), (other, shipped.replace("seeds = [", "seeds = [97, "))):
        file.parent.mkdir()
        file.write_text(text, encoding="utf-8")

    assert digest_protocol(find_study(str(same))) == STANDARD_V1
    assert digest_protocol(find_study(str(other))) != STANDARD_V1


def test_a_setting_that_came_later_counts_where_a_file_has_it(tmp_path: Path) -> None:
    shipped = STUDIES.find("standard-v1").path.read_text(encoding="utf-8")
    other = tmp_path / "standard-v1.toml"
    other.write_text(shipped.replace("[training]", "[training]\nreport_limit = 7"), encoding="utf-8")

    assert "[training]" in shipped
    assert digest_protocol(find_study(str(other))) != STANDARD_V1
