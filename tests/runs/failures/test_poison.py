"""A text that the victim fails on, a victim that fails on everything, and one that does not agree with itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from robustness import RunSettings, api
from robustness.definitions.tasks import find_task
from robustness.definitions.testsets import DistractorSearch
from robustness.engine.failures.faults import errored
from robustness.engine.named_attack import NamedAttack
from robustness.engine.outcome import Outcome, Status
from robustness.engine.query_cache import QueryCache
from robustness.errors import CheckpointError, RunError
from robustness.progress import Progress
from robustness.recipes.distractors.added_words import AddWords
from robustness.reports.tables.columns import Table
from robustness.runs.cells import Cell
from robustness.runs.executors.bench import Loaded
from robustness.runs.executors.executor import find_outcomes
from robustness.runs.executors.replays import Replays
from robustness.runs.executors.shards import Found, Shard
from robustness.runs.executors.spec import describe_run
from robustness.runs.planning.plan import PlanSettings, make_plan
from robustness.runs.preparation import prepare
from robustness.runs.storage.store import Store
from robustness.runs.workload import Transfer, Workload
from robustness.testsets.example import Example, Texts
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.gate import inspect_checkpoint
from robustness.victims.heads.labels import Victim
from robustness.victims.isolation import VictimGoneError
from robustness.victims.loading import load_checkpoint, place, to_victim
from robustness.workers.packing import pack
from robustness.workers.pool import compute_here
from robustness.workers.reports import Ended, Lost, Told
from robustness.workers.worker import Worker

ATTACKS = ["deepwordbug", "fgsm"]


class Trouble:
    """Begins when a run has passed the gate; until then, and once it is over, victims do as ever."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.is_on = False
        self.texts: set[Texts] | None = None
        """On which victims fail; None: on all."""
        self.error: Exception = torch.cuda.OutOfMemoryError("CUDA out of memory")
        start = Victim._start

        def trouble(victim: Victim, texts: Sequence[Texts]) -> Any:
            if self.is_on and (self.texts is None or self.texts & set(texts)):
                raise self.error
            return start(victim, texts)

        patch.setattr(Victim, "_start", trouble)

    def __call__(self, progress: Progress) -> None:
        self.is_on = "checking" not in progress.message


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Trouble:
    return Trouble(monkeypatch)


def start(tiny: Any, out: Path, on_progress: Any = None, **options: Any) -> Any:
    options = {"attacks": ATTACKS, "limit": 8, "data": tiny.data, "testsets": [str(tiny.testset)]} | options
    return api.run("smoke", tiny.pairs, out, RunSettings(device="cpu", **options), on_progress=on_progress)


def sorted_rows(report: Any) -> pd.DataFrame:
    columns = ["checkpoint", "attack", "example_id", "status", "error", "adversarial_text", "queries"]
    return report.tables[Table.EXAMPLES][columns].sort_values(columns[:3]).reset_index(drop=True)


