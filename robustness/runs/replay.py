"""Replay: adversarial texts found on one arm of a pair, scored on the other and on the untuned base."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from robustness.engine.evaluation import Answering
from robustness.errors import RunError
from robustness.runs.cells import NO_ATTACK, UNTUNED, Cell
from robustness.runs.planning.loads import list_transfers
from robustness.runs.planning.plan import Plan
from robustness.runs.storage.store import Store
from robustness.runs.workload import Transfer, Workload, name_part
from robustness.tasks.grading import Grade
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

    transfer: Transfer
    example_ids: tuple[str, ...]
    texts: tuple[Texts, ...]


def replay_missing(
    plan: Plan,
    store: Store,
    load_victim: LoadVictim,
    load_untuned: LoadUntuned,
    examples: Mapping[str, Sequence[Example]],
    workload: Workload,
) -> None:
    """Scores on each arm what was found on its partner, and on the base; what an earlier run scored is left alone.

    Each target is loaded at most once, and only where something is missing. The base has no head for the task: it is
    scored under the source's own.
    """
    names = dict.fromkeys(name for pair in plan.pairs for name in pair.names)
    transfers = list(list_transfers(plan))
    for target in names:
        missing = _find_missing([each for each in transfers if each.target == target], store, workload)
        if not missing:
            continue
        victim = load_victim(target)
        for replay in missing:
            workload.start(replay.transfer)
            answers = _grade(victim, replay, examples[replay.transfer.source.testset])
            store.note_truncated(target, victim.truncated)  # a text that its source reads whole may be too long here
            store.add_replays(replay.transfer.source, target, answers)
            workload.finish(replay.transfer)
    for source in names:
        on_base = [each for each in transfers if each.target == UNTUNED and each.source.checkpoint == source]
        _replay_on_base(_find_missing(on_base, store, workload), store, load_untuned, examples, workload)


def _find_missing(transfers: Iterable[Transfer], store: Store, workload: Workload) -> list[Replay]:
    """The texts that have not been scored on their target; a transfer without any is done."""
    missing = []
    for transfer in transfers:
        found = store.unreplayed_successes(transfer.source, transfer.target)
        if found:
            ids, texts = zip(*found, strict=True)
            missing.append(Replay(transfer, ids, texts))
        else:
            workload.skip(transfer)
    return missing


def _replay_on_base(
    missing: Sequence[Replay],
    store: Store,
    load_untuned: LoadUntuned,
    examples: Mapping[str, Sequence[Example]],
    workload: Workload,
) -> None:
    """Stores what the base answers to the clean texts, as those of no attack, then to the adversarial ones."""
    victim = load_untuned(missing[0].transfer.source.checkpoint) if missing else None
    for replay in missing:
        source = replay.transfer.source
        if victim is None:
            workload.skip(replay.transfer)
            continue
        workload.start(replay.transfer)
        clean = Cell(source.checkpoint, source.testset, NO_ATTACK)
        known = store.replayed(clean, UNTUNED)
        texts = {e.id: e.texts for e in examples[source.testset] if e.id in replay.example_ids and e.id not in known}
        for part in (Replay(Transfer(clean, UNTUNED), tuple(texts), tuple(texts.values())), replay):
            answers = _grade(victim, part, examples[source.testset]) if part.texts else []
            store.add_replays(part.transfer.source, UNTUNED, answers)
        workload.finish(replay.transfer)


def _grade(victim: ReplayVictim, replay: Replay, examples: Sequence[Example]) -> list[tuple[str, Grade]]:
    """Ids with grades; texts that the victim fails on are left out."""
    known = {example.id: example for example in examples}
    found = zip(replay.example_ids, replay.texts, strict=True)
    asked = {name: known[name].with_texts(texts) for name, texts in found}

    def answer(part: Mapping[str, Example]) -> Iterator[tuple[str, Grade]]:
        rows = victim.rows(list(part.values()))
        return ((name, victim.grader.grade(row, each)) for (name, each), row in zip(part.items(), rows, strict=True))

    where = name_part(replay.transfer)
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
