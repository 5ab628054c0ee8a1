"""Runs of any two checkpoints: what a pair compares follows from them, and one refused pair ends no run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from commands import Call
from conftest import fit
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification, BertTokenizerFast

from robustness import CheckpointPair, RunSettings, api
from robustness.errors import CheckpointError, DefinitionError, GateError, UsageError
from robustness.reports.summaries.terminal import render_summary
from robustness.reports.tables.columns import Table
from robustness.stats import Verdict

ATTACKS = ("deepwordbug",)


class Shelf:
    """Checkpoints of the tiny world's base as plain libraries save them, made where one is asked for."""

    def __init__(self, tiny: Any, folder: Path) -> None:
        self.tiny = tiny
        self.folder = folder
        self.made = {"full": tiny.full, "lora": tiny.peft, "base": tiny.base}

    def __getitem__(self, name: str) -> str:
        if name not in self.made:
            self.made[name] = getattr(self, name)(self.folder / name)
        return str(self.made[name])

    def plain_lora(self, folder: Path) -> Path:
        """As peft saves it: no config.json beside it."""
        shutil.copytree(self.tiny.peft, folder, ignore=shutil.ignore_patterns("config.json"))
        return folder

    def plain_full(self, folder: Path) -> Path:
        """As a plain Trainer saves it: labels without names."""
        shutil.copytree(self.tiny.full, folder)
        config = json.loads((folder / "config.json").read_text())
        config.pop("id2label"), config.pop("label2id", None)
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    def turned(self, folder: Path) -> Path:
        """As `plain_full`, with the columns of its head in the other order."""
        self.plain_full(folder)
        weights = load_file(folder / "model.safetensors")
        save_file(
            {k: v.flip(0) if k.startswith("classifier") else v for k, v in weights.items()},
            folder / "model.safetensors",
            {"format": "pt"},
        )
        return folder

    def merged(self, folder: Path) -> Path:
        """The LoRA checkpoint in the base's weights."""
        from peft import PeftModel

        model = BertForSequenceClassification.from_pretrained(
            self.tiny.base, id2label={0: "negative", 1: "positive"}, num_labels=2
        )
        PeftModel.from_pretrained(model, self.tiny.peft).merge_and_unload().save_pretrained(folder)
        BertTokenizerFast.from_pretrained(self.tiny.base).save_pretrained(folder)
        return folder

    def biases(self, folder: Path) -> Path:
        """BitFit by hand: the full checkpoint with its biases trained on."""
        return self._train_on(folder, "bias")

    def further(self, folder: Path) -> Path:
        """The full checkpoint with all its weights trained on."""
        return self._train_on(folder, "")

    def _train_on(self, folder: Path, ending: str) -> Path:
        tokenizer = BertTokenizerFast.from_pretrained(self.tiny.full)
        model = BertForSequenceClassification.from_pretrained(self.tiny.full)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.endswith(ending))
        fit(model, tokenizer, self.tiny.rows, rate=1e-3)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder


@pytest.fixture(scope="session")
def shelf(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tiny, tmp_path_factory.mktemp("shelf"))


def compare(shelf: Shelf, out: Path, reference: str, candidate: str, base: str = "base", **options: Any) -> Any:
    labels = options.pop("labels", {})
    return api.run(
        "smoke",
        pairs=CheckpointPair(
            reference=shelf[reference], candidate=shelf[candidate], task="sst2", base=shelf[base], labels=labels
        ),
        out=out,
        settings=RunSettings(data=shelf.tiny.data, testsets=[str(shelf.tiny.testset)], attacks=ATTACKS, **options),
    )


def lines(report: Any) -> str:
    """What the terminal ends with."""
    return "\n".join(str(getattr(part, "text", part)) for part in render_summary(report))