@pytest.fixture(scope="module")
def expected(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The rows of a run without trouble."""
    return sorted_rows(start(tiny, tmp_path_factory.mktemp("whole") / "run"))


def test_a_text_that_the_victim_fails_on_errors_its_rows_and_the_run_goes_on_and_can_be_finished(
    tiny: Any, tmp_path: Path, expected: pd.DataFrame, trouble: Trouble
) -> None:
    drawn = int(expected["example_id"][3].partition(":")[2])
    trouble.texts = {(tiny.dev[drawn][0],)}

    report = start(tiny, tmp_path / "run", on_progress=trouble)

    rows = sorted_rows(report)
    errored = rows["status"] == "errored"
    assert report.n_errored == errored.sum() == 2 * 2  # without an attack and by words; fgsm asks for no scores
    assert set(rows["error"][errored]) == {"OutOfMemoryError: CUDA out of memory"}
    assert rows["example_id"][errored].nunique() == 1 and report.missing == 0
    others = [frame[~errored].drop(columns="error") for frame in (rows, expected)]
    pd.testing.assert_frame_equal(*others)
    trouble.texts = set()
    pd.testing.assert_frame_equal(sorted_rows(start(tiny, tmp_path / "run")), expected)


def test_a_victim_that_fails_on_everything_ends_the_run_with_its_error_and_loses_nothing(
    tiny: Any, tmp_path: Path, expected: pd.DataFrame, trouble: Trouble
) -> None:
    trouble.error = RuntimeError("CUDA error: unspecified launch failure")
    trouble.texts = {(text,) for text, _ in tiny.dev}  # but not the text on which a checkpoint is tried as it loads

    def later(progress: Progress) -> None:
        trouble.is_on = "lora" in progress.message and "checking" not in progress.message

    with pytest.raises(
        RunError, match=r"lora \| tiny.* \| none: 3 examples in a row .*RuntimeError: CUDA error: unspec"
    ):
        start(tiny, tmp_path / "run", on_progress=later)
    trouble.is_on = False

    rows = sorted_rows(api.report(tmp_path / "run"))
    assert len(rows) == 8 * 3 and set(rows["checkpoint"]) == {"full"}
    pd.testing.assert_frame_equal(sorted_rows(start(tiny, tmp_path / "run")), expected)


def test_a_worker_finds_what_the_process_itself_finds(tiny: Any, trouble: Trouble) -> None:
    plan = make_plan(
        PlanSettings(
            suite="smoke", pairs=tiny.pairs, data=tiny.data, testsets=(str(tiny.testset),), attacks=tuple(ATTACKS)
        )
    )
    prepared = prepare(plan)
    spec = describe_run(plan, prepared, device="cpu", check_weights=False)
    worker = Worker(pack(spec), torch.get_num_threads())
    assert [type(report).__name__ for report in worker.begin()] == ["Started"]
    testset = plan.cells[0].testset
    examples = prepared.examples[testset][:8]
    trouble.texts, trouble.is_on = {examples[3].texts}, True
    victim = to_victim(load_checkpoint(prepared.checkpoints["full"], find_task("sst2")), place("cpu"))

    for attack in (None, *plan.attacks):
        cell = Cell("full", testset, attack.name if attack else "none")
        reports = list(worker.run(Shard(cell, examples, 1.0)))
        found = [report.message for report in reports if isinstance(report, Told)]
        theirs = [outcome for each in found if isinstance(each, Found) for outcome in each.outcomes]
        ours = list(find_outcomes(victim, None, attack, examples, plan.settings.seed))

        assert isinstance(reports[-1], Ended)
        assert [told(outcome) for outcome in theirs] == [told(outcome) for outcome in ours]
        assert any(outcome.status is Status.ERRORED for outcome in ours) == (cell.attack != "fgsm")

    trouble.texts = None
    (lost,) = worker.run(Shard(Cell("full", testset, "none"), examples, 1.0))
    assert isinstance(lost, Lost) and "3 examples in a row failed" in lost.reason


def told(outcome: Outcome) -> tuple[object, ...]:
    return outcome.example_id, outcome.status, outcome.error, outcome.adversarial_text, outcome.queries


def test_a_question_that_the_victim_fails_on_is_errored_with_or_without_an_attack(
    answering: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = read_checkpoint("lora", str(answering.peft), str(answering.base))
    victim: Any = to_victim(load_checkpoint(checkpoint, find_task("squad")), place("cpu"))
    encode, examples = victim.encode, answering.examples()[:6]
    bad = examples[2].texts[0]

    def fails(texts: Sequence[Texts]) -> Any:
        if any(question == bad for question, _ in texts):
            raise ValueError("no token for it")
        return encode(texts)

    search = DistractorSearch(words=2, epochs=1, candidates=2, restarts=0)
    for attack in (None, NamedAttack("addany", "digest", AddWords(**search.model_dump(), place="after"))):
        whole = {o.example_id: told(o) for o in find_outcomes(victim, None, attack, examples, 0)}
        with monkeypatch.context() as patch:
            patch.setattr(victim, "encode", fails)
            found = {o.example_id: o for o in find_outcomes(victim, None, attack, examples, 0)}

        failed = {e.id for e in examples if e.texts[0] == bad}
        assert {name for name, outcome in found.items() if outcome.status is Status.ERRORED} == failed
        assert {found[name].error for name in failed} == {"ValueError: no token for it"}
        assert all(told(found[name]) == whole[name] for name in whole if name not in failed)


@pytest.mark.parametrize("count", [1, 20])
def test_the_gate_counts_a_text_that_fails_as_wrong_and_refuses_a_checkpoint_that_answers_none(
    tiny: Any, trouble: Trouble, count: int
) -> None:
    clean = [Example(str(number), (text,), label) for number, (text, label) in enumerate(tiny.dev)]
    checkpoint = read_checkpoint("full", str(tiny.full), str(tiny.base))
    expected = inspect_checkpoint(checkpoint, find_task("sst2"), place("cpu"), clean).clean_accuracy
    trouble.texts, trouble.is_on = {each.texts for each in clean[-count:]}, True  # the first ones are its probes too

    if count > 1:
        trouble.texts -= {each.texts for each in clean[:8]}
        with pytest.raises(CheckpointError, match="checkpoint full: answers no clean text: .*OutOfMemoryError"):
            inspect_checkpoint(checkpoint, find_task("sst2"), place("cpu"), clean)
    else:
        found = inspect_checkpoint(checkpoint, find_task("sst2"), place("cpu"), clean)
        assert found.clean_accuracy == pytest.approx(expected - 1 / len(clean))


def test_a_checkpoint_that_fails_on_all_of_the_gates_first_texts_is_refused_with_the_reason(
    tiny: Any, trouble: Trouble
) -> None:
    clean = [Example(str(number), (text,), label) for number, (text, label) in enumerate(tiny.dev)]
    checkpoint = read_checkpoint("full", str(tiny.full), str(tiny.base))
    trouble.texts, trouble.is_on = {clean[0].texts}, True

    assert inspect_checkpoint(checkpoint, find_task("sst2"), place("cpu"), clean).failures == ()
    trouble.texts = {example.texts for example in clean[:8]}
    with pytest.raises(CheckpointError, match="fails on each of the first 8 clean texts: OutOfMemoryError"):
        inspect_checkpoint(checkpoint, find_task("sst2"), place("cpu"), clean)


def test_a_victim_that_does_not_agree_with_itself_is_warned_of(
    tiny: Any, tmp_path: Path, trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, forward = torch.Generator().manual_seed(0), Victim._forward
    trouble.texts = set()

    def drawing(victim: Victim, batch: Any) -> torch.Tensor:
        logits = forward(victim, batch)
        return torch.randn(logits.shape, generator=drawn) if trouble.is_on else logits

    monkeypatch.setattr(Victim, "_forward", drawing)

    report = start(tiny, tmp_path / "run", attacks=["deepwordbug"], limit=20, on_progress=trouble)

    warnings = json.loads((report.folder / "run.json").read_text())["warnings"]
    found = [w for w in warnings if "got another label when they were judged" in w]
    assert {warning.partition(":")[0] for warning in found} == {"full", "lora"}


def broken(name: str, text: str) -> Outcome:
    """A success, of which nothing but the text is told."""
    blank = errored(Example(name, ("fine",), label=1), "positive", "")
    return replace(blank, status=Status.SUCCEEDED, adversarial_text=(text,), error=None)


class OneVictim:
    """A bench on which every checkpoint is the same victim."""

    def __init__(self, scorer: Any) -> None:
        self._loaded = SimpleNamespace(scorer=scorer, take_truncated=lambda: frozenset(scorer.truncated))

    def load_scored(self, name: str) -> Loaded:
        return self._loaded  # type: ignore[return-value]

    def compute(self, job: Any) -> Iterator[object]:
        yield from job.compute(self)

    def doubts(self) -> list[str]:
        return []


@pytest.fixture
def replayed(tiny: Any, tmp_path: Path) -> Iterator[tuple[Store, Callable[[], None]]]:
    """A store of three texts that broke `full`, one of them too long, and what replays them on `lora`."""
    cell, store = Cell("full", "t", "swap"), Store(tmp_path)
    store.add(cell, [broken("0", "dull " * 100), broken("1", "dull"), broken("2", "fine")])
    loaded = load_checkpoint(read_checkpoint("lora", str(tiny.peft), str(tiny.base)), find_task("sst2"))
    scorer: Any = QueryCache(tmp_path, "victim").in_front_of(to_victim(loaded, place("cpu")))
    known = {"t": [Example(name, ("fine",), label=1) for name in "012"]}
    replays = Replays(store, Workload({}, lambda _: None), known, [])
    yield store, lambda: compute_here(replays.book([Transfer(cell, "lora")]), OneVictim(scorer))
    store.close()


def test_a_replayed_text_that_is_too_long_for_its_target_is_counted(replayed: Any) -> None:
    store, replay = replayed

    replay()

    assert store.count_truncated() == {"lora": 1}


def test_a_replayed_text_that_its_target_fails_on_is_left_out_and_tried_again(
    replayed: Any, trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    (store, replay), cell = replayed, Cell("full", "t", "swap")
    trouble.texts, trouble.is_on = {("dull",)}, True

    replay()
    assert store.replayed(cell, "lora") == {"0", "2"}
    assert "full -> lora | t | swap: 1 is left out, the same command tries again: OutOfMemoryError" in caplog.text

    trouble.texts = set()
    replay()
    assert store.replayed(cell, "lora") == {"0", "1", "2"}


def test_a_target_that_fails_on_every_replayed_text_is_no_targets_answer(replayed: Any, trouble: Trouble) -> None:
    trouble.is_on = True

    with pytest.raises(VictimGoneError, match="3 examples in a row failed"):
        replayed[1]()
