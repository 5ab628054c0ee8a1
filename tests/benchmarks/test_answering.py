"""Question answering and AdvGLUE against the forward floor and the transformers pipeline."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification, AutoTokenizer

from robustness.definitions.catalog import TESTSETS
from robustness.definitions.tasks import find_task
from robustness.definitions.testsets import DistractorSearch, GeneratedSet
from robustness.engine.evaluation import evaluate
from robustness.engine.scheduler import Scheduler
from robustness.recipes.building import find_attack
from robustness.recipes.distractors.generated_words import search_distractors
from robustness.tasks.gold import GoldSpan
from robustness.testsets.example import Example, Texts
from robustness.testsets.loading import load_testset
from robustness.testsets.protection import find_protected
from robustness.victims.heads.labels import Victim
from robustness.victims.heads.spans.answering import ENCODE_TEXTS, AnsweringVictim

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
ROWS = int(os.environ.get("BENCH_ROWS", "3560"))
"""AddSent's rows; fewer for a quick look."""
PIPELINE_ROWS = 100
PARAGRAPHS = int(os.environ.get("BENCH_PARAGRAPHS", "20"))
BATCH_SIZES = (1, 2, 4, 8, 16, 32)
ROUNDS = 3
"""The pipeline and the victim take turns; the quickest of each counts."""
Save = Callable[[str, dict[str, Any]], None]


