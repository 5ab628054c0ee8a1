"""What does not fit together is refused before any weight is loaded, with where, what and the nearest name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from robustness import CheckpointPair, RunSettings, api
from robustness.errors import RobustnessError
from robustness.runs import preparation

TASK = """
kind = "labels"
fields = ["text"]
labels = ["negative", "positive"]
"""
NEWS = """
summary = "Own rows."
licence = "own"
task = "mood.toml"
kind = "clean"

[[test.local]]
reader = "table"
file = "rows.jsonl"
columns = ["text"]
label = "label"
"""
PROMPT = 'verbalisers = [" bad", " good"]\n'


class World:
    """A task, a test set and the tiny pair, in one folder, of which a test changes a part."""

    def __init__(self, tiny: Any, folder: Path) -> None:
        self.tiny, self.folder = tiny, folder
        self.write("mood.toml", TASK)
        self.write("news.toml", NEWS)
        self.rows(({"text": f"the film is {word}", "label": i % 2} for i, word in enumerate(["dull", "fine"] * 6)))
        self.arms: dict[str, Any] = {"reference": str(tiny.full), "candidate": str(tiny.peft)}
        self.labels: dict[str, str] = {}

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def rows(self, rows: Any) -> None:
        self.write("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def relabel(self, arm: str, names: dict[str, str]) -> None:
        """Gives an arm a config of its own with these labels."""
        folder = Path(shutil.copytree(self.arms[arm], self.folder / arm))
        config = json.loads((Path(self.tiny.full) / "config.json").read_text())
        config |= {"id2label": names, "label2id": {name: int(column) for column, name in names.items()}}
        (folder / "config.json").write_text(json.dumps(config))
        self.arms[arm] = str(folder)

    def prompted(self, *arms: str) -> None:
        """Makes the arms causal language models, as far as configs say it."""
        self.write("mood.toml", TASK + 'template = "{text} It was"\n' + PROMPT)
        for arm, reference in [(arm, self.arms[arm]) for arm in arms or ("reference", "candidate")]:
            folder = Path(shutil.copytree(reference, self.folder / f"causal-{arm}"))
            config = json.loads((Path(self.tiny.full) / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertLMHeadModel"]}))
            self.arms[arm] = str(folder)

    def run(self) -> None:
        api.run(
            "smoke",
            CheckpointPair(**self.arms, base=str(self.tiny.base), task=self.folder / "mood.toml", labels=self.labels),
            self.folder / "run",
            RunSettings(testsets=[self.folder / "news.toml"], data=self.folder, attacks=["deepwordbug"], limit=4),
        )


@pytest.fixture
def world(tiny: Any, tmp_path: Path) -> World:
    return World(tiny, tmp_path)


def task(text: str) -> Any:
    return lambda world: world.write("mood.toml", text)


def testset(before: str, after: str) -> Any:
    assert before in NEWS
    return lambda world: world.write("news.toml", NEWS.replace(before, after))


testset.__test__ = False  # type: ignore[attr-defined]


CASES = {
    "an unknown key of a task": (task(TASK + "lables = []"), "mood.toml: unknown key 'lables'; did you mean"),
    "an unknown metric": (
        task(TASK + 'metric = "acuracy"'),
        "mood.toml: key 'metric': unknown 'acuracy'; did you mean 'accuracy'?",
    ),
    "an unknown attacked field": (
        task(TASK + 'attacked = ["txt"]'),
        "mood.toml: attacked: unknown field 'txt'; did you mean 'text'?",
    ),
    "an alias of no label": (
        task(TASK + 'aliases = { good = "positiv" }'),
        "mood.toml: aliases: unknown label 'positiv'; did you mean 'positive'?",
    ),
    "a template without a field": (
        task(TASK + PROMPT + 'template = "Mood:"'),
        "mood.toml: template: lacks the field {text}; use every field of the task",
    ),
    "a template with another field": (
        task(TASK + PROMPT + 'template = "{text} {txt}"'),
        "mood.toml: template: unknown field 'txt'; did you mean 'text'?",
    ),
    "a regression": (
        task(TASK.replace('"labels"', '"regression"')),
        "mood.toml: key 'kind': regression is not supported",
    ),
    "an unknown key of a test set": (
        testset('label = "label"', 'lable = "label"'),
        "news.toml [test.local.#1.table]: unknown key 'lable'; did you mean 'label'?",
    ),
    "a column that the rows lack": (
        testset('["text"]', '["txt"]'),
        "rows.jsonl row 1: column 'txt' is missing; there are 'text', 'label'",
    ),
    "a label column that the rows lack": (
        testset('"label"', '"topic"'),
        "rows.jsonl row 1: column 'topic' is missing; there are 'text', 'label'",
    ),
    "more columns than fields": (
        testset('["text"]', '["text", "label"]'),
        "news.toml: columns names 2 columns; mood has 1 texts (text)",
    ),
    "a label by a name that the task has not": (
        lambda world: world.rows([{"text": "fine", "label": "positiv"}]),
        "rows.jsonl row 1: label 'positiv'; expected one of negative, positive",
    ),
    "a label beyond the task's": (
        lambda world: world.rows([{"text": "fine", "label": 0}, {"text": "dull", "label": 7}]),
        "label 7; it has labels 0 to 1 (negative, positive)",
    ),
    "a test set of another task": (testset('"mood.toml"', '"sst2"'), "give a test set of such a task: --testset"),
    "a reference with other labels": (
        lambda world: world.relabel("reference", {"0": "World", "1": "Sports"}),
        "label-map: its labels (0: World, 1: Sports) cannot be mapped by name to those of mood (negative, positive)",
    ),
    "a candidate with more labels": (
        lambda world: world.relabel("candidate", {"0": "negative", "1": "positive", "2": "neutral"}),
        "its head has 3 labels (0: negative, 1: positive, 2: neutral), the task mood has 2 (negative, positive)",
    ),
    "a chat that the tokenizer cannot render": (
        lambda world: (world.prompted(), world.write("mood.toml", TASK + PROMPT + '[chat]\nuser = "{text}"')),
        "chat template",
    ),
    "a label name that prompted arms do not have": (
        lambda world: (world.prompted(), setattr(world, "labels", {"negativ": "negative"})),
        "the pair says what 'negativ' stands for, but no label of its arms has that name; "
        "they answer without a head for labels: leave it out",
    ),
    "the number of a label that prompted arms do not have": (
        lambda world: (world.prompted(), setattr(world, "labels", {"LABEL_0": "negative"})),
        "the pair says what 'LABEL_0' stands for",
    ),
    "a label name that the partner of a prompted arm does not have": (
        lambda world: (
            world.relabel("candidate", {"0": "negative", "1": "positive"}),
            world.prompted("reference"),
            setattr(world, "labels", {"negativ": "negative"}),
        ),
        "checkpoint causal-reference: label-map: the pair says what 'negativ' stands for, but no label of its arms "
        "has that name; did you mean 'negative'?",
    ),
}


def test_the_world_runs_where_nothing_is_changed(world: World) -> None:
    world.run()

    assert api.load(world.folder / "run").n_errored == 0


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_refused_before_anything_loads(
    world: World, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    change, said = CASES[case]
    loaded: list[object] = []
    monkeypatch.setattr(preparation, "inspect_checkpoint", lambda *given: loaded.append(given))
    change(world)

    with pytest.raises(RobustnessError) as refused:
        world.run()

    assert said in str(refused.value)
    assert not loaded
    assert not (world.folder / "run").exists()
