"""What only the base and the rows can tell of a study: found before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from robustness.errors import DefinitionError, RobustnessError
from robustness.recipes.assets.resources import Resources
from robustness.recipes.augmenting import find_random_edits
from robustness.studies.design import Design, Group, Variant
from robustness.studies.rows import load_group
from robustness.training.adapters import AdaLoraAdapter, LoraAdapter, MpcAdapter, PromptAdapter
from robustness.training.examples.encoding import FORMS
from robustness.training.targets import target_modules
from robustness.tuners.matrices import is_linear
from robustness.victims.files.models import automatic_class
from robustness.victims.heads.kinds import HeadKind, is_decoder, trained_kind
from robustness.victims.inputs import empty_model


def check_design(design: Design) -> dict[str, int]:
    """Refuses what no training could do; returns the number of training rows by group.

    Raises:
        DefinitionError: more rows than a task has, a task that the base cannot be trained for, learnt prompts for
            questions, or too high a rank. The message has the file and its key.
        RobustnessError: rows or lists of a recipe that cannot be read, or a base that cannot be built.
    """
    model = empty_model(design.base)
    for group in design.groups:
        _check_task(design, group, model)
    for variant in design.variants:
        _check_rank(design, variant, model)
    for recipe in {each.defence.recipe for each in design.variants} - {""}:
        find_random_edits(recipe, Resources.of(design.data))
    return {group.label: _count_rows(design, group) for group in design.groups}


def _check_task(design: Design, group: Group, model: Any) -> None:
    kind, config = trained_kind(group.task), model.config
    reads_both_ways = kind is HeadKind.TEXT and not is_decoder(config)  # BERT has a class for text, but no training
    if type(config) not in automatic_class(kind)._model_mapping or reads_both_ways:
        raise DefinitionError(
            f"{design.file.path}: key 'tasks': {group.testset.name} is answered with {kind.traits.answers}, which "
            f"the base of type {config.model_type!r} does not give; name another base or task"
        )
    reason = FORMS[group.task.kind].against_prompts
    prompts = [each.name for each in design.variants if isinstance(each.method.definition.adapter, PromptAdapter)]
    if reason and prompts:
        raise DefinitionError(
            f"{design.file.path}: key 'methods': {', '.join(prompts)}: learnt vectors before the text are not "
            f"trained for {group.testset.name}: {reason}; leave these methods out"
        )


def _check_rank(design: Design, variant: Variant, model: Any) -> None:
    adapter = variant.method.definition.adapter
    if isinstance(adapter, AdaLoraAdapter):
        key, rank = "initial_rank", adapter.initial_rank
    elif isinstance(adapter, LoraAdapter | MpcAdapter):
        key, rank = "rank", adapter.rank
    else:
        return
    targets = design.definition.training.targets
    wanted = adapter.target_modules if targets == "method" else targets
    try:
        name, size = min(_sizes(model, target_modules(model, wanted)), key=lambda found: found[1])
    except RobustnessError as error:
        raise DefinitionError(f"{design.file.path}: key 'methods': {variant.name}: {error}") from None
    if rank > size:
        raise DefinitionError(
            f"{design.file.path}: key 'methods': {variant.name}: {key} {rank} is above the size of the matrix "
            f"{name}, {size}; give at most {size}"
        )


def _sizes(model: Any, suffixes: list[str]) -> Iterator[tuple[str, int]]:
    """The smaller side of each matrix whose name ends so."""
    for name, module in model.named_modules():
        if is_linear(module) and any(f".{name}".endswith(f".{suffix}") for suffix in suffixes):
            yield name, min(module.weight.shape)


def _count_rows(design: Design, group: Group) -> int:
    found = len(load_group(design, group).train)
    if group.rows is not None and found < group.rows:
        raise DefinitionError(
            f"{design.file.path}: key 'rows': {group.rows} is more than the {found} training rows of "
            f"{group.testset.name}; give at most {found}"
        )
    return found
