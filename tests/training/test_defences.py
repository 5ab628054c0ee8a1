from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from robustness.errors import DefinitionError, UsageError
from robustness.training.defences import (
    Defence,
    FreeLb,
    add_to_each,
    find_trained_method,
    read_adversarial,
    refuse_alike,
)
from robustness.training.methods import METHODS_FOLDER


def test_a_name_says_what_is_added_and_keeps_the_definition() -> None:
    found, plain = find_trained_method("lora+freelb+deepwordbug"), find_trained_method("lora")

    assert (found.method.name, found.plain) == ("lora+deepwordbug+freelb", "lora")
    assert found.defence == Defence(is_adversarial=True, recipe="deepwordbug")
    assert found.method.digest == plain.method.digest
    assert (plain.method.name, plain.defence) == ("lora", Defence())


def test_a_methods_file_may_have_a_plus_in_its_path(tmp_path: Path) -> None:
    path = tmp_path / "a+b" / "mine+1.toml"
    path.parent.mkdir()
    shutil.copy(METHODS_FOLDER / "lora.toml", path)

    found = find_trained_method(f"{path}+freelb")

    assert (found.method.name, found.plain, found.method.path) == ("mine+1+freelb", "mine+1", path)
    assert find_trained_method(str(path)).method.name == "mine+1"


@pytest.mark.parametrize("reference", ["lora+", "lora+freelb+freelb", "lora+deepwordbug+checklist", "lora++freelb"])
def test_what_is_added_twice_or_empty_is_refused(reference: str) -> None:
    with pytest.raises(UsageError, match="at most one recipe and freelb"):
        find_trained_method(reference)


def test_an_unknown_method_before_a_plus_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(DefinitionError, match="did you mean 'lora'"):
        find_trained_method("lorra+freelb")


@pytest.mark.parametrize("added", ["", "+freelb", "+deepwordbug"])
def test_one_method_under_two_names_is_refused(added: str) -> None:
    twice = [find_trained_method(f"lora{added}"), find_trained_method(f"lora:rank=8{added}")]

    with pytest.raises(DefinitionError, match="'lora.*' and 'lora-r8.*' are one method, trained twice"):
        refuse_alike(twice, "here")


def test_a_defence_makes_another_method() -> None:
    refuse_alike([find_trained_method(f"lora{added}") for added in ("", "+freelb", "+deepwordbug", "+checklist")], "")


def test_each_method_has_a_twin_for_each_addition() -> None:
    assert add_to_each(["full", "lora"], adversarial=True, recipe="checklist") == [
        *("full", "lora", "full+freelb", "lora+freelb", "full+checklist", "lora+checklist")
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("freelbs", "expected freelb, or freelb:KEY=VALUE"),
        ("freelb:step=3", "unknown key 'step'; did you mean 'steps'"),
        ("freelb:steps=many", "steps is 'many'; expected a number"),
        ("freelb:steps=0", "steps is 0; expected 1 or more"),
        ("freelb:radius=-1", "radius is -1.0; expected 0 or more"),
        ("freelb:initial=inf", "initial is inf; expected 0 or more"),
    ],
)
def test_settings_that_are_unknown_or_out_of_range_are_refused(words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_adversarial(words)


def test_a_name_alone_has_the_defaults() -> None:
    assert read_adversarial("freelb") == FreeLb()
