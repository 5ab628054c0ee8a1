"""A pair that is given by its arms and not in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from robustness.definitions.expectations import expectation
from robustness.definitions.pairs import Pair, PairEntry, resolve_entry
from robustness.errors import UsageError, shorten
from robustness.options import CheckpointPair, PathLike
from robustness.paths import expand
from robustness.victims.files.named_bases import find_named_base


def choose_pairs(pairs: PathLike | CheckpointPair) -> Path | Pair:
    """Returns the pairs file, or the pair of the arms that are given, as folders or hub ids.

    Raises:
        UsageError: neither is given, or no base can be found.
        DefinitionError: what `make_pair` raises.
    """
    if isinstance(pairs, PathLike):
        return Path(expand(pairs))
    if not isinstance(pairs, CheckpointPair):
        raise UsageError(f"pairs: expected the path of a pairs.toml, or CheckpointPair; got {shorten(repr(pairs))}")
    base = None if pairs.base is None else str(pairs.base)
    return make_pair(str(pairs.reference), str(pairs.candidate), task=str(pairs.task), base=base, labels=pairs.labels)


def make_pair(
    reference: str, candidate: str, *, task: str, base: str | None = None, labels: Mapping[str, str] | None = None
) -> Pair:
    """Returns the pair of two checkpoints, folders or hub ids.

    Args:
        reference: folder or hub id.
        candidate: folder or hub id.
        task: what both are fine-tuned for.
        base: folder or hub id of what both were made of; None: as an adapter among them, or its training, names it.
        labels: label names in the checkpoints' configs, with the task's.

    Raises:
        UsageError: an empty name, or no base that can be found.
        DefinitionError: an unknown task, one checkpoint as both arms, or labels that the task has not.
    """
    arms = expand(reference), expand(candidate)
    found = expand(base) if base else next(filter(None, map(find_named_base, reversed(arms))), None)
    if found is None:
        raise UsageError(
            f"--reference {reference} --candidate {candidate}: neither names its base; give --base with the folder "
            "or hub id of the model that both were fine-tuned from"
        )
    name = " against ".join(Path(arm).name or arm for arm in reversed(arms))
    try:
        entry = PairEntry(
            name=name, task=task, base=found, reference=arms[0], candidate=arms[1], labels=dict(labels or {})
        )
    except ValidationError as error:
        fault = error.errors()[0]
        raise UsageError(
            f"--{fault['loc'][0] if fault['loc'] else 'pair'} {fault['input']!r}: {expectation(fault)}"
        ) from None
    made = resolve_entry(entry, Path.cwd())
    names = _short_names(*arms)
    return replace(made, reference_name=names[0], candidate_name=names[1])


def _short_names(*arms: str) -> tuple[str, str]:
    """What tables call checkpoints: their folders' names, with those above where the last ones are the same."""
    parts = [Path(arm).resolve().parts if Path(arm).is_dir() else (arm,) for arm in arms]
    for n in range(1, max(map(len, parts)) + 1):
        first, second = ("/".join(each[-n:]) for each in parts)
        if first != second:
            break
    return first, second
