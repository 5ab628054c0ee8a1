"""Rows of text tasks: gold texts are read, and refused where they could not be answered."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from robustness import api
from robustness.definitions.catalog import TESTSETS, Entry
from robustness.definitions.tasks import find_task
from robustness.engine.evaluation import evaluate
from robustness.errors import DataError, DefinitionError
from robustness.tasks import patterns
from robustness.tasks.graders import grader_for
from robustness.tasks.grading import Rows
from robustness.tasks.text.grading import TextGrader
from robustness.testsets.example import Example
from robustness.testsets.loading import load_testset, load_training_split
from robustness.testsets.writing import write_rows

TESTSET = """summary = "Sums."
licence = "Apache-2.0"
task = "gsm8k"
kind = "adversarial"

[[test.local]]
reader = "table"
file = "sums.jsonl"
columns = ["question"]
answers = "answer"
group = "source"
method = "kind"
"""
ROWS = [
    {"question": "What is 1 + 1?", "answer": "1 + 1 = 2\n#### 2", "source": 7, "kind": "plain"},
    {"question": "What is half of 3?", "answer": ["3/2", "1.5"], "source": 7, "kind": "halved"},
    {"question": "What is x?", "answer": "None", "source": 8, "kind": "lacking"},
]


def load(folder: Path, rows: list[dict[str, object]]) -> tuple[Example, ...]:
    (folder / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / "sums.toml").write_text(TESTSET)
    return load_testset(TESTSETS.find(str(folder / "sums.toml")), folder).examples


def test_gold_texts_are_kept_to_the_letter_with_group_and_method(tmp_path: Path) -> None:
    examples = load(tmp_path, ROWS)

    assert [[gold.text for gold in example.answers] for example in examples] == [
        ["1 + 1 = 2\n#### 2"],
        ["3/2", "1.5"],
        ["None"],
    ]
    assert [example.method for example in examples] == ["plain", "halved", "lacking"]
    assert [example.group_id for example in examples] == ["sums:7", "sums:7", "sums:8"]
    assert examples[0].words == ("What", "is")  # numbers are protected


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("two", r"the gold answers of 1 of 4 rows \(4\) do not score 1: .* finds no answer in the gold 'two'"),
        ("", "empty or not text"),
        ([], "empty or not text"),
        (7, "empty or not text"),
        ("3\nQuestion: and?", "holds the stop string"),
    ],
)
def test_gold_that_its_parser_cannot_read_is_refused_before_anything_runs(
    answer: object, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=reason):
        load(tmp_path, [*ROWS, {"question": "And?", "answer": answer, "source": 9, "kind": "plain"}])


def test_values_of_slots_are_protected_where_they_stand_word_for_word(tmp_path: Path) -> None:
    (tmp_path / "viggo.csv").write_text(
        'mr,ref\n"confirm(name[Portal 2], genres[puzzle, shooter])","Portal 2, the puzzle, came before Portal 23?"\n'
    )
    (tmp_path / "games.toml").write_text(
        TESTSET.replace("gsm8k", "viggo")
        .replace("sums.jsonl", "viggo.csv")
        .replace("question", "ref")
        .replace('"answer"', '"mr"')
        .replace('group = "source"\nmethod = "kind"\n', "")
    )

    (example,) = load_testset(TESTSETS.find(str(tmp_path / "games.toml")), tmp_path).examples

    text = example.texts[0]
    assert [text[start:end] for _, start, end in example.protected] == ["Portal 2", "puzzle", "23"]
    assert example.words == ("the", "came", "before", "Portal")


@pytest.mark.parametrize(("name", "count"), [("viggo", 1_083), ("gsm8k", 1_319), ("gsm-plus", 2_400)])
def test_the_published_sets_are_whole_and_their_gold_scores_one(name: str, count: int, shared_data: Path) -> None:
    examples = load_testset(TESTSETS.find(name), shared_data).examples  # refuses gold that does not score 1

    assert len(examples) == count
    assert all(example.words for example in examples)
    if name == "gsm-plus":
        assert {len([e for e in examples if e.method == method]) for method in {e.method for e in examples}} == {300}
        assert len({example.group_id for example in examples}) == 300
    else:
        training = load_training_split(TESTSETS.find(name), shared_data)
        assert len(training.examples) == {"viggo": 5_103, "gsm8k": 7_473}[name]


def test_checking_a_test_set_reads_its_rows_and_says_which_gold_is_wrong(tmp_path: Path) -> None:
    load(tmp_path, ROWS)
    assert api.check(str(tmp_path / "sums.toml"), data=tmp_path) == "gsm8k"

    lines = [*ROWS, {"question": "And?", "answer": "two", "source": 9, "kind": "plain"}]
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")

    with pytest.raises(DataError, match=r"1 of 4 rows \(4\) do not score 1"):
        api.check(str(tmp_path / "sums.toml"), data=tmp_path)


def test_gold_texts_are_given_from_python_too(tmp_path: Path) -> None:
    data = pd.DataFrame({"question": ["What is 1 + 1?", "What is half of 3?"], "answers": [["2"], ["3/2", "1.5"]]})

    write_rows(data, find_task("gsm8k"), tmp_path)

    examples = load_testset(TESTSETS.find(str(tmp_path / "data.toml")), None).examples
    assert [[gold.text for gold in example.answers] for example in examples] == [["2"], ["3/2", "1.5"]]


def test_a_protected_pattern_that_takes_too_long_on_a_row_names_task_and_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 0.05)
    task = 'kind = "text"\nfields = ["question"]\ntemplate = "{question}"\n[task.answer]\nparser = "number"\n'
    task += 'metric = "exact"\n[task.protected]\npatterns = ["(?i)(a|A|aa)+$"]\n'
    (tmp_path / "sums.jsonl").write_text(json.dumps(ROWS[0] | {"question": "a" * 60 + "!"}))
    (tmp_path / "sums.toml").write_text(TESTSET.replace('task = "gsm8k"\n', "") + f"[task]\n{task}")

    with pytest.raises(DataError, match=r"row '1': \[protected\] of task sums: the pattern .* takes more than"):
        load_testset(TESTSETS.find(str(tmp_path / "sums.toml")), tmp_path)


PARTNERS = (
    TESTSET
    + """partner = { testset = "plain.toml", row = "source" }
