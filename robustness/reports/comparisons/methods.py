"""Methods: pairs whose candidates differ by their training seed alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import PurePath
from statistics import fmean

import pandas as pd

from robustness.reports.comparisons.comparison import Family
from robustness.runs.storage.record import CheckpointRecord, PairRecord, RunRecord
from robustness.stats import Verdict

FULL, BASE = "full", "base"
HEADLINE = "full-vs-peft"


@dataclass(frozen=True, slots=True)
class Method:
    """One definition of a method with base, task and training rows, and the pairs that trained it."""

    name: str
    """As tables and sentences have it, with what tells it from the run's other methods of its kind."""
    pairs: tuple[PairRecord, ...]
    labels: dict[str, object]
    """Columns of its rows in pairs.csv."""


@dataclass(frozen=True, slots=True)
class _Trained:
    """The first pair of a method with its checkpoints."""

    pair: PairRecord
    reference: CheckpointRecord
    candidate: CheckpointRecord


def group_seeds(record: RunRecord) -> list[tuple[PairRecord, ...]]:
    """Returns the pairs of a run in order of appearance, those together that differ by their training seed alone."""
    arms = {each.name: each for each in record.checkpoints}
    found: dict[tuple[str, ...], list[PairRecord]] = {}
    for pair in record.pairs:
        reference, candidate = arms[pair.reference], arms[pair.candidate]
        key = (pair.task, pair.base, candidate.method, candidate.method_digest, reference.method_digest)
        found.setdefault(key, []).append(pair)
    return list(map(tuple, found.values()))


def name_methods(record: RunRecord) -> list[Method]:
    """Returns the methods of a run in order of appearance; rank 4 and rank 64, or two bases, are two methods."""
    arms = {each.name: each for each in record.checkpoints}
    groups = group_seeds(record)
    firsts = [_Trained(pair, arms[pair.reference], arms[pair.candidate]) for pair, *_ in groups]
    kinds: dict[tuple[str, str], list[_Trained]] = {}
    for first in firsts:
        kinds.setdefault((first.pair.task, first.candidate.method), []).append(first)
    return [
        _method(pairs, first, kinds[first.pair.task, first.candidate.method], arms)
        for pairs, first in zip(groups, firsts, strict=True)
    ]


def pairs_of_methods(labels: Iterable[str], record: RunRecord) -> dict[str, tuple[PairRecord, ...]]:
    """Returns the pairs behind pooled rows, by their name in column `pair`; other names have none."""
    known = {each.name: each.pairs for each in name_methods(record)}
    return {label: known[name] for label in labels if (name := label.rpartition(",")[0]) in known}


def pairs_in_methods(pairs: pd.DataFrame, record: RunRecord) -> frozenset[str]:
    """Returns the names of the pairs for which a method's rows over several training seeds speak.

    They do so where they have every planned comparison of the pair: one that a single seed lacks is in none of them.
    """
    pooled = pairs.loc[pairs["n_seeds"].astype(float) > 1, "pair"].unique()
    if not len(pooled):
        return frozenset()
    planned = pairs.loc[pairs["family"] == Family.PLANNED, ["pair", "testset", "attack"]]
    places = {name: set(zip(mine["testset"], mine["attack"], strict=True)) for name, mine in planned.groupby("pair")}
    return frozenset(
        pair.name
        for label, mine in pairs_of_methods(pooled, record).items()
        for pair in mine
        if places.get(pair.name, set()) <= places.get(label, set())
    )


