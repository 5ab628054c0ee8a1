from __future__ import annotations

import errno
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from robustness import RunSettings, api
from robustness.errors import CheckpointError, DataError, RunError, UsageError
from robustness.progress import Progress
from robustness.reports.report import Report
from robustness.reports.summaries.fitting import FittingTable
from robustness.reports.summaries.terminal import render_summary
from robustness.reports.tables.columns import Table
from robustness.runs.generation import DistractorLog
from robustness.testsets.answer_kinds import contains_answer
from robustness.workers.execution import Execution

SETS = """summary = "Altered questions of who lives where."
licence = "Apache-2.0"
task = "squad"
kind = "adversarial"

[test.generated]
generator = "{generator}"
questions = "{questions}"
"""
SEARCH = """
[test.generated.search]
words = 3
candidates = 2
epochs = 1
restarts = 0
"""
ATTACK = """summary = "Three words."
family = "sentence"
access = "scores"

[search]
kind = "distractor-search"
words = 3
candidates = 2
epochs = 1
restarts = 0
place = "after"
"""


@pytest.fixture(scope="module")
def sets(answering: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("sets")
    made = {"questions": str(answering.testset)}
    for generator in ("addnegans", "addany"):
        text = SETS.format(generator=generator, questions=answering.testset)
        made[generator] = str(folder / f"tiny-{generator}.toml")
        Path(made[generator]).write_text(text + (SEARCH if generator == "addany" else ""))
    made["attack"] = str(folder / "tiny-words.toml")
    Path(made["attack"]).write_text(ATTACK)
    return made


def run(
    answering: Any, sets: dict[str, str], out: Path, execution: Execution | None = None, **options: Any
) -> Report:
    options = {"attacks": (), "limit": 12, "device": "cpu"} | options
    settings = RunSettings(
        data=answering.data, testsets=[sets[name] for name in ("questions", "addnegans", "addany")], **options
    )
    return api.run("advsquad", answering.pairs, out, settings, execution=execution)


@pytest.fixture(scope="module")
def report(answering: Any, sets: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Report:
    return run(answering, sets, tmp_path_factory.mktemp("run") / "out", attacks=(sets["attack"], "identity"))


def test_every_checkpoint_is_scored_on_every_set_both_ways(report: Report) -> None:
    table = report.tables["testsets"]

    found = {(r.checkpoint, r.testset, r.metric, r.aggregation) for r in table.itertuples()}
    expected = {
        (checkpoint, testset, metric, aggregation)
        for checkpoint in ("full", "lora")
        for testset in ("tiny-addnegans", "tiny-addany")
        for metric in ("f1", "exact_match")
        for aggregation in ("altered", "mean", "official")
    }
    assert expected <= found
    assert {(m, a) for c, t, m, a in found if (c, t) == ("full", "questions")} == {
        ("f1", "mean"),
        ("exact_match", "mean"),
    }
    assert set(table.loc[table["testset"] != "questions", "provenance"]) == {"generated"}
    assert report.missing == 0 and report.n_errored == 0


def test_the_scores_are_those_of_the_rows(report: Report) -> None:
    rows = report.tables["examples"]
    part = rows[(rows["checkpoint"] == "lora") & (rows["testset"] == "tiny-addany") & (rows["attack"] == "none")]
    table = report.tables["testsets"].set_index(["checkpoint", "testset", "metric", "aggregation"])["value"]

    f1 = part["quality"].astype(float)
    assert table["lora", "tiny-addany", "f1", "mean"] == pytest.approx(f1.mean())
    altered = part["example_id"] != part["group_id"]
    assert altered.sum() == len(part) / 2
    assert table["lora", "tiny-addany", "f1", "altered"] == pytest.approx(f1[altered].mean())
    assert table["lora", "tiny-addany", "f1", "official"] == pytest.approx(f1[altered].mean())  # one a question
    exact = part["correct"] == 1
    assert table["lora", "tiny-addany", "exact_match", "official"] == pytest.approx(exact[altered].mean())
    consistent = exact.groupby(part["group_id"]).all()
    assert table["lora", "tiny-addany", "consistency", "all-of-group"] == pytest.approx(consistent.mean())


def test_pairs_are_compared_by_tests_that_fit_the_score(report: Report) -> None:
    table = report.tables["pairs"]
    rows = table[(table["testset"] == "tiny-addany") & (table["population"] == "all")]
    tests = {(r.metric, r.aggregation): r.test for r in rows.itertuples()}

    assert tests == {
        ("f1", "mean"): "permutation-of-groups",
        ("f1", "official"): "permutation",
        ("exact_match", "mean"): "permutation-of-groups",  # several rows a question
        ("exact_match", "official"): "mcnemar-exact",
    }
    planned = table[(table["testset"] == "tiny-addany") & (table["family"] == "planned")]
    assert planned[["metric", "population"]].to_numpy().tolist() == [["f1", "altered"]]
    assert planned["verdict"].notna().all() and rows["verdict"].isna().all()
    assert (rows["difference"] - (rows["reference_value"] - rows["candidate_value"])).abs().max() < 1e-9


def test_attacks_run_on_questions_but_for_sets_that_are_attacks_themselves(report: Report) -> None:
    attacks = report.tables["attacks"]

    assert set(attacks["attack"]) == {"tiny-words", "identity"}
    assert set(attacks["testset"]) == {"questions", "tiny-addnegans"}
    rows = report.tables["examples"]
    broken = rows[(rows["attack"] == "tiny-words") & (rows["status"] == "succeeded")]
    assert len(broken) and (broken["queries"] > 0).all()


def test_what_was_generated_is_a_squad_file_that_can_be_replayed(report: Report, answering: Any) -> None:
    files = sorted((report.folder / "generated").glob("*.json"))

    assert len(files) == 2
    content = json.loads(files[0].read_text())
    questions = [q for p in content["data"][0]["paragraphs"] for q in p["qas"]]
    assert {q["id"].partition("-")[2] for q in questions} == {"", "addany"}


def test_an_interrupted_search_goes_on_where_it_stopped(
    report: Report, answering: Any, sets: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from robustness.runs.executors import searches

    searched: list[str] = []
    original = searches.search_distractors

    def interrupted(victim: Any, examples: Any, made: Any) -> Any:
        for number, found in enumerate(original(victim, examples, made)):
            searched.append(found.example.id)
            yield found
            if number == 2 and len(searched) == 3:
                raise KeyboardInterrupt

    monkeypatch.setattr(searches, "search_distractors", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(answering, sets, tmp_path / "out")
    again = run(answering, sets, tmp_path / "out")

    assert len(searched) == 12 and len(set(searched)) == 6  # six for each of two checkpoints, none twice
    keys = ["checkpoint", "testset", "attack", "example_id"]
    columns = [*keys, "response", "quality", "adversarial_text"]
    whole = report.tables["examples"]
    whole = whole[whole["attack"] == "none"][columns].sort_values(keys).reset_index(drop=True)
    pd.testing.assert_frame_equal(again.tables["examples"][columns].sort_values(keys).reset_index(drop=True), whole)


def test_two_workers_search_and_replay_as_this_process_does(
    report: Report, answering: Any, sets: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustness.runs.executors.shards.SMALLEST", 2)
    attacks = (sets["attack"], "identity")

    again = run(answering, sets, tmp_path / "out", attacks=attacks, execution=Execution(workers=2))

    assert again.missing == again.n_errored == 0
    for table in Table:
        ours, theirs = (each.tables[table].drop(columns="seconds", errors="ignore") for each in (again, report))
        pd.testing.assert_frame_equal(ours, theirs)
    files = [sorted((each.folder / "generated").glob("*.json")) for each in (again, report)]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]


def test_a_search_for_distractors_that_fails_ends_the_run_with_the_reason(
    answering: Any, sets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from robustness.runs.executors import searches

    def fail(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(searches, "search_distractors", fail)
    with pytest.raises(
        RunError, match=r"the search for distractors failed: OutOfMemoryError.*the same command resumes"
    ):
        run(answering, sets, tmp_path / "out")


REPLAYED = """summary = "What was found against one arm."
licence = "Apache-2.0"
task = "squad"
kind = "adversarial"

[[test.local]]
reader = "squad"
file = "found.json"
provenance = "generated"
"""


@pytest.mark.parametrize("arm", ["full", "lora"])
def test_a_set_searched_for_against_one_arm_is_a_file_that_both_arms_replay(
    report: Report, answering: Any, sets: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arm: str
) -> None:
    from robustness.runs import generation

    searched: list[str] = []
    original = generation.search_distractors

    def interrupted(victim: Any, examples: Any, made: Any) -> Any:
        for found in original(victim, examples, made):
            searched.append(found.example.id)
            yield found
            if len(searched) == 3:  # the third is written down before the search is asked for a fourth
                raise KeyboardInterrupt

    against = {"full": (answering.full, answering.peft), "lora": (answering.peft, answering.full)}[arm]
    out = tmp_path / "found.json"
    asked: dict[str, Any] = {"data": answering.data, "limit": 6, "device": "cpu"}
    monkeypatch.setattr(generation, "search_distractors", interrupted)
    with pytest.raises(KeyboardInterrupt):
        api.generate(sets["addany"], out, against=str(against[0]), **asked)
    assert not out.exists()
    with pytest.raises(RunError, match="begun with another checkpoint"):
        api.generate(sets["addany"], out, against=str(against[1]), **asked)
    told: list[Progress] = []
    assert api.generate(sets["addany"], out, against=str(against[0]), on_progress=told.append, **asked) == 12
    assert [each.done for each in told] == [3, 4, 5, 6] and {each.total for each in told} == {6}
    with pytest.raises(RunError, match="is there already"):
        api.generate(sets["addany"], out, against=str(against[0]), **asked)
    assert len(searched) == len(set(searched)) == 6 and list(tmp_path.iterdir()) == [out]
    monkeypatch.undo()
    api.generate(sets["addany"], tmp_path / "whole.json", against=str(against[0]), **asked)
    assert out.read_bytes() == (tmp_path / "whole.json").read_bytes()

    definition = tmp_path / "replayed.toml"
    definition.write_text(REPLAYED)
    options: dict[str, Any] = {"attacks": (), "device": "cpu", "data": tmp_path}
    link = tmp_path / "questions"  # the gate's clean questions
    link.symlink_to(answering.data / "questions", target_is_directory=True)
    replay = api.run(
        "advsquad",
        answering.pairs,
        tmp_path / "run",
        RunSettings(testsets=[str(answering.testset), str(definition)], **options),
    )

    rows = replay.tables["examples"].query("testset == 'replayed'")
    texts = rows.pivot(index="example_id", columns="checkpoint", values="adversarial_text")
    assert len(texts) == 12 and (texts["full"] == texts["lora"]).all()
    # What the arm answers to its own set is what it answered when a run searched for it live.
    live = report.tables["examples"].query(f"testset == 'tiny-addany' and attack == 'none' and checkpoint == '{arm}'")
    key = "example_id"
    both = (
        rows[rows["checkpoint"] == arm]
        .assign(**{key: rows[key].str.partition(":")[2]})
        .merge(live.assign(**{key: live[key].str.partition(":")[2]}), on=key, suffixes=("", "_live"))
    )
    assert len(both) >= 6 and (both["adversarial_text"] == both["adversarial_text_live"]).all()
    assert both["quality"].to_numpy() == pytest.approx(both["quality_live"].to_numpy())
    scores = replay.tables["testsets"].query("testset == 'replayed' and metric == 'f1'")
    assert set(scores["checkpoint"]) == {"full", "lora"} and set(scores["provenance"]) == {"generated"}


def test_an_adapter_that_names_no_base_is_refused(answering: Any, sets: dict[str, str], tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(answering.peft, adapter)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": None}))

    with pytest.raises(CheckpointError, match="names no base; set base_model_name_or_path"):
        api.generate(sets["addany"], tmp_path / "a.json", against=str(adapter), data=answering.data, device="cpu")

    shutil.copytree(answering.base, adapter / "base")
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "base"}))
    options: dict[str, Any] = {"data": answering.data, "limit": 1, "device": "cpu"}
    assert api.generate(sets["addany"], tmp_path / "a.json", against=str(adapter), **options) == 2


def test_a_set_that_cannot_be_generated_is_refused(answering: Any, tmp_path: Path) -> None:
    from robustness.definitions.catalog import TESTSETS
    from robustness.definitions.testsets import SquadFile
    from robustness.testsets.squad import read_squad

    questions = tmp_path / "data" / "adversarial_squad"
    questions.mkdir(parents=True)
    source = json.loads((answering.data / "questions" / "dev.json").read_text())
    source["data"][0]["paragraphs"] = source["data"][0]["paragraphs"][:4]
    (questions / "sample1k-HCVerifyAll.json").write_text(json.dumps(source))

    with pytest.raises(DataError, match="published set"):
        api.generate("advsquad-addansctx", tmp_path / "set.json", data=tmp_path / "data")
    with pytest.raises(UsageError, match="needs --against"):
        api.generate("advsquad-addany", tmp_path / "set.json", data=tmp_path / "data")
    with pytest.raises(UsageError, match="files are official"):
        api.generate("advsquad-addsent", tmp_path / "set.json", data=tmp_path / "data")
    assert TESTSETS.find("advsquad-addansctx").definition.test.generated is not None
    assert not (tmp_path / "set.json").exists()
    assert read_squad(questions / "sample1k-HCVerifyAll.json", SquadFile(reader="squad", file="-"), adversarial=True)


def test_a_changed_set_is_evaluated_only_on_request_and_the_table_says_so(answering: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "squad").mkdir(parents=True)
    (data / "squad" / "dev-v1.1.json").write_bytes((answering.data / "questions" / "dev.json").read_bytes())
    options: dict[str, Any] = {"data": data, "testsets": ["squad"], "limit": 4, "device": "cpu"}

    with pytest.raises(DataError, match="40 rows; the published set has 10570.*--allow-changed-testset"):
        api.run("advsquad", answering.pairs, tmp_path / "out", RunSettings(**options))
    report = api.run("advsquad", answering.pairs, tmp_path / "out", RunSettings(**options, allow_changed=True))

    assert set(report.tables["testsets"]["provenance"]) == {"changed"}
    assert any("published set" in warning for warning in report.record.warnings)


def test_a_distractor_never_holds_an_answer(report: Report, answering: Any) -> None:
    rows = report.tables["examples"]
    golds = {e.id.partition(":")[2]: [a.text for a in e.answers] for e in answering.examples()}
    altered = rows[rows["testset"].isin(["tiny-addany", "tiny-addnegans"]) & (rows["attack"] == "none")]

    for row in altered.itertuples():
        if pd.notna(row.original_text):
            key = row.example_id.partition(":")[2].partition("-")[0]
            before, after = (json.loads(text)[1] for text in (row.original_text, row.adversarial_text))
            assert after.startswith(before)
            assert not contains_answer(after[len(before) :], golds[key])


def test_another_file_begun_otherwise_is_not_continued(answering: Any, tmp_path: Path) -> None:
    from robustness.runs.generation import _read_log

    log = tmp_path / "x.log"
    log.write_text('{"fingerprint": "a"}\n{"id": "1", "distractor": "x", "queries": 3}\n{"id": "2", "dis')

    assert _read_log(log, "a") == {"1": "x"}
    with pytest.raises(RunError, match="begun with another checkpoint"):
        _read_log(log, "b")


@pytest.mark.parametrize(
    "content",
    [
        b'{"fingerprint": "a"}\n{"id": "1", "dis\n{"id": "2", "distractor": "x", "queries": 3}\n',
        b'{"fingerprint": "a"}\n\xff\xfe\n',
        b'{"fingerprint": "a"}\n["1", "x", 3]\n',
        b'{"id": "1", "distractor": "x", "queries": 3}\n',
        b"\n",
    ],
    ids=["cut", "no text", "no object", "no header", "empty line"],
)
def test_a_damaged_log_of_a_search_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    log = tmp_path / "set.json.log"
    log.write_bytes(content)

    with pytest.raises(RunError, match=r"set\.json\.log: not as a search wrote it: "):
        DistractorLog(tmp_path / "set.json", "a")
    assert log.read_bytes() == content


@pytest.mark.parametrize("torn", ['{"fing', '{"fingerprint": "a"}\n', '{"fingerprint": "a"}\n{"id": "1", "distr'])
def test_a_log_torn_by_a_full_disk_is_continued_without_what_is_torn(tmp_path: Path, torn: str) -> None:
    (tmp_path / "set.json.log").write_text(torn)

    DistractorLog(tmp_path / "set.json", "a").add("1", "x", 3)

    assert DistractorLog(tmp_path / "set.json", "a").found == {"1": "x"}


def test_a_search_on_a_full_disk_ends_by_name_and_goes_on_once_there_is_space(
    answering: Any, sets: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"data": answering.data, "limit": 3, "device": "cpu", "against": str(answering.full)}
    add, log = DistractorLog.add, tmp_path / "set.json.log"

    def fill(kept: DistractorLog, example_id: str, *found: Any) -> None:
        if len(kept.found) == 1:
            with log.open("a") as stream:
                stream.write('{"id": "')
            raise OSError(errno.ENOSPC, "No space left on device")
        add(kept, example_id, *found)

    with monkeypatch.context() as patch:
        patch.setattr(DistractorLog, "add", fill)
        with pytest.raises(RunError, match="the disk is full: .*make space, and the same command resumes"):
            api.generate(sets["addany"], tmp_path / "set.json", **asked)
    told: list[Progress] = []
    api.generate(sets["addany"], tmp_path / "set.json", on_progress=told.append, **asked)

    assert [each.done for each in told] == [1, 2, 3] and list(tmp_path.iterdir()) == [tmp_path / "set.json"]


def test_the_terminal_tells_scores_of_answers_apart(report: Report) -> None:
    tables = [part for part in render_summary(report) if isinstance(part, FittingTable)]

    named = {
        row[[column.heading for column in table.columns].index("attack")] for table in tables for row in table.rows
    }
    assert named >= {"f1", "exact match", "f1, official"}


def test_the_terminal_says_what_a_clean_score_of_answers_is(report: Report) -> None:
    lines = [str(part) for part in render_summary(report) if not isinstance(part, FittingTable)]

    full = report.record.find_checkpoint(report.record.pairs[0].reference)
    said = lines[1].replace("\n  ", " ")
    assert said.endswith(f"the whole paragraph as answer {full.majority_share:.3f} (n = {full.n_clean})")
    assert said.startswith(f"clean F1 before the run: full {full.clean_accuracy:.3f}")
    assert not any("accuracy" in line or "majority" in line for line in lines if "warning" not in line)


def test_a_run_on_questions_is_verified_by_its_answers(report: Report, tmp_path: Path) -> None:
    found = api.verify(report.folder, sample=10_000, device="cpu")

    assert found.disagreements == () and found.sampled == found.stored >= 2 * 3 * 12

    tampered = tmp_path / "run"
    shutil.copytree(report.folder, tampered)
    with sqlite3.connect(tampered / "run.sqlite") as connection:
        change = "UPDATE outcomes SET response='nowhere' WHERE checkpoint='lora' AND testset='questions'"
        count = connection.execute(change).rowcount
    disagreements = api.verify(tampered, sample=10_000, device="cpu").disagreements
    assert len(disagreements) == count > 0
    assert all("the run says 'nowhere'" in each and each.startswith("lora | questions") for each in disagreements)
