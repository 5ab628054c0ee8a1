"""Replay: adversarial texts found on one arm of a pair, scored on the other and on the untuned base."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from robustness.engine.evaluation import Answering
from robustness.errors import RunError
from robustness.runs.cells import NO_ATTACK, UNTUNED, Cell
from robustness.runs.planning.plan import Plan
from robustness.runs.storage.store import Store
from robustness.tasks.grading import Grade
from robustness.tasks.objective import ObjectiveKind
from robustness.testsets.example import Example, Texts, digest_texts
from robustness.victims.isolation import Fault, Isolation, VictimGoneError

logger = logging.getLogger(__name__)


class ReplayVictim(Answering, Protocol):
    """What is asked about texts that were found on another."""

    @property
    def truncated(self) -> set[str]:
        """Digests of the texts that it has not read whole."""
        ...


LoadVictim = Callable[[str], ReplayVictim]
"""A checkpoint's name to its victim."""

LoadUntuned = Callable[[str], ReplayVictim | None]
"""A checkpoint's name to the untuned base under its head; None where there is no such model."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Texts that broke the source in one cell and have not been scored on the target."""

    source: Cell
    target: str
    example_ids: tuple[str, ...]
    texts: tuple[Texts, ...]


def replay_missing(
    plan: Plan,
    store: Store,
    load_victim: LoadVictim,
    load_untuned: LoadUntuned,
    examples: Mapping[str, Sequence[Example]],
    report: Callable[[str], None],
) -> None:
    """Scores on each arm what was found on its partner, and on the base; what an earlier run scored is left alone.

    Texts on which a prediction was kept broke nothing and are not replayed. Each target is loaded at most once, and
    only where something is missing. The base has no head for the task: it is scored under the source's own.
    """
    targets = dict.fromkeys(name for pair in plan.pairs for name in pair.names)
    for target in targets:
        missing = list(_missing(plan, store, target))
        if not missing:
            continue
        victim = load_victim(target)
        for replay in missing:
            report(f"{replay.source.checkpoint} -> {target} | {replay.source.testset} | {replay.source.attack}")
            answers = _grade(victim, replay, examples[replay.source.testset])
            store.note_truncated(target, victim.truncated)  # a text that its source reads whole may be too long here
            store.add_replays(replay.source, target, answers)
    for source in targets:
        _replay_on_base(_found(plan, store, {source}, UNTUNED), store, load_untuned, examples, report)


def _replay_on_base(
    found: Iterator[Replay],
    store: Store,
    load_untuned: LoadUntuned,
    examples: Mapping[str, Sequence[Example]],
    report: Callable[[str], None],
) -> None:
    """Stores what the base answers to the clean texts, as those of no attack, then to the adversarial ones."""
    missing = list(found)
    victim = load_untuned(missing[0].source.checkpoint) if missing else None
    if victim is None:
        return
    for replay in missing:
        source = replay.source
        report(f"{source.checkpoint} -> {UNTUNED} | {source.testset} | {source.attack}")
        clean = Cell(source.checkpoint, source.testset, NO_ATTACK)
        known = store.replayed(clean, UNTUNED)
        texts = {e.id: e.texts for e in examples[source.testset] if e.id in replay.example_ids and e.id not in known}
        for part in (Replay(clean, UNTUNED, tuple(texts), tuple(texts.values())), replay):
            answers = _grade(victim, part, examples[source.testset]) if part.texts else []
            store.add_replays(part.source, UNTUNED, answers)


def _grade(victim: ReplayVictim, replay: Replay, examples: Sequence[Example]) -> list[tuple[str, Grade]]:
    """Ids with grades; texts that the victim fails on are left out."""
    known = {example.id: example for example in examples}
    found = zip(replay.example_ids, replay.texts, strict=True)
    asked = {name: known[name].with_texts(texts) for name, texts in found}

    def answer(part: Mapping[str, Example]) -> Iterator[tuple[str, Grade]]:
        rows = victim.rows(list(part.values()))
        return ((name, victim.grader.grade(row, each)) for (name, each), row in zip(part.items(), rows, strict=True))

    where = f"{replay.source.checkpoint} -> {replay.target} | {replay.source.testset} | {replay.source.attack}"
    answered = []
    try:
        for name, grade in Isolation().ask(answer, asked, lambda example: digest_texts(example.texts)):
            if isinstance(grade, Fault):
                logger.warning("%s: %s is left out, the same command tries again: %s", where, name, grade.reason)
            else:
                answered.append((name, grade))
    except VictimGoneError as error:
        raise RunError(f"{where}: {error}; see to it, and the same command goes on") from error
    return answered


def _missing(plan: Plan, store: Store, target: str) -> Iterator[Replay]:
    partners = {source for pair in plan.pairs for source, other in (pair.names, pair.names[::-1]) if other == target}
    return _found(plan, store, partners, target)


def _found(plan: Plan, store: Store, sources: set[str], target: str) -> Iterator[Replay]:
    attacks = {attack.name for attack in plan.attacks if attack.objective.kind is ObjectiveKind.CHANGE_PREDICTION}
    for cell in plan.cells:
        if cell.checkpoint in sources and cell.attack in attacks:
            found = store.unreplayed_successes(cell, target)
            if found:
                ids, texts = zip(*found, strict=True)
                yield Replay(cell, target, ids, texts)
