"""Nothing that is read runs code: not models, not tokenizers, not definitions."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import robustness
from robustness import Example
from robustness.definitions.attacks import AttackDefinition
from robustness.definitions.reading import read_definition
from robustness.definitions.suites import SuiteDefinition
from robustness.definitions.testsets import TestsetDefinition
from robustness.errors import DataError, DefinitionError
from robustness.recipes.building import find_attack

PACKAGE = Path(robustness.__file__).parent
RUNS_CODE = {"eval", "exec", "compile", "__import__"}
RECIPE = """summary = "s"
family = "word"
access = "scores"
{more}
[search]
kind = "greedy"

[[transformations]]
kind = "masked-replacements"
model = "{model}"
count = 2
context = "clean"
"""


def calls(name: str) -> list[tuple[Path, ast.Call]]:
    """Calls of any function or method of that name in the package."""
    return [
        (file, node)
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == name
    ]


def build_and_ask(recipe: str) -> None:
    """Loads the recipe's model, at the latest at the first question."""
    attack: Any = find_attack(recipe).attack
    next(attack.search(Example("1", ("a fine film",), 1), np.random.default_rng(0)))


@pytest.mark.parametrize("name", ["from_pretrained", "from_config"])
def test_no_model_config_or_tokenizer_may_bring_code(name: str) -> None:
    """Left unsaid, transformers asks on the terminal, and a yes runs what lies beside the weights."""
    found = calls(name)

    assert found
    for file, call in found:
        if ast.unparse(call.func).startswith(("PeftModel", "PeftConfig", "GenerationConfig")):
            continue  # these know no code of others
        said = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert said.get("trust_remote_code") == "False", f"{file}:{call.lineno}"
        if name == "from_pretrained" and not ast.unparse(call.func).startswith(("AutoTokenizer", "AutoConfig")):
            assert said.get("use_safetensors") == "True", f"{file}:{call.lineno}"


OWN_MESSAGES = PACKAGE / "workers" / "packing.py"
"""Unpickles what the process that started it sends it, and no file."""


def test_nothing_is_evaluated_or_unpickled() -> None:
    assert [
        file.name for name in sorted(RUNS_CODE) for file, call in calls(name) if isinstance(call.func, ast.Name)
    ] == []
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert file == OWN_MESSAGES or not {"pickle", "dill", "joblib", "marshal", "shelve"} & set(names), file


@pytest.mark.parametrize("model", [AttackDefinition, SuiteDefinition, TestsetDefinition])
@pytest.mark.parametrize("key", ["factory", "module", "import", "code", "allow_factory"])
def test_no_key_of_a_definition_names_code(tmp_path: Path, model: Any, key: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'{key} = "os:system"\nsummary = "s"\n')

    with pytest.raises(DefinitionError, match=f"unknown key '{key}'"):
        read_definition(path, model)


def test_a_cascade_from_elsewhere_runs_no_code(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'summary = "s"\nfamily = "ensemble"\naccess = "scores"\n[search]\nkind = "cascade"\n'
        f'members = ["identity", "{tmp_path / "evil.py"}:Evil"]\n'
    )

    with pytest.raises(DefinitionError):
        find_attack(str(recipe))
    assert not (tmp_path / "ran").exists()


def test_a_recipes_model_brings_no_code(bert_lm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt="": "y")
    folder = shutil.copytree(bert_lm, tmp_path / "lm")
    (folder / "magic.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = folder / "config.json"
    auto_map = '"auto_map": {"AutoConfig": "magic.Config", "AutoModelForMaskedLM": "magic.Model"},'
    config.write_text(config.read_text().replace("{", "{" + auto_map, 1).replace('"bert"', '"magic"'))
    recipe = tmp_path / "mine.toml"
    recipe.write_text(RECIPE.format(more="", model=folder))

    with pytest.raises(DataError, match="contains custom code"):
        build_and_ask(str(recipe))
    assert not (tmp_path / "ran").exists()
