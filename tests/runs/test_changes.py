"""What may not change between a run and its resumption, and what else a run says of its inputs."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from robustness import RunSettings, api
from robustness.cli import main
from robustness.errors import DefinitionError, RunError
from robustness.runs.storage import record as record_module


@pytest.fixture
def world(tiny: Any, tmp_path: Path) -> Path:
    """Copies of the tiny pair, which a test may change."""
    for name in ("base", "full", "lora"):
        shutil.copytree(tiny.folder / name, tmp_path / name)
    shutil.copy(tiny.pairs, tmp_path / "pairs.toml")
    return tmp_path


def start(tiny: Any, world: Path, suite: str = "smoke", **options: Any) -> Any:
    options = {"attacks": ["identity"], "limit": 4} | options
    return api.run(
        suite,
        world / "pairs.toml",
        world / "run",
        RunSettings(data=tiny.data, testsets=[str(tiny.testset)], **options),
    )


def test_whatever_changed_is_named(tiny: Any, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(tiny, world)
    start(tiny, world)  # nothing changed

    with monkeypatch.context() as patch:
        versions = record_module.library_versions() | {"torch": "9.9", "pandas": "9.9"}
        patch.setattr(record_module, "library_versions", lambda: versions)
        with pytest.raises(RunError, match=rf"different: torch \({torch.__version__.split('+')[0]}.* -> 9\.9\)\)"):
            start(tiny, world)
    with pytest.raises(RunError, match=r"different: attacks: deepwordbug \(was not in it\); seed \(0 -> 3\)"):
        start(tiny, world, attacks=["identity", "deepwordbug"], seed=3)
    tokenizer = world / "lora" / "tokenizer_config.json"
    tokenizer.write_text(tokenizer.read_text().replace("{", '{"changed": true,', 1))
    with pytest.raises(RunError, match=r"different: checkpoints: lora \(changed\)\)"):
        start(tiny, world)


def test_a_set_that_was_only_evaluated_is_not_attacked_in_the_same_folder(tiny: Any, world: Path) -> None:
    suite, other = world / "mine.toml", world / "other.toml"
    other.write_text(tiny.testset.read_text())
    suite.write_text(
        f'summary = "s"\ntestsets = ["{tiny.testset}"]\nevaluated = ["{other}"]\nattacks = ["identity"]\nlimit = 4\n'
    )
    pairs = world / "pairs.toml"
    for _ in range(2):  # the second has nothing to do
        api.run(str(suite), pairs, world / "run", RunSettings(data=tiny.data))

    with pytest.raises(RunError, match=r"different: cells: other \(changed\)\)"):
        api.run(
            str(suite), pairs, world / "run", RunSettings(data=tiny.data, testsets=[str(tiny.testset), str(other)])
        )


def test_a_changed_base_changes_the_adapter_on_it(tiny: Any, world: Path) -> None:
    start(tiny, world)
    weights = load_file(world / "base" / "model.safetensors")
    name = next(iter(weights))
    save_file(weights | {name: weights[name] + 1}, world / "base" / "model.safetensors", {"format": "pt"})

    with pytest.raises(RunError, match="checkpoints: lora"):
        start(tiny, world)


def test_arms_saved_in_different_precision_are_warned_of(tiny: Any, world: Path) -> None:
    path = world / "full" / "model.safetensors"
    save_file({name: each.to(torch.bfloat16) for name, each in load_file(path).items()}, path, {"format": "pt"})

    start(tiny, world)

    warnings = json.loads((world / "run" / "run.json").read_text())["warnings"]
    said = "the weights of full are saved as BF16, those of lora (an adapter's with its base's) as F32"
    assert any(said in warning for warning in warnings)


@pytest.mark.parametrize("key", ["attacks", "probes"])
def test_a_suite_from_elsewhere_runs_no_code(tiny: Any, world: Path, key: str) -> None:
    (world / "evil.py").write_text(f"open({str(world / 'ran')!r}, 'w')")
    names = {"attacks": '"identity"', "probes": ""} | {key: f'"{world / "evil.py"}:Evil"'}
    (world / "mine.toml").write_text(
        f'summary = "s"\ntestsets = ["sst2"]\nattacks = [{names["attacks"]}]\nprobes = [{names["probes"]}]\n'
    )

    with pytest.raises(DefinitionError, match="whose code would be run; a definition cannot"):
        start(tiny, world, suite=str(world / "mine.toml"), attacks=())
    assert not (world / "ran").exists()


@pytest.mark.parametrize("file", ["../secret.tsv", "/etc/passwd", "a/../../b.tsv", "C:\\\\secret.tsv", "..\\\\b.tsv"])
def test_a_definition_reads_no_file_outside_the_data_folder(tiny: Any, world: Path, file: str) -> None:
    definition = world / "mine.toml"
    definition.write_text(tiny.testset.read_text().replace("tiny/dev.tsv", file))

    with pytest.raises(DefinitionError, match="does not lie in the data folder"):
        api.plan("smoke", world / "pairs.toml", RunSettings(testsets=[str(definition)], data=tiny.data))


def test_no_message_steers_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["robustness", "report", "\x1b[2Jgone\x07\x9b31m"])

    with pytest.raises(SystemExit):
        main()

    shown = capsys.readouterr().err
    assert r"\x1b[2Jgone\x07\x9b31m" in shown.replace("\n", "") and "\x1b[2J" not in shown
