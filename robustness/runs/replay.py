"""Replay: scores adversarial texts of one arm on the other arm and on the untuned base."""

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
    """A victim for texts found on another checkpoint."""

    @property
    def truncated(self) -> set[str]:
        """Digests of truncated texts."""
        ...


LoadVictim = Callable[[str], ReplayVictim]
"""From a checkpoint's name to its victim."""

LoadUntuned = Callable[[str], ReplayVictim | None]
"""From a checkpoint's name to the untuned base with its head; None if there is no such model."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Texts that broke the source in one cell and are not scored on the target yet."""

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
    """Scores each arm's partner's texts on the arm and on the base; skips texts that an earlier run scored.

    Loads each target at most once, and only if texts are missing. The base has no head for the task and gets the
    source's head.
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
            store.note_truncated(target, victim.truncated)  # a text of the source may be too long here
            store.add_replays(replay.transfer.source, target, answers)
            workload.finish(replay.transfer)
    for source in names:
        on_base = [each for each in transfers if each.target == UNTUNED and each.source.checkpoint == source]
        _replay_on_base(_find_missing(on_base, store, workload), store, load_untuned, examples, workload)


def _find_missing(transfers: Iterable[Transfer], store: Store, workload: Workload) -> list[Replay]:
    """The texts without a score on their target; a transfer without such texts is done."""
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
    """Stores the base's answers to the clean texts (attack `none`), then to the adversarial texts."""
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
    """Ids with grades, without texts on which the victim fails."""
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
        raise RunError(f"{where}: {error}; mend it, and the same command resumes") from error
    return answered
