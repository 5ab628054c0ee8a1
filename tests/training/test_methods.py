from __future__ import annotations

from pathlib import Path

import pytest

from robustness.definitions.reading import read_definition
from robustness.errors import DefinitionError
from robustness.training.methods import METHODS_FOLDER, MethodDefinition, find_method, method_names


@pytest.mark.parametrize("name", method_names())
def test_every_shipped_method_is_read_and_tries_two_learning_rates(name: str) -> None:
    method = find_method(name).definition

    assert len(set(method.learning_rates)) == 2
    assert method.paper
    assert method.is_peft == (name != "full")


def test_an_unknown_method_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(DefinitionError, match="did you mean 'lora'"):
        find_method("lorra")


def test_a_method_without_a_learning_rate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('summary = "mine"\nlearning_rates = []\n', encoding="utf-8")

    with pytest.raises(DefinitionError, match="learning_rates"):
        read_definition(path, MethodDefinition)


def test_a_method_of_ones_own_goes_by_the_name_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "tiny-lora.toml"
    path.write_text((METHODS_FOLDER / "lora.toml").read_text(encoding="utf-8"), encoding="utf-8")

    assert find_method(str(path)).name == "tiny-lora"


def test_a_method_of_ones_own_may_not_take_a_shipped_name(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="the name 'lora' is taken"):
        find_method(str(tmp_path / "lora.toml"))


def test_rank_zero_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = (METHODS_FOLDER / "lora.toml").read_text(encoding="utf-8")
    path.write_text(text.replace("rank = 8", "rank = 0"), encoding="utf-8")

    with pytest.raises(DefinitionError, match=r"adapter.lora.*key 'rank': expected more than 0; got 0"):
        find_method(str(path))


def test_an_unknown_kind_of_adapter_is_refused_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = (METHODS_FOLDER / "ssb.toml").read_text(encoding="utf-8")
    path.write_text(text.replace('"ssb"', '"sbb"'), encoding="utf-8")

    with pytest.raises(DefinitionError, match="unknown 'peft_type' 'sbb'; did you mean 'ssb'"):
        find_method(str(path))


def test_a_mistyped_key_of_the_adapter_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'summary = "mine"\nlearning_rates = [1e-3]\n[adapter]\npeft_type = "lora"\nrank = 8\nalfa = 8\n'
        'dropout = 0.0\ntarget_modules = "attention"\nalpha = 8\n',
        encoding="utf-8",
    )

    with pytest.raises(DefinitionError, match="did you mean 'alpha'"):
        read_definition(path, MethodDefinition)
