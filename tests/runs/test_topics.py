"""A task of one's own with four labels, as docs/tasks.md has it: from plain checkpoints to tables."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Call
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import BertForSequenceClassification, BertTokenizerFast

from robustness import RunSettings, api
from robustness.cli import main
from robustness.definitions.tasks import find_task
from robustness.engine.scheduler import Scheduler
from robustness.errors import RobustnessError
from robustness.recipes.building import find_attack
from robustness.reports.report import Report
from robustness.runs.storage.record import read_record
from robustness.tasks.grading import LabelGrader
from robustness.testsets.example import Example
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.loading import load_checkpoint, place, to_victim

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
TOPICS = {
    "World": ("fine", "lovely", "superb", "warm"),
    "Sports": ("bright", "clever", "tender", "charming"),
    "Business": ("dull", "awful", "clumsy", "cold"),
    "Sci/Tech": ("bleak", "stupid", "noisy", "tedious"),
}
OWN_ORDER = {0: "sports", 1: "Science", 2: "world", 3: "business"}
"""Of the checkpoints' heads: other than the task's, one by an alias."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def sentences(count: int, seed: int) -> list[tuple[str, str]]:
    rng = np.random.default_rng(seed)
    fillers = ("film", "plot", "song", "scene", "meal", "story", "actor", "music")
    topics = [list(TOPICS)[number % 4] for number in range(count)]
    return [
        (f"the {rng.choice(fillers)} is {rng.choice(TOPICS[t])} . {rng.choice(fillers)} number {i}", t)
        for i, t in enumerate(topics)
    ]


def fit(model: torch.nn.Module, tokenizer: BertTokenizerFast, rate: float) -> None:
    rows = sentences(96, seed=0)
    columns = {find_task("ag-news").find_label(name): column for column, name in OWN_ORDER.items() if column != 1}
    columns[3] = 1
    batch = tokenizer([text for text, _ in rows], padding=True, return_tensors="pt")
    labels = torch.tensor([columns[list(TOPICS).index(topic)] for _, topic in rows])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    model.train()
    for _ in range(80):
        optimizer.zero_grad()
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
    model.eval()


