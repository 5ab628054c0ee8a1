from __future__ import annotations

from pathlib import Path

import pytest

from robustness.definitions.reading import read_definition
from robustness.errors import DefinitionError
from robustness.training.methods import MethodDefinition, find_method, method_names


@pytest.mark.parametrize("name", method_names())
def test_every_shipped_method_is_read_and_tries_two_learning_rates(name: str) -> None:
    method = find_method(name).definition

    assert len(set(method.learning_rates)) == 2
    assert method.is_peft == (name != "full")


def test_an_unknown_method_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(DefinitionError, match="did you mean 'lora'"):
        find_method("lorra")


def test_a_method_without_a_learning_rate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('summary = "mine"\nlearning_rates = []\n', encoding="utf-8")

    with pytest.raises(DefinitionError, match="learning_rates"):
        read_definition(path, MethodDefinition)


def test_a_mistyped_key_of_the_adapter_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'summary = "mine"\nlearning_rates = [1e-3]\n[adapter]\npeft_type = "lora"\nrank = 8\nalfa = 8\n'
        'dropout = 0.0\ntarget_modules = "attention"\nalpha = 8\n',
        encoding="utf-8",
    )

    with pytest.raises(DefinitionError, match="did you mean 'alpha'"):
        read_definition(path, MethodDefinition)
