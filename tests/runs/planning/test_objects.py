"""Models, rows and tasks that are given as objects from Python."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import robustness
from robustness import CheckpointPair, RunSettings, api
from robustness.errors import CheckpointError, RobustnessError, RunError, UsageError
from robustness.reports.tables.columns import Table
from robustness.runs.staging import staged

MOOD = {"kind": "labels", "fields": ["sentence"], "labels": ["negative", "positive"]}
SAME = ["example_id", "attack", "status", "adversarial_text", "queries", "response"]


class Objects:
    """The tiny pair in memory, with rows."""

    def __init__(self, tiny: Any) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(tiny.full)
        self.full = AutoModelForSequenceClassification.from_pretrained(tiny.full)
        base = AutoModelForSequenceClassification.from_pretrained(
            tiny.base, num_labels=2, id2label={0: "negative", 1: "positive"}
        )
        self.lora = PeftModel.from_pretrained(base, tiny.peft)
        self.frame = pd.DataFrame(tiny.rows[:24], columns=["sentence", "label"])

    def run(self, out: Path, **changed: Any) -> Any:
        given: dict[str, Any] = {
            "reference": (self.full, self.tokenizer),
            "candidate": (self.lora, self.tokenizer),
            "task": MOOD,
            "data": self.frame,
            "attacks": ["deepwordbug"],
            "limit": 8,
        }
        given |= changed
        pairs = given.pop("pairs", None) or CheckpointPair(
            **{name: given.pop(name) for name in CheckpointPair.model_fields if name in given}
        )
        on_progress = given.pop("on_progress", None)
        return robustness.run("smoke", pairs, out, RunSettings(**given), on_progress=on_progress)


@pytest.fixture(scope="module")
def objects(tiny: Any) -> Objects:
    return Objects(tiny)


@pytest.fixture(scope="module")
def ran(objects: Objects, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return objects.run(tmp_path_factory.mktemp("objects") / "run")


def test_objects_are_attacked_as_their_folders_are(objects: Objects, ran: Any, tiny: Any, tmp_path: Path) -> None:
    known = objects.run(tmp_path / "run", reference=tiny.full, candidate=tiny.peft)

    assert ran.n_errored == 0
    assert set(ran.tables[Table.EXAMPLES]["checkpoint"]) == {"reference", "candidate"}
    said = f"Report of {ran.folder}: suite smoke, pairs candidate against reference, 0 errored\n"
    assert repr(ran).startswith(said)
    assert len(repr(ran).splitlines()) == 2
    assert ran.tables[Table.EXAMPLES][SAME].equals(known.tables[Table.EXAMPLES][SAME])
    assert set(ran.tables[Table.PAIRS]["contrast"]) == {"full-vs-peft"}
    assert set(ran.tables[Table.EXAMPLES]["testset"]) == {"data"}


def test_a_run_of_objects_is_resumed_verified_and_repeated_by_its_command(objects: Objects, ran: Any) -> None:
    again = objects.run(ran.folder)

    assert again.tables[Table.EXAMPLES].equals(ran.tables[Table.EXAMPLES])
    assert api.verify(ran.folder, sample=10).disagreements == ()
    words = ran.record.command
    assert words[words.index("--candidate") + 1] == str(ran.folder / "given" / "candidate")
    assert words[words.index("--testset") + 1] == str(ran.folder / "given" / "data" / "data.toml")


def test_the_base_below_an_adapter_is_saved_and_stays_as_it_is(objects: Objects, ran: Any, tiny: Any) -> None:
    saved = load_file(ran.folder / "given" / "base" / "model.safetensors")
    plain = AutoModelForSequenceClassification.from_pretrained(tiny.base, num_labels=2).bert.state_dict()

    assert all(torch.equal(saved[f"bert.{name}"], weight) for name, weight in plain.items())
    assert any("lora_A" in name for name in objects.lora.state_dict())


def test_other_weights_in_the_same_folder_are_refused(objects: Objects, ran: Any, tiny: Any) -> None:
    changed = AutoModelForSequenceClassification.from_pretrained(tiny.full)
    with torch.no_grad():
        changed.classifier.bias.add_(1)

    with pytest.raises(RunError, match="holds another reference than the one given; give another folder as out"):
        objects.run(ran.folder, reference=(changed, objects.tokenizer))


def test_rows_of_datasets_are_those_of_a_frame(objects: Objects, ran: Any, tmp_path: Path) -> None:
    rows = datasets.Dataset.from_pandas(objects.frame, preserve_index=False)
    named = rows.cast_column("label", datasets.ClassLabel(names=["negative", "positive"]))

    report = objects.run(tmp_path / "run", data=named)

    assert report.tables[Table.EXAMPLES][SAME].equals(ran.tables[Table.EXAMPLES][SAME])


def test_an_adapter_by_another_name_and_without_a_base_on_disk_is_saved(objects: Objects, tmp_path: Path) -> None:
    inner = AutoModelForSequenceClassification.from_config(objects.full.config)
    inner.load_state_dict(objects.full.state_dict())
    config = LoraConfig(task_type="SEQ_CLS", r=2, init_lora_weights=False)
    adapted = get_peft_model(inner, config, adapter_name="mine")

    report = objects.run(tmp_path / "run", candidate=(adapted, objects.tokenizer))

    assert {path.name for path in (tmp_path / "run" / "given" / "candidate").iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert report.record.checkpoints[1].adaptation == "lora"


def test_two_adapters_of_different_bases_are_refused(objects: Objects, tiny: Any, tmp_path: Path) -> None:
    other = AutoModelForSequenceClassification.from_pretrained(tiny.full)
    adapted = get_peft_model(other, LoraConfig(task_type="SEQ_CLS", r=2))

    with pytest.raises(UsageError, match="expected adapters on one base; .*; load both adapters onto one model"):
        objects.run(tmp_path / "run", reference=(adapted, objects.tokenizer))
    assert not (tmp_path / "run").exists()


def test_a_base_that_is_read_again_with_another_random_classifier_is_the_same_base(
    objects: Objects, ran: Any, tiny: Any
) -> None:
    torch.manual_seed(1)
    base = AutoModelForSequenceClassification.from_pretrained(
        tiny.base, num_labels=2, id2label=objects.full.config.id2label
    )
    lora = PeftModel.from_pretrained(base, tiny.peft)
    assert not torch.equal(
        base.classifier.original_module.weight, objects.lora.base_model.classifier.original_module.weight
    )

    again = objects.run(ran.folder, candidate=(lora, objects.tokenizer))

    assert again.tables[Table.EXAMPLES].equals(ran.tables[Table.EXAMPLES])


def test_an_adapter_that_is_merged_is_told_to_be_unmerged(objects: Objects, tiny: Any, tmp_path: Path) -> None:
    base = AutoModelForSequenceClassification.from_pretrained(tiny.base, num_labels=2)
    lora = PeftModel.from_pretrained(base, tiny.peft)
    lora.merge_adapter()

    with pytest.raises(UsageError, match=r"candidate: its adapter is merged into the base; call unmerge_adapter"):
        objects.run(tmp_path / "run", candidate=(lora, objects.tokenizer))


def test_what_cannot_be_saved_says_so(objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(folder: Path) -> None:
        raise OSError("no room")

    monkeypatch.setattr(objects.full, "save_pretrained", fails)

    with pytest.raises(CheckpointError, match="reference: cannot be saved: OSError: no room; save it, and give"):
        objects.run(tmp_path / "run")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"reference": 5}, "reference: expected a folder, a hub id or (model, tokenizer); got a int"),
        ({"reference": (1, 2, 3)}, "reference: expected a folder, a hub id or (model, tokenizer); got a tuple"),
        ({"candidate": (torch.nn.Linear(1, 1), None)}, "candidate: expected a model of transformers or peft"),
        ({"data": {"sentence": ["a"]}}, "data: expected a folder, a pandas DataFrame or a datasets.Dataset"),
        ({"data": pd.DataFrame({"text": ["a"], "label": [0]})}, "expected one column 'sentence' of task own-task"),
        ({"data": pd.DataFrame({"sentence": ["a"], "lable": [0]})}, "'label' of task own-task; did you mean"),
        ({"data": datasets.DatasetDict()}, "data: expected a datasets.Dataset; got a DatasetDict; choose a split"),
        (
            {"data": pd.DataFrame({"sentence": ["a", "b"], "label": ["positive", "odd"]}, index=["x", "y"])},
            "data: row 2 (index 'y'), column 'label': 'odd'; expected one of negative, positive",
        ),
        (
            {"data": pd.DataFrame({"sentence": ["a", None], "label": [0, 1]}, index=[4, 7])},
            "data: row 2 (index 7): column 'sentence' is empty or not text",
        ),
        (
            {"data": datasets.Dataset.from_dict({"sentence": ["a", ""], "label": [0, 1]})},
            "data: row 2 (index 1): column 'sentence' is empty or not text",
        ),
        ({"data": pd.DataFrame({"sentence": ["a"], "label": [7]})}, "data: 1 of 1 rows have a label that own-task "),
        ({"data": pd.DataFrame({"sentence": [], "label": []})}, "data: no rows in data"),
        (
            {"data": pd.DataFrame({"sentence": ["a", "b"], "label": [0, 1], "id": ["q", "q"]})},
            "data has 2 rows with the id 'q'",
        ),
        ({"task": None}, "CheckpointPair: task: expected text; got None"),
        ({"task": "sst-2"}, "unknown task 'sst-2'; did you mean 'sst2'?"),
        ({"task": MOOD | {"labels": ["one"]}}, 'task: labels: kind = "labels" needs two labels or more'),
        ({"task": MOOD | {"feilds": []}}, "task: unknown key 'feilds'; did you mean 'fields'?"),
        ({"base": 5}, "base: expected a folder, a hub id or (model, tokenizer)"),
        ({"limits": 3}, "RunSettings: unknown setting 'limits'; did you mean 'limit'?"),
        ({"limit": "three"}, "RunSettings: limit: expected a whole number; got 'three'"),
        ({"attacks": "deepwordbug"}, "RunSettings: attacks: expected a list; got 'deepwordbug'"),
        ({"testsets": "sst2"}, "RunSettings: testsets: expected a list; got 'sst2'"),
        ({"seed": True}, "RunSettings: seed: expected a whole number; got True"),
        ({"allow_untrained": "yes"}, "RunSettings: allow_untrained: expected true or false"),
        ({"labels": ["a"]}, "CheckpointPair: labels: expected a table of names with values"),
        ({"labels": {"LABEL_0": "good"}}, "'LABEL_0' is mapped to 'good', which task own-task does not have"),
        ({"device": "tpu"}, "tpu"),
        ({"dtype": "float16"}, "float16"),
        ({"attacks": [5]}, "int"),
        ({"probes": [object()]}, "object"),
        ({"on_progress": 5}, "run: on_progress: expected something to call; got 5"),
        ({"attack_fields": ["text"]}, "--attack-field text: no task of the pairs has such a field; known: sentence"),
    ],
)
def test_wrong_calls_are_errors_of_ours_and_leave_nothing_behind(
    objects: Objects, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(RobustnessError) as refused:
        objects.run(tmp_path / "run", **changed)

    assert said in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_plan_takes_no_objects(objects: Objects) -> None:
    with pytest.raises(UsageError, match="plan: takes folders and names; give objects to run"):
        api.plan("smoke", CheckpointPair(reference=(objects.full, objects.tokenizer), candidate="x", task="sst2"))


def test_a_plan_is_executed_as_a_run_is(tiny: Any, tmp_path: Path) -> None:
    settings = RunSettings(data=tiny.data, testsets=[tiny.testset], attacks=["identity"], limit=4)

    planned = api.execute(api.plan("smoke", tiny.pairs, settings), tmp_path / "planned")
    ran = api.run("smoke", tiny.pairs, tmp_path / "ran", settings)

    assert planned.tables[Table.EXAMPLES][SAME].equals(ran.tables[Table.EXAMPLES][SAME])


def test_rows_are_read_by_the_task_of_the_pairs_file(objects: Objects, tiny: Any, tmp_path: Path) -> None:
    settings = RunSettings(data=objects.frame, attacks=["identity"], limit=4)

    report = api.run("smoke", tiny.pairs, tmp_path / "run", settings)

    assert set(report.tables[Table.EXAMPLES]["testset"]) == {"data"}
    assert set(report.tables[Table.EXAMPLES]["task"]) == {"sst2"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((5, "pairs.toml", "run"), "run: suite: expected a name or a path; got 5"),
        (("smoke", None, "run"), "run: pairs: expected the path of a pairs.toml, or CheckpointPair; got None"),
        (("smoke", {"reference": "a"}, "run"), "run: pairs: expected the path of a pairs.toml, or CheckpointPair"),
        (("smoke", "pairs.toml", None), "run: out: expected a path; got None"),
        (("smoke", "pairs.toml", "run", {"limit": 3}), "run: settings: expected RunSettings; got {'limit': 3}"),
    ],
)
def test_what_a_type_checker_would_refuse_is_an_error_of_ours(given: tuple[Any, ...], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        robustness.run(*given)


def test_nothing_is_taken_away_of_a_folder_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    with (
        pytest.raises(RunError, match="holds something that is not a complete run"),
        staged(CheckpointPair(reference="a", candidate="b", task=MOOD), RunSettings(), tmp_path),
    ):
        pass

    assert (tmp_path / "notes.txt").read_text() == "mine"


def call(out: Path, sentence: str) -> Any:
    rows = pd.DataFrame({"sentence": [sentence], "label": ["positive"]})
    return staged(CheckpointPair(reference="a", candidate="b", task=MOOD), RunSettings(data=rows), out)


def test_a_call_that_is_refused_leaves_the_files_that_another_call_in_the_same_folder_uses(tmp_path: Path) -> None:
    """The other one is in its gate: it has written no record yet."""
    out, rows = tmp_path / "run", tmp_path / "run" / "given" / "data" / "rows.jsonl"
    with call(out, "a fine film"):
        before = rows.read_bytes()
        with pytest.raises(RunError, match="holds another data than the one given"), call(out, "a dull film"):
            pass

        assert rows.read_bytes() == before
    assert not out.exists()


def test_the_last_of_two_calls_with_the_same_objects_takes_their_files_away(tmp_path: Path) -> None:
    first, second = (call(tmp_path / "run", "a fine film") for _ in range(2))
    with second:
        with first:
            pass
        assert (tmp_path / "run" / "given" / "data" / "rows.jsonl").is_file()

    assert not (tmp_path / "run").exists()