@pytest.mark.parametrize(
    ("reference", "candidate", "contrast", "changed"),
    [
        ("full", "plain_lora", "full-vs-peft", ("39 of 39 tensors", "")),
        ("plain_lora", "full", "peft-vs-full", ("", "39 of 39 tensors")),
        (
            "full",
            "merged",
            "full-vs-full",
            ("39 of 39", "a low-rank update, as of a merged adapter: rank 4 in 4 of 39"),
        ),
        ("further", "biases", "full-vs-peft", ("41 of 41", "biases alone: ")),
        ("full", "plain_full", "full-vs-full", ("39 of 39", "39 of 39")),
    ],
)
def test_what_a_pair_compares_follows_from_its_checkpoints(
    shelf: Shelf, tmp_path: Path, reference: str, candidate: str, contrast: str, changed: tuple[str, str]
) -> None:
    base = "full" if candidate == "biases" else "base"

    report = compare(shelf, tmp_path / "run", reference, candidate, base)

    assert set(report.tables[Table.PAIRS]["contrast"]) == {contrast}
    found = [report.record.find_checkpoint(Path(shelf[name]).name).changed for name in (reference, candidate)]
    assert all(words in said and bool(words) == bool(said) for words, said in zip(changed, found, strict=True))
    words = set(report.tables[Table.PAIRS]["verdict"].dropna())
    neutral = {Verdict.CANDIDATE_MORE_FRAGILE, Verdict.REFERENCE_MORE_FRAGILE}
    assert not words & (
        {Verdict.PEFT_MORE_FRAGILE, Verdict.FULL_MORE_FRAGILE} if contrast != "full-vs-peft" else neutral
    )
    page = (tmp_path / "run" / "report.html").read_text()
    assert all(words in page for words in changed)


def test_a_bitfit_folder_made_by_hand_counts_its_biases(shelf: Shelf, tmp_path: Path) -> None:
    report = compare(shelf, tmp_path / "run", "further", "biases", "full")

    weights = load_file(Path(shelf["biases"]) / "model.safetensors")
    found = report.record.find_checkpoint(Path(shelf["biases"]).name)
    assert found.adaptation == "bitfit"
    assert found.trainable_parameters == sum(v.numel() for k, v in weights.items() if k.endswith("bias"))
    assert "BitFit changed of its base: biases alone" in lines(report)


def test_a_rank_tells_a_merged_adapter_from_full_fine_tuning(shelf: Shelf, tmp_path: Path) -> None:
    report = compare(shelf, tmp_path / "run", "full", "merged")

    arms = [report.record.find_checkpoint(Path(shelf[name]).name) for name in ("full", "merged")]
    assert [arm.settings for arm in arms] == [{}, {"rank": "4"}]
    assert arms[0].method_digest != arms[1].method_digest
    assert "full fine-tuning (rank=4) (candidate) beside full fine-tuning (full rank) (reference)" in lines(report)
    title = "Full fine-tuning (rank=4) against full fine-tuning (full rank)"
    assert title in (tmp_path / "run" / "report.html").read_text()


def test_labels_without_names_are_read_in_the_order_of_the_partner(shelf: Shelf, tmp_path: Path) -> None:
    report = compare(shelf, tmp_path / "run", "lora", "plain_full")

    known = compare(shelf, tmp_path / "known", "lora", "full")
    said = "its own files do not name its labels; its partner's are taken"
    assert any(said in each for each in report.record.warnings)
    columns = ["example_id", "attack", "status", "adversarial_text"]
    mine, theirs = (
        each.tables[Table.EXAMPLES].query("adaptation == 'full'")[columns].reset_index(drop=True)
        for each in (report, known)
    )
    assert mine.equals(theirs)


def test_labels_without_names_in_another_order_than_the_partners_are_refused(shelf: Shelf, tmp_path: Path) -> None:
    said = (
        "with negative as positive, positive as negative; give the pair "
        'labels = { LABEL_0 = "positive", LABEL_1 = "negative" }, or '
        "--label LABEL_0=positive --label LABEL_1=negative"
    )
    with pytest.raises(GateError, match=re.escape(said)):
        compare(shelf, tmp_path / "run", "lora", "turned")


def test_labels_of_the_pair_name_what_the_checkpoint_does_not(shelf: Shelf, tmp_path: Path) -> None:
    named = {"LABEL_0": "positive", "LABEL_1": "negative"}

    report = compare(shelf, tmp_path / "run", "lora", "turned", labels=named)

    known = compare(shelf, tmp_path / "known", "lora", "full")
    found = ((report, "turned"), (known, "full"))
    accuracies = [r.record.find_checkpoint(Path(shelf[n]).name).clean_accuracy for r, n in found]
    assert accuracies[0] == accuracies[1]
    assert dict(report.record.pairs[0].labels) == named
    assert api.verify(tmp_path / "run", sample=20).disagreements == ()


def test_a_label_name_that_neither_arm_has_is_refused_with_the_known_ones(shelf: Shelf, tmp_path: Path) -> None:
    said = "'negativ' stands for, but no label of its arms has that name; did you mean 'negative'?"
    with pytest.raises(CheckpointError, match=re.escape(said)):
        compare(shelf, tmp_path / "run", "lora", "full", labels={"negativ": "negative"})
    assert not (tmp_path / "run").exists()


