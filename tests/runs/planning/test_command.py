"""The command that run.json gives repeats the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from robustness import cli
from robustness.definitions.pairs import BasePrecision
from robustness.errors import UsageError
from robustness.runs.planning.given import make_pair
from robustness.runs.planning.plan import Plan, PlanSettings, command_words

SETTINGS = PlanSettings(
    suite="smoke",
    pairs=Path("ck/pairs.toml"),
    data=Path("data"),
    testsets=("sst2", "rte"),
    attacks=("pwws", "mine.py:Shout"),
    probes=("margin",),
    limit=7,
    seed=3,
    device="cpu",
    dtype="bfloat16",
    allow_untrained=True,
    allow_changed=True,
    compile=True,
    cache=Path("cache"),
    attack_fields=("premise", "question"),
    base_precision=BasePrecision.FULL,
)


GIVEN = make_pair("a/full", "b/lora", task="sst2", base="c", labels={"LABEL_0": "negative"})


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        *(PlanSettings(suite="smoke", pairs=pairs, data=Path("data")) for pairs in (Path("pairs.toml"), GIVEN)),
    ],
)
def test_the_command_line_gives_the_settings_back(
    settings: PlanSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    given: list[PlanSettings] = []

    def take(settings: PlanSettings) -> Plan:
        given.append(settings)
        raise UsageError("enough")

    monkeypatch.setattr("robustness.runs.planning.plan.make_plan", take)
    monkeypatch.setattr("sys.argv", [*command_words(settings), "--out", "runs/x"])

    with pytest.raises(SystemExit):
        cli.main()

    assert given == [settings]


def test_every_setting_is_tried() -> None:
    plain = PlanSettings(suite="", pairs=Path())

    assert all(getattr(SETTINGS, name) != getattr(plain, name) for name in PlanSettings.model_fields)


def test_checkpoints_are_called_by_their_folders_with_those_above_where_names_are_the_same(tmp_path: Path) -> None:
    names = {}
    for first, second in (("one/full", "one/lora"), ("one/last", "two/last")):
        folders = [tmp_path / name for name in (first, second)]
        for folder in folders:
            folder.mkdir(parents=True)
        pair = make_pair(str(folders[0]), str(folders[1]), task="sst2", base="c")
        names[first, second] = pair.names
        assert (pair.reference, pair.candidate) == (str(folders[0]), str(folders[1]))

    assert names == {("one/full", "one/lora"): ("full", "lora"), ("one/last", "two/last"): ("one/last", "two/last")}
    assert make_pair("org/full", "org/lora", task="sst2", base="c").names == ("org/full", "org/lora")