@pytest.fixture(scope="module")
def answering_folder(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM with a random head for answers: as fast as a trained one."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("answering")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForQuestionAnswering.from_pretrained(minilm).save_pretrained(folder)
    AutoTokenizer.from_pretrained(minilm).save_pretrained(folder)
    return folder


def victim_of(folder: Path) -> AnsweringVictim:
    model = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    return AnsweringVictim(model, AutoTokenizer.from_pretrained(folder))


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = action()
    return time.perf_counter() - started, result


@torch.inference_mode()
def forward_seconds(model: Any, tokenizer: Any, rows: list[dict[str, list[int]]], batch_tokens: int) -> float:
    """The floor: nothing but the model, on the same rows in the same batches."""
    rows = sorted(rows, key=lambda row: -len(row["input_ids"]))
    batches, start = [], 0
    while start < len(rows):
        size = max(1, batch_tokens // len(rows[start]["input_ids"]))
        batches.append(tokenizer.pad(rows[start : start + size], return_tensors="pt"))
        start += size
    return timed(lambda: [model(**batch) for batch in batches])[0]


def windows_of(victim: AnsweringVictim, texts: Sequence[Texts]) -> list[dict[str, list[int]]]:
    inputs = victim.encode(texts).inputs
    return [dict(zip(inputs, values, strict=True)) for values in zip(*inputs.values(), strict=True)]


def test_addsent_is_scored_at_the_speed_of_its_windows(
    shared_data: Path, answering_folder: Path, save_result: Save
) -> None:
    victim = victim_of(answering_folder)
    examples = load_testset(TESTSETS.find("advsquad-addsent"), shared_data).examples[:ROWS]
    windows = windows_of(victim, [example.texts for example in examples])
    victim.predict([examples[0].texts])

    floor = forward_seconds(victim.model, victim.tokenizer, windows, victim.batches.tokens)
    seconds, outcomes = timed(lambda: list(evaluate(victim, examples)))

    figures = {
        "rows": len(outcomes),
        "windows": len(windows),
        "floor_seconds": floor,
        "seconds": seconds,
        "times_floor": seconds / floor,
        "windows_a_second": len(windows) / seconds,
    }
    save_result("addsent", figures)
    assert figures["times_floor"] <= 1.25


def test_answers_come_as_fast_as_from_the_pipeline_and_are_the_same(
    shared_data: Path, answering_folder: Path, save_result: Save
) -> None:
    try:
        from transformers import QuestionAnsweringPipeline
    except ImportError:
        pytest.skip("transformers 5 has no such pipeline: run this in .venv-transformers4")
    victim = victim_of(answering_folder)
    pipeline = QuestionAnsweringPipeline(
        model=victim.model, tokenizer=AutoTokenizer.from_pretrained(answering_folder)
    )
    examples = load_testset(TESTSETS.find("squad"), shared_data).examples[:: 10_570 // PIPELINE_ROWS][:PIPELINE_ROWS]
    texts = [example.texts for example in examples]
    inputs = [{"question": question, "context": context} for question, context in texts]
    options = {"max_answer_len": 30, "max_seq_len": 384, "doc_stride": 128, "align_to_words": False}

    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    by_size: dict[int, list[float]] = {size: [] for size in BATCH_SIZES}
    own: list[float] = []
    for _ in range(ROUNDS):
        for size, spent in by_size.items():
            started = clock()
            answers = pipeline(inputs, batch_size=size, **options)
            spent.append(clock() - started)
        started = clock()
        ours = victim.predict(texts, n_best=1)
        own.append(clock() - started)

    same = sum(mine.best.strip() == other["answer"] for mine, other in zip(ours, answers, strict=True))
    best = min(by_size, key=lambda size: min(by_size[size]))
    figures = {
        "rows": len(texts),
        "clock": clock.__name__,
        "seconds": own,
        "pipeline_seconds": {str(size): spent for size, spent in by_size.items()},
        "best_batch_size": best,
        "times_faster_than_best": min(by_size[best]) / min(own),
        "times_faster_than_default": min(by_size[1]) / min(own),
        "equal_answers": same,
    }
    save_result("question_answering_pipeline", figures)
    assert figures["times_faster_than_best"] >= 1
    if torch.cuda.is_available():
        assert figures["times_faster_than_default"] >= 3
    assert same >= 0.99 * len(texts)


def test_addany_asks_at_the_victims_peak_rate(shared_data: Path, answering_folder: Path, save_result: Save) -> None:
    victim = victim_of(answering_folder)
    questions = 16 if ROWS >= 1_000 else 4
    originals = load_testset(TESTSETS.find("squad"), shared_data).examples[: questions * 50 : 50]
    made = GeneratedSet(
        generator="addany", questions="squad", search=DistractorSearch(words=3, candidates=20, epochs=1, restarts=0)
    )
    asked: list[Texts] = []
    predict = victim.predict
    recorder = SimpleNamespace(predict=lambda texts: (asked.extend(texts), predict(texts))[1])

    seconds, found = timed(lambda: list(search_distractors(recorder, originals, made)))  # type: ignore[arg-type]
    peak_seconds, _ = timed(lambda: predict(asked))

    queries = sum(distractor.queries for distractor in found)
    figures = {
        "questions": len(found),
        "queries": queries,
        "queries_a_second": queries / seconds,
        "peak_a_second": len(asked) / peak_seconds,
        "share_of_peak": (queries / seconds) / (len(asked) / peak_seconds),
    }
    save_result("addany", figures)
    assert figures["share_of_peak"] >= 0.8


def test_advglue_is_scored_at_the_speed_of_the_model(shared_data: Path, minilm: Path, save_result: Save) -> None:
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    floor = seconds = 0.0
    rows = 0
    for name in ("sst2", "qqp", "mnli", "mnli-mm", "qnli", "rte"):
        testset = load_testset(TESTSETS.find(f"advglue-{name}"), shared_data)
        labels = find_task(testset.task.name).labels
        model = AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=len(labels)).eval()
        victim = Victim(model, tokenizer, range(len(labels)))
        examples = [replace(example, original=None) for example in testset.examples]
        encoded = victim._encode([example.texts for example in examples])
        texts = [dict(zip(encoded, values, strict=True)) for values in zip(*encoded.values(), strict=True)]
        victim.scores([examples[0].texts])
        floor += forward_seconds(model, tokenizer, texts, victim.batches.tokens)
        seconds += timed(lambda v=victim, e=examples: list(evaluate(v, e)))[0]
        rows += len(examples)

    figures = {"rows": rows, "floor_seconds": floor, "seconds": seconds, "times_floor": seconds / floor}
    save_result("advglue", figures)
    assert rows == 738
    assert figures["times_floor"] <= 1.2


class Silent(torch.nn.Module):
    """Answers for nothing, so that memory is the evaluation's own."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config, self.weight = config, torch.nn.Parameter(torch.zeros(1))

    def forward(self, input_ids: torch.Tensor, **unused: Any) -> Any:
        logits = torch.zeros(input_ids.shape)
        return SimpleNamespace(start_logits=logits, end_logits=logits)


def peak_megabytes(victim: AnsweringVictim, examples: Sequence[Example]) -> float:
    tracemalloc.start()
    for _ in evaluate(victim, examples):
        pass
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return peak


class Recording:
    """A reader that remembers what it was asked."""

    def __init__(self, victim: AnsweringVictim) -> None:
        self._victim = victim
        self.grader, self.can = victim.grader, victim.can
        self.texts: list[Texts] = []

    def rows(self, asked: Sequence[Example]) -> Any:
        self.texts += [example.texts for example in asked]
        return self._victim.rows(asked)


@torch.inference_mode()
def processor_seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    """Those of an idle machine, whatever runs beside."""
    started = time.process_time()
    result = action()
    return time.process_time() - started, result


def test_deepwordbug_on_paragraphs_is_near_the_floor_of_its_windows(
    shared_data: Path, answering_folder: Path, save_result: Save
) -> None:
    victim = victim_of(answering_folder)
    examples = []
    for example in load_testset(TESTSETS.find("squad"), shared_data).examples[: 40 * PARAGRAPHS : 40]:
        said = victim.predict([example.texts])[0].best  # of a random head: so that it is right, and attacked
        answers = (GoldSpan(said, example.texts[1].index(said)),)
        protected = find_protected(find_task("squad"), example.texts, answers)
        examples.append(replace(example, answers=answers, protected=protected, _spans=None))
    recording, attack = Recording(victim), find_attack("deepwordbug")

    seconds, outcomes = processor_seconds(lambda: list(Scheduler(attack, recording, seed=0).run(examples)))
    windows = windows_of(victim, list(dict.fromkeys(recording.texts)))
    batch = victim.batches.tokens
    floor, _ = processor_seconds(lambda: forward_seconds(victim.model, victim.tokenizer, windows, batch))

    figures = {
        "paragraphs": len(outcomes),
        "words": sum(len(example.words) for example in examples),
        "queries": sum(outcome.queries for outcome in outcomes),
        "windows": len(windows),
        "processor_seconds": seconds,
        "floor_processor_seconds": floor,
        "times_floor": seconds / floor,
    }
    save_result("deepwordbug_squad", figures)
    assert figures["times_floor"] <= 1.2


def test_memory_does_not_grow_with_the_rows(shared_data: Path, answering_folder: Path, save_result: Save) -> None:
    victim = victim_of(answering_folder)
    silent = AnsweringVictim(Silent(victim.model.config), victim.tokenizer)
    few = load_testset(TESTSETS.find("squad"), shared_data).examples[:ENCODE_TEXTS]
    copies = 8 if ROWS >= 1_000 else 2
    many = [
        replace(example, id=f"{example.id}-{copy}", texts=(f"{example.texts[0]} ({copy})", example.texts[1]))
        for copy in range(copies)  # longer paragraphs would need more, however many they are
        for example in few
    ]
    peak_megabytes(silent, few)  # imports and caches

    figures = {
        "megabytes": {len(few): peak_megabytes(silent, few), len(many): peak_megabytes(silent, many)},
        "kilobytes_a_row": 0.0,
    }
    growth = figures["megabytes"][len(many)] - figures["megabytes"][len(few)]  # type: ignore[index]
    figures["kilobytes_a_row"] = 1024 * growth / (len(many) - len(few))
    save_result("answering_memory", figures)
    assert np.isfinite(growth) and figures["kilobytes_a_row"] <= 2  # the answers, kept for altered forms
