from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import BertForSequenceClassification

import robustness
from robustness import RunSettings, api
from robustness.engine import query_cache
from robustness.errors import CheckpointError, DataError, DefinitionError, GateError, RunError, UsageError
from robustness.progress import Progress
from robustness.reports.tables.columns import Table
from robustness.runs import victim_loader
from robustness.runs.planning import plan as plan_module
from robustness.terminal.printing import print_plan

ATTACKS = ("deepwordbug", "random-chars", "identity")
VOLATILE = ["seconds"]


def start(tiny: Any, out: Path, on_progress: Any = None, **changes: Any) -> Any:
    options: dict[str, Any] = {"data": tiny.data, "testsets": [str(tiny.testset)], "attacks": ATTACKS} | changes
    suite = options.pop("suite", "smoke")
    pairs = options.pop("pairs", tiny.pairs)
    return api.run(suite, pairs, out, RunSettings(**options), on_progress=on_progress)


@pytest.fixture(scope="module")
def finished(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A whole run of the tiny pair."""
    return start(tiny, tmp_path_factory.mktemp("finished") / "run")


def test_a_run_writes_the_record_the_store_and_every_table(finished: Any) -> None:
    names = {path.name for path in finished.folder.iterdir()}

    assert {"run.json", "run.sqlite", *(f"{table}.csv" for table in Table)} <= names
    assert len(finished.tables[Table.EXAMPLES]) == 2 * 20 * (1 + len(ATTACKS))  # the suite's limit is 20
    assert finished.missing == finished.n_errored == 0


def test_attacks_break_examples_and_identity_breaks_none(finished: Any) -> None:
    attacks = finished.tables[Table.ATTACKS].set_index(["adaptation", "attack"])

    assert attacks.loc[("full", "deepwordbug"), "attack_success_rate"] > 0
    assert (attacks.xs("identity", level="attack")["attack_success_rate"] == 0).all()
    assert (attacks["robust_accuracy"] <= attacks["clean_accuracy"]).all()
    # One attack and a control: there are no several attacks that a worst case could be of.
    assert "worst-case" not in attacks.index.get_level_values("attack")


def test_what_broke_one_arm_was_scored_on_the_other(finished: Any) -> None:
    transfer = finished.tables[Table.TRANSFER]
    broken = finished.tables[Table.ATTACKS].set_index(["checkpoint", "attack"])["attack_success_rate"]

    assert set(zip(transfer["source"], transfer["target"], strict=True)) == {
        *(("full", "lora"), ("lora", "full"), ("full", "untuned base"), ("lora", "untuned base")),
    }
    assert "identity" not in set(transfer["attack"])
    rows = transfer.set_index(["source", "target", "attack"])
    assert rows.loc[("full", "lora", "deepwordbug"), "n"] == round(20 * broken[("full", "deepwordbug")])


def test_the_record_says_what_the_run_was_made_with(finished: Any) -> None:
    record = json.loads((finished.folder / "run.json").read_text())

    assert {"torch", "transformers", "peft", "python"} <= set(record["versions"])
    assert [checkpoint["adaptation"] for checkpoint in record["checkpoints"]] == ["full", "lora"]
    assert all(checkpoint["clean_accuracy"] > 0.9 for checkpoint in record["checkpoints"])
    assert record["testsets"][0]["n"] == 24 and record["testsets"][0]["n_used"] == 20


def test_the_record_and_the_tables_identify_the_methods(finished: Any, tiny: Any) -> None:
    full, lora = json.loads((finished.folder / "run.json").read_text())["checkpoints"]
    config = json.loads((tiny.folder / "lora" / "adapter_config.json").read_text())

    assert len(full["method_digest"]) == len(lora["method_digest"]) == 16
    assert full["method_digest"] != lora["method_digest"]
    assert full["settings"] == {} and lora["settings"]["r"] == str(config["r"])
    weights = load_file(tiny.folder / "lora" / "adapter_model.safetensors")
    assert lora["trainable_parameters"] == sum(each.numel() for each in weights.values())
    assert lora["trainable_parameters"] < full["trainable_parameters"]
    pairs = finished.tables[Table.PAIRS]
    assert set(pairs["method_digest"]) == {lora["method_digest"]}
    assert set(pairs["trainable_parameters"]) == {lora["trainable_parameters"]}


def test_the_share_of_trained_parameters_is_of_the_whole_model(finished: Any, tiny: Any) -> None:
    """Of the model with its adapter as peft loads it; a full checkpoint is trained whole."""
    base = BertForSequenceClassification.from_pretrained(tiny.base, num_labels=2)
    whole = sum(each.numel() for each in PeftModel.from_pretrained(base, tiny.peft).parameters())
    share = sum(each.numel() for each in load_file(tiny.peft / "adapter_model.safetensors").values()) / whole

    attacks = finished.tables[Table.ATTACKS].groupby("method")["trainable_share"].unique()

    assert {name: list(each) for name, each in attacks.items()} == {"full": [1.0], "lora": [pytest.approx(share)]}
    assert list(finished.tables[Table.PAIRS]["trainable_share"].unique()) == [pytest.approx(share)]


def test_running_again_computes_nothing(finished: Any, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a finished run loaded a checkpoint")

    monkeypatch.setattr(victim_loader, "load_checkpoint", refuse)

    again = start(tiny, finished.folder)

    pd.testing.assert_frame_equal(again.tables[Table.EXAMPLES], finished.tables[Table.EXAMPLES])


def test_an_interrupted_run_goes_on_and_ends_like_one_that_was_not(finished: Any, tiny: Any, tmp_path: Path) -> None:
    class InterruptionError(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.done >= 50:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        start(tiny, tmp_path / "run", on_progress=stop)
    partial = api.report(tmp_path / "run")
    assert partial.missing > 0

    whole = start(tiny, tmp_path / "run")

    assert whole.missing == 0
    for table in (Table.EXAMPLES, Table.PAIRS):
        theirs, ours = (report.tables[table].drop(columns=VOLATILE, errors="ignore") for report in (finished, whole))
        pd.testing.assert_frame_equal(theirs, ours)


def test_report_rebuilds_the_tables_without_a_model(finished: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {table: (finished.folder / f"{table}.csv").read_bytes() for table in Table}
    for table in Table:
        (finished.folder / f"{table}.csv").unlink()

    robustness.report(finished.folder)

    assert {table: (finished.folder / f"{table}.csv").read_bytes() for table in Table} == before


@pytest.mark.parametrize(
    ("change", "topic"),
    [({"seed": 1}, "seed"), ({"limit": 5}, "limit"), ({"attacks": ["identity"]}, "attacks")],
)
def test_other_settings_into_the_same_folder_are_refused(
    finished: Any, tiny: Any, change: dict[str, Any], topic: str
) -> None:
    with pytest.raises(RunError, match=topic):
        start(tiny, finished.folder, **change)


def test_changed_data_into_the_same_folder_is_refused(finished: Any, tiny: Any, tmp_path: Path) -> None:
    text = (tiny.data / "tiny" / "dev.tsv").read_text()
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "dev.tsv").write_text(text.replace("number 3", "number three"))

    with pytest.raises(RunError, match="data"):
        start(tiny, finished.folder, data=tmp_path)


def test_a_folder_with_something_else_is_refused_and_left_alone(tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")

    with pytest.raises(RunError, match="not a complete run"):
        start(tiny, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_users_own_attack_runs_and_its_error_is_a_row(tiny: Any, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from robustness import Access\n"
        "class Shout:\n"
        "    access = Access.SCORES\n"
        "    def search(self, example, rng):\n"
        "        if example.label == 0:\n"
        "            raise ValueError('no')\n"
        "        yield [example]\n"
        "        return example.replace_word(0, 'THE')\n"
    )

    report = start(tiny, tmp_path / "run", attacks=[f"{mine}:Shout"])

    examples = report.tables[Table.EXAMPLES]
    mine_rows = examples[examples["attack"] == "mine.py:Shout"]
    assert set(mine_rows[mine_rows["gold"] == "negative"]["status"]) == {"errored"}
    assert set(mine_rows[mine_rows["gold"] == "positive"]["status"]) == {"failed"}
    assert report.n_errored == 20
    assert set(report.tables[Table.ATTACKS]["n_errored"]) == {10}


def test_an_attack_object_runs_through_the_python_call(tiny: Any, tmp_path: Path) -> None:
    class Erase:
        access = robustness.Access.SCORES

        def search(self, example: robustness.Example, rng: Any) -> robustness.Search:
            candidate = example.with_texts(["the"])
            yield [candidate]
            return candidate

    report = start(tiny, tmp_path / "run", attacks=[Erase], limit=4)

    assert set(report.tables[Table.ATTACKS]["attack"].str.contains("Erase")) == {True}


def test_errored_examples_are_tried_again_by_the_same_command(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lack_asset(name: str, resources: Any) -> Any:
        raise DataError(f"{name} needs a word list; get it there")

    with monkeypatch.context() as patch:
        patch.setattr(plan_module, "find_attack", lack_asset)
        first = start(tiny, tmp_path / "run", attacks=())
    again = start(tiny, tmp_path / "run", attacks=())

    assert first.n_errored == 40
    errors = first.tables[Table.EXAMPLES].query("attack == 'deepwordbug'")["error"]
    assert set(errors) == {"DataError: deepwordbug needs a word list; get it there"}
    assert again.n_errored == 0
    assert again.missing == 0


def test_an_attack_that_was_asked_for_by_name_is_refused_when_it_lacks_an_asset(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lack_asset(name: str, resources: Any) -> Any:
        raise DataError(f"{name} needs a word list; get it there")

    monkeypatch.setattr(plan_module, "find_attack", lack_asset)

    with pytest.raises(DataError, match="needs a word list"):
        start(tiny, tmp_path / "run", attacks=["deepwordbug"])


def test_a_pair_the_gate_refuses_writes_nothing(tiny: Any, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.toml"
    entry = {"name": "swapped", "task": "sst2", "base": tiny.base, "full": tiny.peft, "peft": tiny.full}
    pairs.write_text("[[pair]]\n" + "".join(f'{key} = "{value}"\n' for key, value in entry.items()))

    with pytest.raises(GateError, match="adaptation"):
        start(tiny, tmp_path / "run", pairs=pairs)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"limit": 0}, UsageError, "at least 1"),
        ({"device": "tpu"}, UsageError, "unknown device"),
        ({"dtype": "float16"}, UsageError, "--dtype float16: expected one of 'auto', 'float32' or 'bfloat16'"),
        ({"suite": "advglu"}, DefinitionError, "did you mean 'advglue'"),
        ({"testsets": ["rte"]}, UsageError, "no pair"),
        ({"attacks": ["identity", "identity"]}, UsageError, "named twice"),
        ({"data": Path("missing")}, UsageError, "no such folder"),
        ({"pairs": Path("missing.toml")}, DefinitionError, "no such file"),
    ],
)
def test_bad_input_is_refused_with_what_to_do(
    tiny: Any, tmp_path: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        start(tiny, tmp_path / "run", **change)
    assert not (tmp_path / "run").exists()


def test_only_a_test_set_that_was_asked_for_is_missed_in_one_warning(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tmp_path / "several.toml"
    suite.write_text(
        f'summary = "Sets of several tasks."\ntestsets = ["{tiny.testset}", "qqp", "rte"]\nattacks = ["identity"]\n'
    )
    asked = [str(tiny.testset), "qqp", "rte"]

    listed = start(tiny, tmp_path / "listed", suite=str(suite), testsets=(), attacks=(), limit=2).record.warnings
    named = start(tiny, tmp_path / "named", testsets=asked, attacks=("identity",), limit=2).record.warnings
    print_plan(plan_module.make_plan(plan_module.PlanSettings(suite=str(suite), pairs=tiny.pairs, data=tiny.data)))

    assert not any("qqp" in warning for warning in listed)
    assert [w for w in named if "qqp" in w] == ["not evaluated, for no pair has their tasks: test sets qqp, rte"]
    assert "not evaluated, for no pair has their tasks: qqp, rte\n" in capsys.readouterr().out


def test_pairs_that_disagree_on_a_shared_checkpoint_are_refused(tiny: Any, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.toml"
    entries = [
        f'[[pair]]\nname = "p{i}"\ntask = "{task}"\nbase = "{tiny.base}"\n'
        f'full = "{tiny.full}"\npeft = "{tiny.peft}"\n'
        for i, task in enumerate(("sst2", "rte"))
    ]
    pairs.write_text("\n".join(entries))

    with pytest.raises(UsageError, match="pairs p0 and p1 disagree"):
        start(tiny, tmp_path / "run", pairs=pairs)


def test_an_empty_test_set_is_refused(tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "dev.tsv").write_text("sentence\tlabel\n")

    with pytest.raises(DataError, match="no rows"):
        start(tiny, tmp_path / "run", data=tmp_path)


def test_a_missing_checkpoint_is_named(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = tmp_path / "pairs.toml"
    pairs.write_text(
        f'[[pair]]\nname = "p"\ntask = "sst2"\nbase = "{tiny.base}"\nfull = "{tiny.full}"\npeft = "./gone"\n'
    )

    with pytest.raises(CheckpointError, match=r"no folder \./gone"):
        start(tiny, tmp_path / "run", pairs=pairs)


def test_a_damaged_store_is_a_clear_error(tiny: Any, finished: Any, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes((finished.folder / "run.json").read_bytes())
    (tmp_path / "run.sqlite").write_bytes(b"not a database" * 100)

    with pytest.raises(RunError, match="not a readable store"):
        api.report(tmp_path)


@pytest.mark.parametrize("left", ["nothing", "an empty file", "a file without tables"])
def test_a_run_killed_before_its_first_outcome_is_said_to_have_none(finished: Any, tmp_path: Path, left: str) -> None:
    (tmp_path / "run.json").write_bytes((finished.folder / "run.json").read_bytes())
    if left != "nothing":
        (tmp_path / "run.sqlite").touch()
    if left == "a file without tables":
        with closing(sqlite3.connect(tmp_path / "run.sqlite")) as connection:
            connection.execute("PRAGMA journal_mode=WAL")

    with pytest.raises(RunError, match="no outcome yet; if it was interrupted, the same command continues it"):
        api.report(tmp_path)


def test_another_schema_version_is_refused(finished: Any, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes((finished.folder / "run.json").read_bytes())
    connection = sqlite3.connect(tmp_path / "run.sqlite")
    connection.execute("CREATE TABLE outcomes (example_id)")
    connection.execute("PRAGMA user_version=99")
    connection.commit()
    connection.close()

    with pytest.raises(RunError, match="schema version 99"):
        api.report(tmp_path)


def test_long_texts_are_truncated_and_counted_in_a_warning(tiny: Any, tmp_path: Path) -> None:
    rows = "".join(f"the film is {'fine ' * (100 if i == 4 else 1)}number {i}\t1\n" for i in range(20))
    rows += "".join(f"the film is dull number {i}\t0\n" for i in range(4))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "dev.tsv").write_text("sentence\tlabel\n" + rows)

    report = start(tiny, tmp_path / "run", data=tmp_path, attacks=["identity"])

    warnings = json.loads((report.folder / "run.json").read_text())["warnings"]
    assert any("1 texts are longer than the model's limit" in warning for warning in warnings)


def test_a_cache_changes_costs_and_nothing_else(finished: Any, tiny: Any, tmp_path: Path) -> None:
    first = start(tiny, tmp_path / "first", cache=tmp_path / "cache").tables[Table.EXAMPLES]
    second = start(tiny, tmp_path / "second", cache=tmp_path / "cache").tables[Table.EXAMPLES]

    plain = finished.tables[Table.EXAMPLES]
    columns = ["status", "queries", "adversarial_text", "response", "correct"]
    for table in (first, second):
        pd.testing.assert_frame_equal(table[columns], plain[columns])
    attacked = plain["attack"] == "deepwordbug"
    assert first["forwards"][attacked].sum() <= plain["forwards"][attacked].sum()
    assert second["forwards"][attacked].max() <= 3  # the judgement, and what is recomputed
    assert json.loads((tmp_path / "second" / "run.json").read_text())["warnings"] == []


def test_cached_scores_that_a_recomputation_contradicts_are_a_warning(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_cache, "RECHECK_EVERY", 2)
    options: dict[str, Any] = {"cache": tmp_path / "cache", "attacks": ["deepwordbug"], "limit": 4}
    start(tiny, tmp_path / "first", **options)
    with sqlite3.connect(tmp_path / "cache" / query_cache.FILE_NAME) as connection:
        connection.execute("UPDATE scores SET row=?", (np.array([5, -5], dtype="<f4").tobytes(),))

    start(tiny, tmp_path / "second", **options)

    warnings = json.loads((tmp_path / "second" / "run.json").read_text())["warnings"]
    assert any("cached scores that were recomputed differ" in warning for warning in warnings)


def test_a_file_that_is_no_cache_stops_a_run_before_it_starts(tiny: Any, tmp_path: Path) -> None:
    (tmp_path / query_cache.FILE_NAME).write_text("no database" * 1000)

    with pytest.raises(UsageError, match="no readable query cache"):
        start(tiny, tmp_path / "run", cache=tmp_path)

    assert not (tmp_path / "run").exists()


def test_a_compiled_run_is_another_run_and_says_when_it_could_not(
    finished: Any, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(model: object, *, dynamic: bool) -> None:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", refuse)

    report = start(tiny, tmp_path / "run", compile=True, attacks=["identity"])

    record = json.loads((report.folder / "run.json").read_text())
    assert record["dtype"] == "float32, compiled"
    assert any("full: --compile: torch.compile failed" in warning for warning in record["warnings"])
    with pytest.raises(RunError, match="dtype"):
        start(tiny, finished.folder, compile=True)
