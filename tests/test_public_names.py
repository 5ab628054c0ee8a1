"""What `import robustness` offers is typed, short and explained."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import robustness
from robustness import api
from robustness.definitions.part_docs import field_meanings

CALLS = [call for name, call in vars(api).items() if inspect.isfunction(call) and call.__module__ == api.__name__]
CONDUCT = {"on_progress", "execution"}
"""Arguments that change no result, of every long call."""
PUBLIC = [call for call in CALLS if not call.__name__.startswith("_")]


@pytest.mark.parametrize("call", [*PUBLIC, robustness.Report.plot_budget], ids=lambda call: call.__name__)
def test_a_public_call_names_and_types_each_of_its_few_arguments(call: Callable[..., Any]) -> None:
    signature = inspect.signature(call)
    parameters = [each for name, each in signature.parameters.items() if name != "self"]

    assert len([each for each in parameters if each.name not in CONDUCT]) <= 6
    assert all(each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL) for each in parameters)
    assert all(each.annotation not in (each.empty, "Any") for each in parameters)
    assert signature.return_annotation is not signature.empty
    flags = [each for each in parameters if each.annotation == "bool"]
    assert all(each.kind is each.KEYWORD_ONLY for each in flags)


@pytest.mark.parametrize("settings", [robustness.CheckpointPair, robustness.RunSettings, robustness.TrainSettings])
def test_each_setting_has_a_line_that_explains_it(settings: type[Any]) -> None:
    assert set(settings.model_fields) <= set(field_meanings(settings))


@pytest.mark.parametrize("name", robustness.__all__)
def test_every_public_name_has_a_docstring(name: str) -> None:
    if name != "Search":  # an alias, explained below it
        assert len(inspect.getdoc(getattr(robustness, name)) or "") > 20
