"""Attacks and probes that a checkpoint cannot serve are refused from files and names alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from robustness import Access, Example, Search
from robustness.definitions.catalog import ATTACKS
from robustness.definitions.pairs import read_pairs
from robustness.definitions.tasks import find_task
from robustness.engine.needs import needs_of
from robustness.errors import UsageError
from robustness.recipes.building import find_attack
from robustness.recipes.textattack.bridge import TextAttackSearch
from robustness.runs.planning.plan import Plan, PlanSettings, make_plan
from robustness.runs.planning.serving import find_lacks
from robustness.tasks.abilities import Ability
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.heads import kinds
from robustness.victims.heads.kinds import HeadKind, head_kind

SUITE = """summary = "Two attacks."
testsets = ["sst2", "squad"]
attacks = ["deepwordbug", "pgd"]
"""


class Logits:
    access = Access.SCORES
    needs = frozenset({Ability.SCORES})

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        yield [example]
        return example


def write_pairs(folder: Path, *tasks: str) -> Path:
    """A pair for each task, of checkpoints that are not there: whoever loads them fails."""
    pairs = [
        f'[[pair]]\nname = "{task}"\ntask = "{task}"\nbase = "base"\nfull = "{task}/full"\npeft = "{task}/lora"\n'
        for task in tasks
    ]
    path = folder / "pairs.toml"
    path.write_text("\n".join(pairs))
    return path


def plan(pairs: Path, **settings: Any) -> Plan:
    suite = pairs.parent / "mine.toml"
    suite.write_text(SUITE)
    return make_plan(PlanSettings(suite=str(suite), pairs=pairs, **settings))


def test_a_named_attack_that_needs_scores_is_refused_on_a_pair_that_answers_with_spans(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        plan(write_pairs(tmp_path, "sst2", "squad"), attacks=("deepwordbug", Logits))

    message = str(refused.value)
    assert message.startswith("--attack Logits: needs scores of labels, which checkpoint ")
    assert "squad/full does not give: it answers with spans of a paragraph" in message
    assert message.endswith("leave the attack out, or run pair squad without it")


def test_an_attack_that_is_refused_for_spans_runs_on_labels(tmp_path: Path) -> None:
    made = plan(write_pairs(tmp_path, "sst2"), attacks=(Logits, "pgd", "hotflip-vocabulary"))

    assert {cell.attack for cell in made.cells} == {"none", "Logits", "pgd", "hotflip-vocabulary"}
    assert made.left_out == ()


def test_what_a_suite_lists_is_left_out_where_it_cannot_be_served_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    less = replace(HeadKind.SPAN.traits, can=frozenset({Ability.LOSSES}))
    monkeypatch.setitem(kinds._TRAITS, HeadKind.SPAN, less)

    made = plan(write_pairs(tmp_path, "sst2", "squad"))

    assert "pgd" in {cell.attack for cell in made.cells if cell.testset == "sst2"}
    assert "pgd" not in {cell.attack for cell in made.cells if cell.testset == "squad"}
    full, lora = made.left_out
    assert "squad/full: left out there: pgd: each needs answers to embeddings" in full
    assert "squad/lora does not give: it answers with spans" in lora


def test_a_probe_of_functions_to_labels_is_refused_on_spans_and_one_of_margins_is_not(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, "squad")

    with pytest.raises(UsageError, match=r"--probe sharpness: needs scores of labels, which checkpoint .*squad/full"):
        plan(pairs, probes=("margin", "sharpness"))
    assert {cell.probe for cell in plan(pairs, probes=("margin",)).probe_cells} == {"margin"}


def test_textattacks_own_recipes_say_that_they_need_scores() -> None:
    assert needs_of(TextAttackSearch(object())) == {Ability.LOSSES, Ability.SCORES}


def test_gradients_at_texts_are_all_that_a_gradient_search_needs() -> None:
    assert needs_of(find_attack("hotflip-vocabulary").attack) == {Ability.TEXT_GRADIENTS}
    assert needs_of(find_attack("deepwordbug").attack) == {Ability.LOSSES}
    embedding = [name for name in ATTACKS.names() if ATTACKS.find(name).definition.family == "embedding"]
    assert {needs_of(find_attack(name).attack) for name in embedding} == {frozenset({Ability.EMBEDDINGS})}


def write_folder(folder: Path, name: str, architecture: str) -> str:
    (folder / name).mkdir(parents=True)
    (folder / name / "config.json").write_text(json.dumps({"model_type": "gpt2", "architectures": [architecture]}))
    save_file({"weight": np.zeros(1, dtype=np.float32)}, folder / name / "model.safetensors")
    return str(folder / name)


@pytest.mark.parametrize(
    ("architecture", "task", "kind"),
    [
        ("GPT2LMHeadModel", "sst2", HeadKind.VERBALISERS),
        ("GPT2ForSequenceClassification", "sst2", HeadKind.LABELS),
        ("GPT2ForQuestionAnswering", "squad", HeadKind.SPAN),
    ],
)
def test_what_a_checkpoint_can_serve_is_told_from_its_config(
    architecture: str, task: str, kind: HeadKind, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path, "full", architecture)
    checkpoint = read_checkpoint("full", folder, folder)

    assert head_kind(checkpoint, find_task(task)) is kind
    can = head_kind(checkpoint, find_task(task)).traits.can
    assert (Ability.SCORES in can) == (kind is not HeadKind.SPAN)
    assert {Ability.LOSSES, Ability.TEXT_GRADIENTS} <= can


def test_where_a_task_leaves_the_kind_open_each_checkpoint_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    less = replace(HeadKind.VERBALISERS.traits, can=frozenset({Ability.LOSSES}))
    monkeypatch.setitem(kinds._TRAITS, HeadKind.VERBALISERS, less)
    path = write_pairs(tmp_path, "sst2")
    write_folder(tmp_path, "base", "GPT2Model")
    write_folder(tmp_path, "sst2/full", "GPT2LMHeadModel")
    write_folder(tmp_path, "sst2/lora", "GPT2ForSequenceClassification")

    (lack,) = find_lacks(read_pairs(path), {"pgd": frozenset({Ability.EMBEDDINGS}), "words": less.can})

    assert (lack.asking, Path(lack.checkpoint).name) == ("pgd", "full")
    assert "needs answers to embeddings" in lack.reason
    assert lack.reason.endswith("it answers with words after a prompt")
