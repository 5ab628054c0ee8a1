"""Test sets searched against a checkpoint: searches once, stores the result, resumes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import groupby
from pathlib import Path

from robustness.definitions.catalog import TESTSETS
from robustness.definitions.testsets import GeneratedSet
from robustness.errors import RobustnessError, RunError, UsageError, first_line
from robustness.paths import refuse_unwritable
from robustness.recipes.distractors.generated_words import search_distractors
from robustness.runs.arms import Arms
from robustness.runs.cells import Cell
from robustness.runs.executors.executor import Work
from robustness.runs.planning.plan import digest_of
from robustness.runs.planning.rows import draw_groups
from robustness.runs.preparation import Prepared
from robustness.runs.workload import DistractorSearch, Workload
from robustness.testsets.example import Example
from robustness.testsets.generation import insert_distractor
from robustness.testsets.loading import load_testset
from robustness.testsets.squad import write_squad
from robustness.testsets.text.partners import PARTNERS, write_partners
from robustness.victims.files.bases import digest_weights
from robustness.victims.files.checkpoint import read_lone_checkpoint
from robustness.victims.heads.spans.answering import AnsweringVictim
from robustness.victims.loading import load_checkpoint, place, to_victim

FOLDER = "generated"
"""Subfolder of a run folder: one file in SQuAD's format for each set and checkpoint."""


def _complete_set(
    victim: object,
    cell: Cell,
    examples: Sequence[Example],
    made: GeneratedSet,
    out: Path,
    advance: Callable[[], None],
) -> list[Example]:
    """Returns a run's rows of a generated set with their distractors; searches only for missing ones.

    Writes the set into the run folder, where it can be copied for other checkpoints.
    """
    assert isinstance(victim, AnsweringVictim), "only questions have distractors"
    folder = out / FOLDER
    folder.mkdir(exist_ok=True)
    readable = re.sub(r"\W+", "-", cell.checkpoint).strip("-")[-40:]
    file = folder / f"{cell.testset}-{readable}-{hashlib.sha256(cell.checkpoint.encode()).hexdigest()[:8]}.json"
    rows = _complete(victim, examples, made, file, fingerprint="", advance=advance)
    if not file.is_file():
        write_squad(file, rows, title=cell.testset)
    return rows


def complete_missing(
    prepared: Prepared, missing: Sequence[Work], arms: Arms, out: Path, workload: Workload
) -> Iterator[Work]:
    """Yields work with its checkpoint's examples; searches missing distractors.

    Raises:
        RunError: the search fails; finished questions are kept.
    """
    generated = {testset.name: testset.generated for testset in prepared.testsets if testset.generated is not None}
    for checkpoint, cells in groupby(missing, key=lambda work: work.cell.checkpoint):
        load = cache(lambda name=checkpoint: arms.load(name)[0])
        for work in cells:
            testset = work.cell.testset
            if testset not in generated:
                yield work
                continue
            search = DistractorSearch(checkpoint, testset)
            workload.start(search)
            advance = partial(workload.add, search)
            try:
                whole = _complete_set(load(), work.cell, prepared.examples[testset], generated[testset], out, advance)
            except RobustnessError:
                raise
            except Exception as error:  # out of memory, or any error of a model at a paragraph
                raise RunError(
                    f"{checkpoint} | {testset}: the search for distractors failed: {type(error).__name__}: "
                    f"{first_line(error)}; finished questions are kept, and the same command resumes"
                ) from error
            workload.skip(search)  # an earlier run's results were not counted
            wanted = {example.id for example in work.examples}
            yield Work(work.cell, tuple(example for example in whole if example.id in wanted))


def generate(
    testset: str, *, against: str | None, data: Path | None, out: Path, limit: int | None = None, device: str = "auto"
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

    Raises:
        UsageError: the set is not generated, a checkpoint is missing or superfluous, the limit is below 1, the device
            is unknown, or `out` is not writable.
        RunError: `out` exists, or was begun with other settings.
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
    out.parent.mkdir(parents=True, exist_ok=True)
    if against is not None:
        checkpoint = read_lone_checkpoint(against)
        victim = to_victim(load_checkpoint(checkpoint, loaded.task), placement)
        assert isinstance(victim, AnsweringVictim), "generated sets consist of questions"
        weights = [digest_weights(checkpoint.folder), digest_weights(checkpoint.base)]
        examples = _complete(victim, examples, made, out, digest_of([entry.digest, loaded.digest, weights]))
    if made.generator in PARTNERS:
        write_partners(out, examples, loaded.task.fields)
    else:
        write_squad(out, examples, title=testset)
    _log_of(out).unlink(missing_ok=True)
    return len(examples)


def _complete(
    victim: AnsweringVictim,
    examples: Sequence[Example],
    made: GeneratedSet,
    file: Path,
    fingerprint: str,
    advance: Callable[[], None] = lambda: None,
) -> list[Example]:
    altered = [example for example in examples if example.group_id]
    log = _log_of(file)
    found = _read_log(log, fingerprint)
    missing = [example for example in altered if example.id not in found]
    if missing:
        with log.open("a", encoding="utf-8") as stream:
            if not stream.tell():
                stream.write(json.dumps({"fingerprint": fingerprint}) + "\n")
            for distractor in search_distractors(victim, missing, made):
                found[distractor.example.id] = distractor.sentence
                line = {"id": distractor.example.id, "distractor": distractor.sentence, "queries": distractor.queries}
                stream.write(json.dumps(line) + "\n")
                stream.flush()
                advance()
    return [insert_distractor(e, found[e.id], made.place) if e.group_id else e for e in examples]


def _log_of(file: Path) -> Path:
    return file.with_name(file.name + ".log")


def _read_log(log: Path, fingerprint: str) -> dict[str, str]:
    """Distractors by question; a truncated last line is searched again."""
    if not log.is_file():
        return {}
    lines = log.read_text(encoding="utf-8").split("\n")
    if lines[-1]:  # no line end: the writer was interrupted
        lines.pop()
        log.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    records = [json.loads(line) for line in lines if line]
    if not records:
        return {}
    if records[0].get("fingerprint") != fingerprint:
        raise RunError(
            f"{log}: was begun with another checkpoint, definition or data; remove it, or use another --out"
        )
    return {record["id"]: record["distractor"] for record in records[1:]}