def test_two_checkpoints_without_label_names_are_told_what_to_give(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"give the pair labels = \{ LABEL_0"):
        compare(shelf, tmp_path / "run", "plain_full", "plain_lora")
    assert not (tmp_path / "run").exists()

    report = compare(
        shelf, tmp_path / "run", "plain_full", "plain_lora", labels={"LABEL_0": "negative", "LABEL_1": "positive"}
    )
    assert report.n_errored == 0


def test_an_untrained_base_is_an_arm_only_where_that_is_allowed(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(GateError, match="head-loaded"):
        compare(shelf, tmp_path / "run", "base", "lora")

    report = compare(shelf, tmp_path / "run", "base", "lora", allow_untrained=True)

    again = compare(shelf, tmp_path / "again", "base", "lora", allow_untrained=True)
    said = "is a base that has not learnt the task (--allow-untrained): its clean score is"
    assert set(report.tables[Table.PAIRS]["contrast"]) == {"base-vs-tuned"}
    assert said in lines(report)
    assert said in (tmp_path / "run" / "report.html").read_text()
    assert "the untuned base" in lines(report)
    columns = ["checkpoint", "example_id", "attack", "status", "adversarial_text"]
    assert report.tables[Table.EXAMPLES][columns].equals(again.tables[Table.EXAMPLES][columns])


def test_an_untrained_base_has_as_many_labels_as_the_task(shelf: Shelf, tmp_path: Path) -> None:
    """Its config says nothing of labels, and transformers would give it two."""
    names = ["negative", "positive", "neutral", "mixed"]
    (tmp_path / "mood.toml").write_text(f'kind = "labels"\nfields = ["sentence"]\nlabels = {json.dumps(names)}\n')
    four = Path(shutil.copytree(shelf["full"], tmp_path / "four"))
    config = json.loads((four / "config.json").read_text()) | {"id2label": dict(enumerate(names))}
    (four / "config.json").write_text(json.dumps(config | {"label2id": {name: i for i, name in enumerate(names)}}))
    weights = load_file(four / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):  # two labels more, which it never gives
        weights[name] = torch.cat([weights[name], torch.zeros_like(weights[name])])
    weights["classifier.bias"][2:] = -100
    save_file(weights, four / "model.safetensors", {"format": "pt"})

    report = api.run(
        "smoke",
        pairs=CheckpointPair(
            reference=shelf["base"], candidate=tmp_path / "four", base=shelf["base"], task=tmp_path / "mood.toml"
        ),
        out=tmp_path / "run",
        settings=RunSettings(
            data=pd.DataFrame(shelf.tiny.rows[:16], columns=["sentence", "label"]),
            attacks=ATTACKS,
            allow_untrained=True,
        ),
    )

    assert report.n_errored == 0
    assert [each.adaptation for each in report.record.checkpoints] == ["base", "full"]


def test_an_adapter_that_has_not_learnt_the_task_is_refused_all_the_same(shelf: Shelf, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shelf["lora"], tmp_path / "headless"))
    weights = load_file(folder / "adapter_model.safetensors")
    turned = {k: -v if "classifier" in k else v for k, v in weights.items()}
    save_file(turned, folder / "adapter_model.safetensors", {"format": "pt"})
    shelf.made["headless"] = folder

    with pytest.raises(GateError, match="clean-accuracy"):
        compare(shelf, tmp_path / "run", "full", "headless", allow_untrained=True)


def run(call: Call, *words: object) -> tuple[int, str, str]:
    """Exit code, and both streams with single spaces."""
    done = call(*map(str, words))
    return done.returncode, " ".join(done.stdout.split()), " ".join(done.stderr.split())


def write_pairs(path: Path, shelf: Shelf, **arms: tuple[str, str]) -> Path:
    path.write_text(
        "".join(
            f'[[pair]]\nname = "{name}"\ntask = "sst2"\nbase = "{shelf["base"]}"\n'
            f'reference = "{reference}"\ncandidate = "{candidate}"\n'
            for name, (reference, candidate) in arms.items()
        )
    )
    return path


