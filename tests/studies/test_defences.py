"""A study with FreeLB and changed rows trains what `robustness train` trains under the same names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_study import write_study
from studies.conftest import Desk

from robustness.recipes.assets.resources import Resources
from robustness.recipes.augmenting import find_random_edits
from robustness.runs.storage.record import read_record
from robustness.studies.tables import read_rows
from robustness.training.training import train

DEFENDED = ("lora-r1+freelb", "lora-r1+deepwordbug", "full+freelb")
METHODS = (
    """["full", { method = "lora+freelb", rank = 1 }, { method = "lora+deepwordbug", rank = 1 }, "full+freelb"]"""
)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("defences")
    desk = Desk(write_study(folder, methods=METHODS, seeds="[0]", more='match = "clean"', epochs=1), folder / "out")
    result, _ = desk.run()
    assert {ended.state for ended in result.ended.values()} == {"done"}, result.ended
    return desk


def test_its_trainings_are_those_of_train(desk: Desk, tmp_path: Path) -> None:
    place = desk.file.parent
    settings = next(desk.design().checkpoints).settings
    train(
        str(place / "tiny.toml"),
        base=str(place / "base"),
        methods=["full", "full+freelb", "lora:rank=1+freelb", "lora:rank=1+deepwordbug"],
        seeds=[0],
        out=tmp_path,
        settings=settings,
        find_rewriting=lambda name: find_random_edits(name, Resources.of()),
        device="cpu",
    )

    for name in DEFENDED:
        here, there = (
            json.loads((folder / "training.json").read_text())
            for folder in (
                desk.out / f"checkpoints/tiny-{name}-seed0",
                tmp_path / f"tiny-{name.replace('+', '-')}-seed0",
            )
        )
        assert here["fingerprint"].pop("settings") == there["fingerprint"].pop("settings") | {"match": "clean"}
        assert here["fingerprint"] == there["fingerprint"]
        assert (here["passes"], here["selecting_scores"]) == (there["passes"], there["selecting_scores"])
    assert here["passes"] == 3 * 4  # of 64 rows in batches of 16, each three times


def test_every_one_is_a_candidate_against_plain_full_fine_tuning(desk: Desk) -> None:
    record = read_record(desk.out / "runs" / "tiny-best-letters")

    assert {pair.reference for pair in record.pairs} == {"tiny-full-seed0"}
    assert [pair.candidate for pair in record.pairs] == [f"tiny-{name}-seed0" for name in DEFENDED]
    methods = {each.name: each.method for each in record.checkpoints}
    assert methods == {f"tiny-{name}-seed0": name for name in ("full", *DEFENDED)}


def test_tables_have_their_names_families_and_contrasts(desk: Desk) -> None:
    rows = [row for row in read_rows(desk.out / "checkpoints.csv") if row["matching"] == "best"]

    assert [(row["method"], row["family"], row["contrast"], row["defence"]) for row in rows] == [
        ("full", "full", "", ""),
        ("lora-r1+freelb", "lora+freelb", "full-vs-peft", "freelb"),
        ("lora-r1+deepwordbug", "lora+deepwordbug", "full-vs-peft", "deepwordbug"),
        ("full+freelb", "full+freelb", "full-vs-full", "freelb"),
    ]
    assert json.loads(rows[1]["parameters"]) == {"rank": 1}
    attacks = read_rows(desk.out / "runs" / "tiny-best-letters" / "attacks.csv")
    shares = {row["method"]: float(row["trainable_share"]) for row in attacks}
    assert shares == pytest.approx({row["method"]: float(row["trainable_share"]) for row in rows}, rel=1e-5)
    assert {row["method"] for row in attacks} == {"full", *DEFENDED}
    pairs = read_rows(desk.out / "runs" / "tiny-best-letters" / "pairs.csv")
    contrasts = {(row["method"], row["contrast"]) for row in pairs if row["pair"].endswith("seed0")}
    assert contrasts == {(row["method"], row["contrast"]) for row in rows[1:]}


def test_changed_rows_lie_beside_the_checkpoints_and_are_trained_on(desk: Desk) -> None:
    (file,) = (desk.out / "checkpoints").glob("augmented-deepwordbug-*.jsonl")
    lines = len(file.read_text().splitlines())

    rows = {row["method"]: row for row in read_rows(desk.out / "checkpoints.csv")}
    assert {row["rows"] for row in rows.values()} == {"64"}
    assert rows["full"]["trained_rows"] == rows["full+freelb"]["trained_rows"] == "64"
    assert int(rows["lora-r1+deepwordbug"]["trained_rows"]) == 64 + lines > 64


def test_the_same_call_again_has_nothing_to_do(desk: Desk) -> None:
    _, said = desk.run()

    assert said == []
