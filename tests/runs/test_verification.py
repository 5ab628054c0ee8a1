from __future__ import annotations

import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from robustness import RunSettings, api
from robustness.cli import main
from robustness.errors import CheckpointError, RunError, UsageError
from robustness.progress import Progress


@pytest.fixture(scope="module")
def finished(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of copies of the checkpoints, which tests may break."""
    folder = tmp_path_factory.mktemp("verified")
    for name in ("base", "full", "lora"):
        shutil.copytree(tiny.folder / name, folder / name)
    (folder / "lora" / "config.json").unlink()  # as peft saves it: labels come from the partner
    shutil.copy(tiny.pairs, folder / "pairs.toml")
    attacks = ["deepwordbug", "input-reduction", "fgsm"]
    options: dict[str, Any] = {"data": tiny.data, "testsets": [str(tiny.testset)], "attacks": attacks, "limit": 6}
    return Path(api.run("smoke", folder / "pairs.toml", folder / "run", RunSettings(**options)).folder)


def change(folder: Path, copy: Path, statement: str) -> Path:
    shutil.copytree(folder, copy)
    with sqlite3.connect(copy / "run.sqlite") as connection:
        assert connection.execute(statement).rowcount > 0
    return copy


def run_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["robustness", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_a_run_agrees_with_its_checkpoints(finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    told: list[Progress] = []
    found = api.verify(finished, sample=10_000, on_progress=told.append)

    assert [each.message for each in told] == ["full | judging again", "lora | judging again"]
    assert told[0].done == 0 < told[1].done < told[1].total == found.sampled
    assert found.disagreements == () and found.sampled == found.stored >= 2 * 6 * 2  # `none` and one attack at least
    assert run_command(["verify", str(finished), "--sample", "5"], monkeypatch) == 0
    assert f"5 of {found.stored} stored texts judged again: 0 disagreements" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "UPDATE outcomes SET adversarial_text='[\"awful\"]' WHERE gold='positive'",
            "the run says",
        ),
        ("UPDATE outcomes SET correct=1-correct WHERE attack='none'", "stored as "),
        ("UPDATE outcomes SET status='failed' WHERE status='succeeded' AND attack='deepwordbug'", "stored as failed"),
        ("UPDATE outcomes SET status='succeeded' WHERE status='failed' AND attack='none'", "stored as succeeded"),
        ("UPDATE outcomes SET response='neutral' WHERE attack='none'", "stored with answer neutral for gold"),
        (
            "UPDATE outcomes SET gold='neutral' WHERE attack='none'",
            "for gold neutral; the labels are",
        ),
    ],
)
def test_rows_that_were_tampered_with_are_found(
    finished: Path, tmp_path: Path, statement: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tampered = change(finished, tmp_path / "run", statement)

    found = api.verify(tampered, sample=1000)

    assert found.disagreements and all(message in each for each in found.disagreements)
    assert run_command(["verify", str(tampered), "--sample", "1000"], monkeypatch) == 1


def test_a_changed_checkpoint_is_found(finished: Path, tmp_path: Path) -> None:
    weights = finished.parent / "full" / "model.safetensors"
    kept = weights.read_bytes()
    tensors = load_file(weights)
    tensors["classifier.weight"] *= -1

    try:
        save_file(tensors, weights, {"format": "pt"})
        found = api.verify(finished, sample=1000)
        weights.unlink()
        with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
            api.verify(finished)
    finally:
        weights.write_bytes(kept)

    assert found.disagreements[0].startswith("full: the weights in ")
    assert len(found.disagreements) > 10 and all(each.startswith("full") for each in found.disagreements)


def test_a_sample_is_the_same_for_the_same_seed_alone(finished: Path, tmp_path: Path) -> None:
    tampered = change(finished, tmp_path / "run", "UPDATE outcomes SET quality=quality/2 + 2")

    first, again, other = (api.verify(tampered, sample=8, seed=seed).disagreements for seed in (0, 0, 1))

    assert len(first) == 8 and first == again != other


def test_what_cannot_be_verified_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        api.verify(finished, sample=0)
    with pytest.raises(RunError, match=r"no run\.json"):
        api.verify(tmp_path)
