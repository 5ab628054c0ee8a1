"""Rows of text tasks: gold texts are read, and refused where they could not be answered."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from robustness import api
from robustness.definitions.catalog import TESTSETS
from robustness.definitions.tasks import find_task
from robustness.errors import DataError
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