def shown_rows(pairs: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns the rows that a reader sees first: of methods over their seeds, then of pairs without such a method.

    Args:
        pairs: pairs.csv's rows.
        record: The run's.
    """
    pooled = pairs["n_seeds"].astype(float) > 1
    return pd.concat([pairs[pooled], pairs[~pooled & ~pairs["pair"].isin(pairs_in_methods(pairs, record))]])


def name_contrast(reference: str, candidate: str) -> str:
    """Returns what a pair of adaptations compares, the reference first.

    >>> name_contrast("full", "lora"), name_contrast("lora", "dora"), name_contrast("base", "full")
    ('full-vs-peft', 'peft-vs-peft', 'base-vs-tuned')
    """
    kinds = [adaptation if adaptation in (FULL, BASE) else "peft" for adaptation in (reference, candidate)]
    return "-vs-".join(kind if kind == BASE or BASE not in kinds else "tuned" for kind in kinds)


def contrast_of(pair: PairRecord, record: RunRecord) -> str:
    """Returns what a pair of a run compares."""
    return name_contrast(*(record.find_checkpoint(name).adaptation for name in (pair.reference, pair.candidate)))


def fragile_verdicts(contrast: str) -> tuple[Verdict, Verdict]:
    """Returns what says that the candidate is more fragile in a contrast, and what says so of the reference.

    >>> [verdict.value for verdict in fragile_verdicts("full-vs-peft")]
    ['peft-more-fragile', 'full-more-fragile']
    """
    if contrast == HEADLINE:
        return Verdict.PEFT_MORE_FRAGILE, Verdict.FULL_MORE_FRAGILE
    return Verdict.CANDIDATE_MORE_FRAGILE, Verdict.REFERENCE_MORE_FRAGILE


def spell_verdicts(rows: pd.DataFrame, contrasts: pd.Series) -> pd.DataFrame:
    """Returns rows whose verdicts name full fine-tuning and PEFT where that is the contrast of the row."""
    words = dict(zip(fragile_verdicts(""), fragile_verdicts(HEADLINE), strict=True))
    verdicts = rows["verdict"]
    return rows.assign(verdict=verdicts.where(contrasts != HEADLINE, verdicts.replace(words)))


def _method(
    pairs: Sequence[PairRecord], first: _Trained, others: Sequence[_Trained], arms: Mapping[str, CheckpointRecord]
) -> Method:
    candidate = first.candidate
    trained = [arms[pair.candidate].train_seconds for pair in pairs]
    known = [seconds for seconds in trained if seconds is not None]
    name = _spell(first, others)
    seeds = len({pair.seed for pair in pairs})
    return Method(
        name=name,
        pairs=tuple(pairs),
        labels={
            "pair": f"{name}, {seeds} seeds",
            "contrast": name_contrast(first.reference.adaptation, candidate.adaptation),
            "base": first.pair.base,
            "method": candidate.method,
            "task": first.pair.task,
            "method_digest": candidate.method_digest,
            "trainable_parameters": candidate.trainable_parameters,
            "trainable_share": candidate.trainable_share,
            "base_precision": candidate.base_precision,
            "train_seconds": fmean(known) if known else None,
        },
    )


def _spell(first: _Trained, others: Sequence[_Trained]) -> str:
    """Task and method; what else differs from the run's other methods of that name, itself among them."""
    names = dict.fromkeys(name for other in others for name in other.candidate.settings)
    telling = [name for name in names if len({other.candidate.settings.get(name) for other in others}) > 1]
    words = [first.pair.task, first.candidate.method, *_settings(first, telling)]
    bases = {other.pair.base for other in others}
    if len(bases) > 1:
        words += ["on", _shortest(first.pair.base, bases)]
    mine = first.pair.base, _settings(first, telling)
    alike = [other for other in others if (other.pair.base, _settings(other, telling)) == mine]
    if len({other.candidate.method_digest for other in alike}) > 1:
        words.append(first.candidate.method_digest[:6])
    reference, references = first.reference, [other.reference for other in alike]
    if len({each.method_digest for each in references}) > 1:
        words += ["against", reference.method]
        if len({each.method_digest for each in references if each.method == reference.method}) > 1:
            words.append(reference.method_digest[:6])
    return " ".join(words)


def _shortest(base: str, bases: Set[str]) -> str:
    """The fewest last parts of a path that no other path ends in."""
    parts, others = PurePath(base).parts, [PurePath(other).parts for other in bases - {base}]
    alone = (n for n in range(1, len(parts)) if all(other[-n:] != parts[-n:] for other in others))
    return "/".join(parts[-n:]) if (n := next(alone, 0)) else base


def _settings(arm: _Trained, names: Sequence[str]) -> list[str]:
    return [f"{name}={arm.candidate.settings.get(name, 'default')}" for name in names]
