"""Test sets searched against a checkpoint: what is found is kept, so that a second call resumes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import final

from robustness.definitions.catalog import TESTSETS
from robustness.definitions.testsets import GeneratedSet
from robustness.errors import RunError, UsageError, first_line
from robustness.paths import refuse_unwritable
from robustness.progress import Progress, ProgressCallback
from robustness.recipes.distractors.generated_words import search_distractors
from robustness.runs.planning.plan import digest_of
from robustness.runs.planning.rows import draw_groups
from robustness.runs.storage.disk import explain_failed_writes
from robustness.runs.workload import SEARCHING
from robustness.testsets.example import Example
from robustness.testsets.generation import insert_distractor
from robustness.testsets.loading import load_testset
from robustness.testsets.squad import write_squad
from robustness.testsets.text.partners import PARTNERS, write_partners
from robustness.victims.files.bases import digest_weights
from robustness.victims.files.checkpoint import read_lone_checkpoint
from robustness.victims.heads.head import Head
from robustness.victims.heads.spans.answering import AnsweringVictim
from robustness.victims.loading import load_checkpoint, place, to_victim


@final
class DistractorLog:
    """The distractors of a set so far, one line each beside the set's file; a truncated last line is searched again.

    Args:
        file: of the whole set.
        fingerprint: of checkpoint, definition and data.

    Raises:
        RunError: the log was begun with another fingerprint, or is damaged.
    """

    def __init__(self, file: Path, fingerprint: str) -> None:
        self._log = file.with_name(file.name + ".log")
        self._fingerprint = fingerprint
        self.found = _read_log(self._log, fingerprint)
        """Distractors by question."""

    def add(self, example_id: str, sentence: str, queries: int) -> None:
        """Writes a distractor."""
        with self._log.open("a", encoding="utf-8") as stream:
            if not stream.tell():
                stream.write(json.dumps({"fingerprint": self._fingerprint}) + "\n")
            stream.write(json.dumps({"id": example_id, "distractor": sentence, "queries": queries}) + "\n")
        self.found[example_id] = sentence

    def missing(self, examples: Sequence[Example]) -> list[Example]:
        """Returns the altered rows without a distractor."""
        return [example for example in examples if example.group_id and example.id not in self.found]

    def insert(self, examples: Sequence[Example], made: GeneratedSet) -> list[Example]:
        """Returns the rows with their distractors."""
        return [insert_distractor(e, self.found[e.id], made.place) if e.group_id else e for e in examples]

    def remove(self) -> None:
        """Removes the log, once the file is written."""
        self._log.unlink(missing_ok=True)


def generate(
    testset: str,
    *,
    against: str | None,
    data: Path | None,
    out: Path,
    limit: int | None = None,
    device: str = "auto",
    on_progress: ProgressCallback | None = None,
) -> int:
    """Writes a generated test set and returns its number of rows; a second call resumes.

    Questions are written in SQuAD's format, sentences as JSON lines with their originals.

    Args:
        testset: a shipped set that is generated.
        against: the checkpoint of the search, a folder or hub id; None for sets without a search.
        data: the folder with local files.
        out: the file.
        limit: maximum of questions, the draw of a run with seed 0.
        device: auto, cpu, cuda or cuda:N.
        on_progress: called before a search and after each question with the number of those searched.

    Raises:
        UsageError: the set is not generated, a checkpoint is missing or superfluous, the limit is below 1, the device
            is unknown, or `out` is not writable.
        RunError: `out` exists, or was begun with other settings; its log is damaged, or the disk is full.
        DataError: the questions cannot be read.
        CheckpointError: the checkpoint cannot be loaded.
    """
    entry = TESTSETS.find(testset)
    made = entry.definition.test.generated
    if made is None:
        raise UsageError(f"generate {testset}: its files are official and are not generated")
    if made.needs_checkpoint != (against is not None):
        need = "needs --against CHECKPOINT" if made.needs_checkpoint else "needs no checkpoint; leave --against out"
        raise UsageError(f"generate {testset}: {need}")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: expected at least 1 question")
    if out.exists():
        raise RunError(f"{out}: is there already; remove it, or give --out another file")
    refuse_unwritable(out.parent)
    placement = place(device)
    without_file = entry.definition.test.model_copy(update={"local": ()})
    definition = entry.definition.model_copy(update={"test": without_file})
    loaded = load_testset(type(entry)(entry.name, entry.path, definition), data)
    examples: Sequence[Example] = draw_groups(loaded, limit, seed=0)
    with explain_failed_writes(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        log = None
        if against is not None:
            checkpoint = read_lone_checkpoint(against)
            weights = [digest_weights(checkpoint.folder), digest_weights(checkpoint.base)]
            log = DistractorLog(out, digest_of([entry.digest, loaded.digest, weights]))
            victim = to_victim(load_checkpoint(checkpoint, loaded.task), placement)
            _search(victim, examples, made, log, testset, on_progress or (lambda _: None))
            examples = log.insert(examples, made)
        if made.generator in PARTNERS:
            write_partners(out, examples, loaded.task.fields)
        else:
            write_squad(out, examples, title=testset)
        if log is not None:
            log.remove()
    return len(examples)


def _search(
    victim: Head,
    examples: Sequence[Example],
    made: GeneratedSet,
    log: DistractorLog,
    testset: str,
    report: ProgressCallback,
) -> None:
    """Searches the missing distractors and writes each into the log."""
    assert isinstance(victim, AnsweringVictim), "generated sets consist of questions"
    missing = log.missing(examples)
    total = len(log.found) + len(missing)
    report(Progress(f"{testset} | {SEARCHING}", len(log.found), total))
    for found in search_distractors(victim, missing, made):
        log.add(found.example.id, found.sentence, found.queries)
        report(Progress(f"{testset} | {SEARCHING}", len(log.found), total))


def _read_log(log: Path, fingerprint: str) -> dict[str, str]:
    if not log.is_file():
        return {}
    content = log.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):  # the writer was interrupted
        os.truncate(log, end)  # writes nothing: the disk may still be full
    try:
        header, *records = [json.loads(line) for line in content[:end].splitlines()] or [{"fingerprint": fingerprint}]
        begun, found = header["fingerprint"], {record["id"]: record["distractor"] for record in records}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{log}: not as a search wrote it: {first_line(error)}; put a copy back, or remove it to search again"
        ) from None
    if begun != fingerprint:
        raise RunError(
            f"{log}: was begun with another checkpoint, definition or data; remove it, or use another --out"
        )
    return found
