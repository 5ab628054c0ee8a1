"""Methods with FreeLB and with changed rows, from the command's call to checkpoints, records and pairs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from architectures import Architecture
from transformers import AutoModel

from robustness import TrainSettings, api
from robustness.definitions.pairs import read_pairs
from robustness.errors import CheckpointError, UsageError
from robustness.recipes.assets.resources import Resources
from robustness.recipes.augmenting import find_random_edits
from robustness.training.defences import FreeLb
from robustness.training.methods import METHODS_FOLDER
from robustness.training.training import train
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.files.identity import identify_method

from .conftest import SETTINGS

QUICK = replace(SETTINGS, grid="one", max_steps=2, adversarial=FreeLb(steps=2))


def _train(testset: str, base: Path, data: Path, out: Path, *methods: str, **given: object) -> Path:
    options: dict[str, object] = {"limit": 24, "settings": QUICK, "device": "cpu", "seeds": [0]} | given
    return train(
        testset,
        base=str(base),
        methods=methods,
        out=out,
        data=data,
        find_rewriting=lambda name: find_random_edits(name, Resources.of()),
        **options,  # type: ignore[arg-type]
    )


def _record(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "training.json").read_text())
    return found


@pytest.fixture(scope="module")
def made(testset: str, tiny_base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("defences")
    return _train(testset, tiny_base, data, out, "full", "lora", "lora+freelb", "lora+deepwordbug")


def test_additions_stand_in_names_records_and_pairs(made: Path) -> None:
    record = {path.name: _record(path) for path in made.parent.iterdir() if path.is_dir()}

    names = ["tiny-full-seed0", "tiny-lora-deepwordbug-seed0", "tiny-lora-freelb-seed0", "tiny-lora-seed0"]
    assert sorted(record) == names
    prints = {name: each["fingerprint"] for name, each in record.items()}
    assert [prints[name]["method"] for name in names] == ["full", "lora+deepwordbug", "lora+freelb", "lora"]  # type: ignore[index]
    assert prints["tiny-lora-freelb-seed0"]["settings"]["adversarial"]["steps"] == 2  # type: ignore[index]
    assert prints["tiny-lora-seed0"]["settings"]["adversarial"] is None  # type: ignore[index]
    assert [pair.name for pair in read_pairs(made)] == [
        "tiny-lora-seed0",
        "tiny-lora-freelb-seed0",
        "tiny-lora-freelb-seed0-against-lora",
        "tiny-lora-deepwordbug-seed0",
        "tiny-lora-deepwordbug-seed0-against-lora",
    ]


def test_the_cost_of_training_counts_every_pass(made: Path) -> None:
    """Two optimiser steps of one learning rate each; FreeLB passes each batch twice."""
    passes = {name: _record(made.parent / f"tiny-{name}-seed0")["passes"] for name in ("full", "lora", "lora-freelb")}

    assert passes == {"full": 2, "lora": 2, "lora-freelb": 4}


def test_changed_rows_are_added_and_named_by_their_digest(made: Path) -> None:
    (file,) = made.parent.glob("augmented-deepwordbug-*.jsonl")
    plain, changed = (
        _record(made.parent / f"tiny-{name}-seed0")["fingerprint"] for name in ("lora", "lora-deepwordbug")
    )

    lines = len(file.read_text().splitlines())
    assert (plain["rows_trained"], changed["rows_trained"]) == (24, 24 + lines)  # type: ignore[index]
    assert plain["train_digest"] == changed["train_digest"]  # type: ignore[index]
    assert plain["augmented_digest"] == "" != changed["augmented_digest"]  # type: ignore[index]


def test_additions_make_methods_of_their_own(made: Path, tiny_base: Path) -> None:
    names = ("lora", "lora-freelb", "lora-deepwordbug")
    arms = [read_checkpoint(name, str(made.parent / f"tiny-{name}-seed0"), str(tiny_base)) for name in names]

    assert len({identify_method(arm, "sst2", "").digest for arm in arms}) == 3


def test_a_second_call_trains_nothing_and_keeps_the_pairs(
    made: Path, testset: str, tiny_base: Path, data: Path
) -> None:
    before, said = made.read_text(), []

    again = _train(testset, tiny_base, data, made.parent, "full", "lora", "lora+freelb", "lora+deepwordbug",
                   progress=said.append)  # fmt: skip

    assert again.read_text() == before
    assert said == []


def test_the_options_add_a_twin_to_each_method(testset: str, tiny_base: Path, data: Path, tmp_path: Path) -> None:
    settings = TrainSettings(
        data=data, limit=16, steps=1, grid="one", device="cpu", adversarial="freelb:steps=1", augment="random-chars"
    )

    pairs = api.train(testset, str(tiny_base), ["bitfit"], tmp_path, settings)

    assert [pair.name for pair in read_pairs(pairs)] == [
        "tiny-bitfit-freelb-seed0-against-bitfit",
        "tiny-bitfit-random-chars-seed0-against-bitfit",
    ]


@pytest.mark.parametrize("method", ["prefix", "prompt", "p-tuning", "adalora", "mpc-o"])
def test_freelb_trains_methods_of_every_kind(
    method: str, testset: str, tiny_base: Path, data: Path, tmp_path: Path
) -> None:
    text = (METHODS_FOLDER / f"{method}.toml").read_text()
    mine = tmp_path / "mine.toml"
    mine.write_text(re.sub(r"virtual_tokens = \d+", "virtual_tokens = 4", text))
    settings = replace(QUICK, max_steps=6)

    pairs = _train(testset, tiny_base, data, tmp_path / "out", "full", f"{mine}+freelb", settings=settings)

    (pair,) = read_pairs(pairs)
    assert pair.name == "tiny-mine-freelb-seed0"
    assert not _record(Path(pair.candidate))["failed"]


@pytest.mark.parametrize(
    "architecture",
    [Architecture("t5", None, "end"), Architecture("bart", frame="end"), Architecture("xlnet", None, "xlnet")],
    ids=str,
)
def test_freelb_trains_bases_of_other_kinds(
    architecture: Architecture, testset: str, data: Path, tmp_path: Path
) -> None:
    architecture.save(tmp_path / "base", AutoModel)

    pairs = _train(testset, tmp_path / "base", data, tmp_path / "out", "full", "full+freelb")

    (pair,) = read_pairs(pairs)
    assert (pair.reference_name, pair.candidate_name) == ("tiny-full-seed0", "tiny-full-freelb-seed0")


def test_a_base_without_word_embeddings_is_refused_before_anything_is_trained(
    testset: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Architecture("distilbert").save(tmp_path / "base", AutoModel)
    monkeypatch.setattr(
        "robustness.training.adversarial.embedding_module",
        lambda _model: (_ for _ in ()).throw(CheckpointError("it has no table of word embeddings")),
    )

    with pytest.raises(CheckpointError, match="nothing is trained.*lora.freelb: it has no table of word embeddings"):
        _train(testset, tmp_path / "base", data, tmp_path / "out", "full", "lora+freelb")

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("methods", [["lora+freelb"], ["lora", "ia3+freelb"]])
def test_methods_without_a_partner_are_refused(
    methods: list[str], testset: str, tiny_base: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="a pair needs --method full and one PEFT method"):
        _train(testset, tiny_base, data, tmp_path, *methods)