unanswerable = ["None"]
"""
)
PLAIN = [{"question": "What is 1?", "answer": "#### 1"}, {"question": "What is 2?", "answer": "#### 2"}]


def load_partners(folder: Path, sources: list[object], monkeypatch: pytest.MonkeyPatch) -> tuple[Example, ...]:
    monkeypatch.chdir(folder)
    (folder / "plain.jsonl").write_text("\n".join(map(json.dumps, PLAIN)))
    plain = TESTSET.replace("sums.jsonl", "plain.jsonl").replace('group = "source"\nmethod = "kind"\n', "")
    (folder / "plain.toml").write_text(plain)
    rows = [row | {"source": source} for row, source in zip(ROWS, sources, strict=True)]
    (folder / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "sums.toml").write_text(PARTNERS)
    return load_testset(TESTSETS.find("sums.toml"), folder).examples


def test_a_row_is_paired_with_the_row_of_another_set_that_it_was_made_from_and_that_ones_gold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = load_partners(tmp_path, [1, 1, 0], monkeypatch)

    clean = [example.clean_form() for example in examples]
    assert [form.texts for form in clean] == [("What is 2?",), ("What is 2?",), ("What is 1?",)]
    assert [[gold.text for gold in form.answers] for form in clean] == [["#### 2"], ["#### 2"], ["#### 1"]]
    assert [example.construction for example in examples] == ["answerable", "answerable", "unanswerable"]
    assert examples[2].answers[0].text == "None"  # its own stays


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (2, r"row '3': its source is 2; the test set plain.toml has 2 rows, counted from 0"),
        ("x", r"row 3: column 'source': 'x' is no row of a test set, from 0 on"),
        (-1, "is no row of a test set"),
    ],
)
def test_a_row_without_its_partner_is_refused(
    source: object, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=reason):
        load_partners(tmp_path, [0, 0, source], monkeypatch)


ORIGINALS = TESTSET + 'original = ["before"]\noriginal_answers = "gold_before"\n'


def load_originals(folder: Path, rows: list[dict[str, object]], text: str = ORIGINALS) -> tuple[Example, ...]:
    (folder / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "sums.toml").write_text(text)
    return load_testset(TESTSETS.find(str(folder / "sums.toml")), folder).examples


def test_an_original_has_the_gold_of_its_own_column_or_that_of_its_row(tmp_path: Path) -> None:
    rows = [
        ROWS[0] | {"before": "What is 1 + 2?", "gold_before": ["#### 3", "three, 3"]},
        ROWS[1] | {"before": "What is 3/2?", "gold_before": ""},
    ]

    changed, same = load_originals(tmp_path, rows)

    assert [gold.text for gold in changed.clean_form().answers] == ["#### 3", "three, 3"]
    assert same.clean_form().answers == same.answers
    (word,) = [example.replace_word(0, "how").clean_form().answers for example in (changed,)]
    assert word == changed.original_answers  # kept by edits


@pytest.mark.parametrize(
    ("text", "row", "reason"),
    [
        (ORIGINALS, {"gold_before": "some"}, r"\(1, its original\) do not score 1: .* finds no answer in the gold"),
        (ORIGINALS.replace('original = ["before"]\n', ""), {}, "original_answers names a column, original none"),
        (ORIGINALS + 'partner = { testset = "gsm8k", row = "source" }\n', {}, "keep one"),
        (ORIGINALS.replace('"gsm8k"', '"sst2"').replace("answers = ", "label = ", 1), {}, "is of text tasks"),
    ],
)
def test_originals_whose_gold_is_not_as_said_are_refused(
    text: str, row: dict[str, object], reason: str, tmp_path: Path
) -> None:
    with pytest.raises((DataError, DefinitionError), match=reason):
        load_originals(tmp_path, [ROWS[0] | {"before": "What is 1 + 2?", "gold_before": "3"} | row], text)


def test_originals_are_graded_by_their_own_gold_and_the_outcome_keeps_it(tmp_path: Path) -> None:
    grader = grader_for(find_task("gsm8k"))
    assert isinstance(grader, TextGrader)

    class Echo:
        """Answers with the last word but the question mark."""

        def __init__(self) -> None:
            self.grader = grader

        def rows(self, asked: Sequence[Example]) -> Rows:
            return np.stack([grader.row(0, e.texts[0].split()[-1].strip("?"), cut=False) for e in asked])

    rows = [ROWS[0] | {"question": "What is 3?", "before": "What is 5?", "gold_before": "5"}]
    (outcome,) = evaluate(Echo(), load_originals(tmp_path, rows))

    assert (outcome.clean_correct, outcome.correct) == (True, False)
    assert (outcome.original_gold, outcome.gold) == ("5", "1 + 1 = 2\n#### 2")


@pytest.mark.parametrize("name", ["viggo", "gsm8k", "gsm-plus"])
def test_hub_and_local_rows_of_shipped_text_sets_are_the_same(
    name: str, tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's columns, as its files have them; read by the hub's own library from a folder in its place."""
    entry = TESTSETS.find(name)
    hub = entry.definition.test.hub
    assert hub is not None
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "hub"
    folder.mkdir()
    if name == "viggo":  # the byte order mark, ids and line ends of GEM's file
        lines = list(csv.reader((shared_data / "viggo/test.csv").open(encoding="utf-8", newline="")))
        with (folder / "test.csv").open("w", encoding="utf-8-sig", newline="") as file:
            csv.writer(file).writerow(["gem_id", *lines[0]])
            csv.writer(file).writerows([f"GEM-viggo-test-{i}", *line] for i, line in enumerate(lines[1:], start=1))
    else:
        file = {"gsm8k": "gsm8k/test.jsonl", "gsm-plus": "gsm_plus/testmini.jsonl"}[name]
        rows = [json.loads(line) for line in (shared_data / file).open(encoding="utf-8")]
        plain = [json.loads(line) for line in (shared_data / "gsm8k/test.jsonl").open(encoding="utf-8")]
        for row in rows if name == "gsm-plus" else ():
            seed = plain[row.pop("gsm8k_test_index")]
            row |= {"seed_question": seed["question"], "seed_solution": seed["answer"]}
        (folder / f"{hub.split}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    # GSM-Plus's card names its splits so.
    files = f"  data_files:\n  - split: {hub.split}\n    path: {hub.split}*\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n{files}---\n")
    there = hub.model_copy(update={"dataset": str(tmp_path / "hub"), "config": "default"})
    split = entry.definition.test.model_copy(update={"hub": there})
    online = Entry(entry.name, entry.path, entry.definition.model_copy(update={"test": split}))

    read, local = (load_testset(each, data) for each, data in ((online, None), (entry, shared_data)))

    assert read.digest == local.digest == hub.digest
    for mine, theirs in zip(read.examples, local.examples, strict=True):
        assert replace(mine, group_id="") == replace(theirs, group_id="")
    groups = {(mine.group_id, theirs.group_id) for mine, theirs in zip(read.examples, local.examples, strict=True)}
    assert len(groups) == len({mine for mine, _ in groups}) == len({theirs for _, theirs in groups})


