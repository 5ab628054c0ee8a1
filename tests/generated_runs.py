"""Made-up runs of a task that is answered with free text, no model needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustness.definitions.tasks import find_task
from robustness.engine.outcome import Outcome, Status
from robustness.runs.cells import NO_ATTACK, Cell
from robustness.runs.storage.record import (
    AttackRecord,
    CheckpointRecord,
    PairRecord,
    RunRecord,
    TestsetRecord,
    write_record,
)
from robustness.runs.storage.store import Store
from robustness.tasks.grading import Grade

FULL, LORA = "full-0", "lora-0"


@dataclass(frozen=True)
class Said:
    """What an arm answers to a prompt, and how right that is."""

    text: str
    quality: float
    correct: bool = False


RIGHT = Said("inform(name[Portal], rating[good])", 1.0, correct=True)
WRONG = Said("inform(name[Portl], rating[good])", 0.5)


def record_of(
    task: str = "viggo", attacks: Sequence[str] = ("deepwordbug", "best-of-n"), n: int = 4, noise: float | None = 0.0
) -> RunRecord:
    """A run of one pair on one set of a task."""
    checkpoint = {"task": task, "base": "base", "train_seed": 0, "weights_digest": "w", "merge_difference": None}
    return RunRecord(
        suite="generation",
        seed=0,
        limit=None,
        device="cpu",
        dtype="float32",
        fingerprint={},
        pairs=(PairRecord(name="pair", task=task, base="base", reference=FULL, candidate=LORA, seed=0),),
        tasks=(find_task(task),),
        checkpoints=tuple(
            CheckpointRecord(
                name=name,
                adaptation=adaptation,
                clean_accuracy=0.7,
                majority_share=0.2,
                n_clean=48,
                noise_floor=noise,
                n_noise=0 if noise is None else 48,
                **checkpoint,
            )
            for name, adaptation in ((FULL, "full"), (LORA, "lora"))
        ),
        testsets=(
            TestsetRecord(
                name="set", task=task, kind="clean", provenance="official", n=n, n_used=n, digest="d", scores_f1=False
            ),
        ),
        attacks=tuple(AttackRecord(name=each, family="character", digest="d") for each in attacks),
        warnings=(),
        started="2026-01-01T00:00:00+00:00",
        machine="machine",
        versions={},
        command=("robustness", "run", "generation"),
    )


def outcome(number: int, clean: Said, said: Said, *, prompt: str = "Portal is good.", queries: int = 0) -> Outcome:
    """Of an example whose second letter the attack doubles; without queries it is evaluated as it stands."""
    changed = prompt if not queries else prompt[:2] + prompt[1:]
    status = Status.FAILED if said.correct else Status.SUCCEEDED
    return Outcome(
        example_id=f"e{number}",
        group_id=f"e{number}",
        clean_correct=clean.correct if queries else None,
        correct=said.correct,
        clean_quality=clean.quality if queries else None,
        quality=said.quality,
        clean_response=clean.text if queries else None,
        response=said.text,
        gold=RIGHT.text,
        status=status if clean.correct else Status.SKIPPED,
        queries=queries,
        forwards=queries + 2,
        modified_words=1,
        modified_share=0.3,
        similarity=0.9,
        seconds=0.1,
        original_text=(prompt,),
        adversarial_text=(changed,),
    )


Judge = Callable[[str, str, int], Outcome]
"""(checkpoint, attack, number) -> outcome."""


def write_run(
    folder: Path, record: RunRecord, judge: Judge, replayed: Callable[[str, int], Said | None] = lambda *_: None
) -> Path:
    """Writes a run's outcomes, and what the partner answers to what broke an arm."""
    folder.mkdir()
    write_record(folder, record)
    store = Store(folder)
    arms = [each.name for each in record.checkpoints]
    for name, partner in zip(arms, arms[::-1], strict=True):
        for attack in (NO_ATTACK, *(each.name for each in record.attacks)):
            cell = Cell(name, "set", attack)
            store.add(cell, [judge(name, attack, number) for number in range(record.testsets[0].n_used)])
            for example_id, _ in store.unreplayed_successes(cell, partner) if attack != NO_ATTACK else ():
                if (said := replayed(partner, int(example_id[1:]))) is not None:
                    store.add_replays(cell, partner, [(example_id, Grade(said.correct, said.quality, said.text))])
    store.close()
    return folder