@pytest.fixture(scope="module")
def news(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> Path:
    """A folder with the page's files, and a pair as plain transformers and peft save it."""
    folder = tmp_path_factory.mktemp("news")
    for name, text in zip(("topics", "news", "pairs"), blocks("toml"), strict=False):  # further ones are of texts
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    tokenizer = BertTokenizerFast.from_pretrained(tiny.base)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        base = BertForSequenceClassification.from_pretrained(tiny.base, num_labels=4, id2label=OWN_ORDER)
        base.bert.save_pretrained(folder / "my" / "base")
        tokenizer.save_pretrained(folder / "my" / "base")
        fit(base, tokenizer, rate=3e-3)
        base.save_pretrained(folder / "my" / "full")
        tokenizer.save_pretrained(folder / "my" / "full")
        torch.manual_seed(1)
        model = BertForSequenceClassification.from_pretrained(folder / "my" / "base", num_labels=4)
        adapted = get_peft_model(
            model, LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules=["query", "value"])
        )
        fit(adapted, tokenizer, rate=2e-2)
        adapted.save_pretrained(folder / "my" / "lora")
    with (folder / "my" / "news.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "topic"), *sentences(40, seed=1)])
    return folder


@pytest.fixture(scope="module")
def report(news: Path) -> Report:
    return api.run(
        "attacks-quick",
        news / "pairs.toml",
        news / "out",
        RunSettings(
            data=news / "my", testsets=[str(news / "news.toml")], attacks=["deepwordbug"], device="cpu", limit=24
        ),
    )


def plain_answers(news: Path, arm: str) -> list[str]:
    """What transformers and peft answer by themselves, by the names of the task's labels."""
    tokenizer = BertTokenizerFast.from_pretrained(news / "my" / "base")
    if arm == "full":
        model = BertForSequenceClassification.from_pretrained(news / "my" / "full")
    else:
        base = BertForSequenceClassification.from_pretrained(news / "my" / "base", num_labels=4)
        model = PeftModel.from_pretrained(base, news / "my" / "lora")
    names = ["Sports", "Sci/Tech", "World", "Business"]
    with torch.inference_mode():
        batch = tokenizer([text for text, _ in sentences(40, seed=1)], padding=True, return_tensors="pt")
        return [names[column] for column in model.eval()(**batch).logits.argmax(dim=1).tolist()]


@pytest.mark.parametrize("arm", ["full", "lora"])
def test_the_answers_to_four_labels_are_those_of_plain_transformers(news: Path, arm: str) -> None:
    task, folder = find_task(str(news / "topics.toml")), news / "my"
    partner = str(folder / "full") if arm == "lora" else None
    checkpoint = read_checkpoint(arm, str(folder / arm), str(folder / "base"), partner)

    victim = to_victim(load_checkpoint(checkpoint, task), place("cpu"))

    answers = victim.scores([(text,) for text, _ in sentences(40, seed=1)]).argmax(axis=1)  # type: ignore[union-attr]
    plain = plain_answers(news, arm)
    assert [task.labels[index] for index in answers] == plain
    assert len(set(plain)) == 4


def test_a_task_of_four_labels_runs_to_its_tables(news: Path, report: Report) -> None:
    table = report.tables["attacks"]

    attacked = table[table["attack"] == "deepwordbug"]
    assert set(attacked["checkpoint"]) == {"my/full", "my/lora"}
    assert set(attacked["task"]) == {"topics"} and set(attacked["n_errored"]) == {0}
    assert (attacked["robust_accuracy"] < attacked["clean_accuracy"]).any()
    record = read_record(news / "out")
    assert record.tasks == (find_task(str(news / "topics.toml")),)


def test_clean_accuracy_is_the_share_that_plain_transformers_answers_rightly(news: Path, tmp_path: Path) -> None:
    names = [str(news / "news.toml")]

    report = api.run(
        "smoke",
        news / "pairs.toml",
        tmp_path / "out",
        RunSettings(data=news / "my", testsets=names, attacks=["identity"]),
    )

    table = report.tables["testsets"].query("metric == 'accuracy'").set_index("checkpoint")["value"]
    for arm in ("full", "lora"):
        right = [a == topic for a, (_, topic) in zip(plain_answers(news, arm), sentences(40, seed=1), strict=True)]
        assert table[f"my/{arm}"] == pytest.approx(np.mean(right))


def test_numbers_are_protected_in_every_proposal(report: Report) -> None:
    table = report.tables["examples"]

    attacked = table[(table["attack"] == "deepwordbug") & table["adversarial_text"].notna()]
    assert len(attacked)
    for clean, adversarial in zip(attacked["original_text"], attacked["adversarial_text"], strict=True):
        assert re.findall("[0-9]+", clean) == re.findall("[0-9]+", adversarial)


def test_the_commands_of_the_page_run_as_they_stand(
    news: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(news)
    for line in blocks("console")[0].splitlines():
        monkeypatch.setattr(sys, "argv", line.split())
        try:
            main()
        except SystemExit as stop:
            assert not stop.code
    assert "topics: keeps every rule" in capsys.readouterr().out
    assert (news / "runs" / "news" / "report.html").is_file()


def test_fifty_attacked_sentences_of_four_labels_end_as_textattacks(
    news: Path, textattack: Any, shared_draws: Any
) -> None:
    folder = news / "my"
    checkpoint = read_checkpoint("full", str(folder / "full"), str(folder / "base"))
    victim: Any = to_victim(load_checkpoint(checkpoint, find_task(str(news / "topics.toml"))), place("cpu"))
    rows = [(text, list(TOPICS).index(topic)) for text, topic in sentences(80, seed=2)]
    answers = victim.scores([(text,) for text, _ in rows]).argmax(axis=1)
    right = [row for row, answer in zip(rows, answers, strict=True) if answer == row[1]][:50]
    examples = [Example(str(number), (text,), label) for number, (text, label) in enumerate(right)]

    class Mild:
        """Runs each text once, and has no probability so near 1 that TextAttack's single precision rounds it."""

        def __init__(self) -> None:
            self.known: dict[Any, Any] = {}

        def scores(self, texts: Any) -> Any:
            new = [text for text in texts if text not in self.known]
            self.known |= {text: victim.scores([text])[0] / 10 for text in new}
            return np.stack([self.known[text] for text in texts])

    class Wrapper(textattack.models.wrappers.ModelWrapper):  # type: ignore[misc, name-defined]
        model = None

        def __call__(self, texts: list[str]) -> Any:
            return mild.scores([(text,) for text in texts])

    attack, mild = find_attack("deepwordbug"), Mild()
    ours = {o.example_id: o for o in Scheduler(attack, mild, seed=5).run(examples)}
    recipe, draws = textattack.attack_recipes.DeepWordBugGao2018.build(Wrapper()), shared_draws(5, attack.digest)
    ties = 0
    words = {"SuccessfulAttackResult": "succeeded", "FailedAttackResult": "failed"}
    assert len(examples) == 50 and {example.label for example in examples} == {0, 1, 2, 3}
    for example in examples:
        draws.start(example.id)
        theirs = recipe.attack(textattack.shared.AttackedText(example.texts[0]), example.label)

        assert ours[example.id].status == words[type(theirs).__name__], example.texts
        their_text = theirs.perturbed_result.attacked_text.text
        if ours[example.id].adversarial_text != (their_text,):
            both = mild.scores([ours[example.id].adversarial_text, (their_text,)])
            losses = LabelGrader(tuple(TOPICS)).losses(both, [example, example])
            assert losses[0] == pytest.approx(losses[1], abs=1e-6), example.texts  # a tie in single precision
            ties += 1
    assert ties <= 2


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["premise"], "--attack-field premise: no task of the pairs has such a field; known: text"),
        (["text", "premise"], "--attack-field premise: no task of the pairs has such a field; known: text"),
    ],
)
def test_a_field_that_no_task_has_is_refused_before_anything_loads(
    news: Path, fields: list[str], expected: str
) -> None:
    with pytest.raises(RobustnessError) as caught:
        api.plan(
            "attacks-quick",
            news / "pairs.toml",
            RunSettings(testsets=[str(news / "news.toml")], attack_fields=fields),
        )

    assert str(caught.value) == expected


def test_two_tasks_of_one_name_are_refused_with_what_differs(news: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "topics.toml").write_text(blocks("toml")[0].replace('"Sports"', '"Sport"'), encoding="utf-8")
    (other / "news.toml").write_text(blocks("toml")[1], encoding="utf-8")

    with pytest.raises(RobustnessError) as caught:
        api.plan("attacks-quick", news / "pairs.toml", RunSettings(testsets=[str(other / "news.toml")]))

    assert str(caught.value) == (
        f"task topics: that of test set news ({other / 'topics.toml'}) is not that of pair news "
        f"({news / 'topics.toml'}): they differ in labels; let both name one file"
    )


def test_fields_that_the_test_set_lacks_are_refused(news: Path, call: Call, tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text(
        blocks("toml")[1].replace('"topics.toml"', f'"{news / "topics.toml"}"').replace('["text"]', '["txt"]')
    )

    done = call(
        "run", "smoke", "--pairs", str(news / "pairs.toml"), "--data", str(news / "my"),
        "--testset", str(tmp_path / "wrong.toml"), "--out", "out",
    )  # fmt: skip

    assert done.returncode == 2
    assert "news.csv row 1: column 'txt' is missing; there are 'text', 'topic'" in " ".join(done.stderr.split())