def test_a_refused_pair_ends_itself_and_not_the_run(shelf: Shelf, tmp_path: Path, call: Call) -> None:
    pairs = write_pairs(
        tmp_path / "pairs.toml",
        shelf,
        good=(shelf["full"], shelf["lora"]),
        gone=(shelf["full"], "./gone"),
        turned=(shelf["lora"], shelf["turned"]),
    )
    command = ("run", "smoke", "--pairs", pairs, "--out", tmp_path / "run", "--data", shelf.tiny.data)
    command += ("--testset", shelf.tiny.testset, "--attack", "deepwordbug")

    code, out, err = run(call, *command)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    again, _, _ = run(call, *command)

    assert (code, again) == (1, 1)
    assert [pair["name"] for pair in record["pairs"]] == ["good"]
    assert {each["name"]: each["reason"].partition(":")[0] for each in record["refused"]} == {
        "gone": "checkpoint ./gone",
        "turned": "pair turned is refused",
    }
    assert "warning: pair gone is not compared: checkpoint ./gone: no folder" in out
    assert "2 pairs refused" in err
    page = (tmp_path / "run" / "report.html").read_text()
    assert "pair gone is not compared" in page
    assert '<td class="text">gone</td>' in page and '<td class="text">turned</td>' in page


def test_where_every_pair_is_refused_the_command_is_wrong(shelf: Shelf, tmp_path: Path, call: Call) -> None:
    pairs = write_pairs(tmp_path / "pairs.toml", shelf, one=(shelf["full"], "./gone"), two=(shelf["lora"], "./lost"))

    code, _, err = run(call, "run", "smoke", "--pairs", pairs, "--out", tmp_path / "run", "--data", shelf.tiny.data)

    assert code == 2
    assert "all 2 pairs are refused: checkpoint ./gone" in err and "./lost" in err
    assert not (tmp_path / "run").exists()


def test_a_verdict_that_is_not_accepted_is_exit_code_3(shelf: Shelf, tmp_path: Path, call: Call) -> None:
    command = ("run", "smoke", "--reference", shelf["full"], "--candidate", shelf["lora"], "--task", "sst2")
    command += ("--out", tmp_path / "run", "--data", shelf.tiny.data, "--testset", shelf.tiny.testset)
    command += ("--attack", "deepwordbug")

    code, _, _ = run(call, *command)
    verdict = api.report(tmp_path / "run").tables[Table.PAIRS].query("family == 'planned'").iloc[0]
    other = "equivalent" if verdict["verdict"] != "equivalent" else "inconclusive"
    hit, _, err = run(call, *command, "--fail-on", verdict["verdict"])
    size = abs(100 * verdict["difference"])

    assert code == 0
    assert hit == 3
    assert f"--fail-on: lora against full, deepwordbug on tiny: {verdict['verdict']}" in err
    assert run(call, *command, "--fail-on", other)[0] == 0
    assert run(call, *command, "--fail-on", f"{verdict['verdict']}:{size + 1}")[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--fail-on", "fragile"), "--fail-on fragile: unknown verdict 'fragile'"),
        (("--fail-on", "equivalent:x"), "expected percentage points after the colon, such as equivalent:2"),
        (("--label", "LABEL_0"), "--label LABEL_0: expected NAME=LABEL"),
        (("--label", "LABEL_0=good"), "'LABEL_0' is mapped to 'good', which task sst2 does not have"),
        (("--task", "sst-2"), "unknown task 'sst-2'; did you mean 'sst2'?"),
        (("--pairs", "pairs.toml"), "--pairs pairs.toml: stands in place of --reference"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_read(
    shelf: Shelf, tmp_path: Path, call: Call, words: tuple[str, str], said: str
) -> None:
    command = ("run", "smoke", "--reference", shelf["full"], "--candidate", shelf["lora"], "--task", "sst2")

    code, _, err = run(call, *command, "--out", tmp_path / "run", *words)

    assert code == 2
    assert said in err


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"reference": "a", "candidate": "b"}, UsageError, "CheckpointPair: task is missing"),
        (
            {"reference": "a", "candidate": "b", "tasks": "sst2"},
            UsageError,
            "CheckpointPair: unknown setting 'tasks'; did you",
        ),
        ({"reference": "a", "candidate": "b", "task": "sst2"}, UsageError, "neither names its base; give --base"),
        ({"reference": "a", "candidate": "a", "task": "sst2", "base": "c"}, DefinitionError, "both arms are a"),
    ],
)
def test_arms_that_are_no_pair_are_refused(options: dict[str, str], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        api.plan("smoke", CheckpointPair(**options))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no pairs: give --pairs FILE, or --reference, --candidate and --task"),
        (["--reference", "a", "--candidate", "b"], "missing: --task"),
        (["--pairs", "p.toml", "--base", "b"], "--pairs p.toml: stands in place of --base; give one of the two"),
    ],
)
def test_arms_that_are_not_enough_or_too_many_are_refused(call: Any, words: list[str], said: str) -> None:
    done = call("run", "smoke", *words, "--out", "run")

    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