def test_every_gold_answer_of_gsm_plus_and_of_its_partners_scores_one(shared_data: Path) -> None:
    testset = load_testset(TESTSETS.find("gsm-plus"), shared_data)
    grader = grader_for(testset.task)

    assert len(testset.examples) == 2_400 and len({example.group for example in testset.examples}) == 300
    assert Counter(example.method for example in testset.examples) == dict.fromkeys(
        {example.method for example in testset.examples}, 300
    )
    assert len({example.method for example in testset.examples}) == 8
    assert not any(grader.problem(form) for e in testset.examples for form in (e, e.clean_form()))
    assert {e.method for e in testset.examples if e.construction == "unanswerable"} == {"critical thinking"}


def test_a_column_that_is_text_and_gold_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sums.jsonl").write_text(json.dumps(ROWS[0]))
    (tmp_path / "sums.toml").write_text(TESTSET.replace('columns = ["question"]', 'columns = ["answer"]'))

    with pytest.raises(DefinitionError, match=r"sums.jsonl: columns names 'answer', which answers names too"):
        load_testset(TESTSETS.find(str(tmp_path / "sums.toml")), tmp_path)


@pytest.mark.parametrize("other", [0, 1])
def test_a_prompt_that_prints_the_gold_answer_of_every_row_is_refused(other: int, tmp_path: Path) -> None:
    rows = [{"question": f"What is {i}?", "hint": str(i), "answer": str(i)} for i in range(10)]
    rows[0]["hint"] = str(other)
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = 'kind = "text"\nfields = ["question", "hint"]\ntemplate = "{question} {hint}"\n'
    task += '[task.answer]\nparser = "number"\nmetric = "exact"\n'
    table = 'reader = "table"\nfile = "rows.jsonl"\ncolumns = ["question", "hint"]\nanswers = "answer"\n'
    head = 'summary = ""\nlicence = ""\nkind = "clean"\n'
    (tmp_path / "sums.toml").write_text(f"{head}[[test.local]]\n{table}[task]\n{task}")
    entry = TESTSETS.find(str(tmp_path / "sums.toml"))

    if other:
        assert len(load_testset(entry, tmp_path).examples) == 10
    else:
        with pytest.raises(DataError, match=r"the field 'hint' is the gold answer in each of 10 rows, and"):
            load_testset(entry, tmp_path)
