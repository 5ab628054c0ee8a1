"""Labels as distributions, within objects, as names and as numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists
from scipy.stats import entropy

from robustness.definitions.catalog import TESTSETS
from robustness.definitions.tasks import find_task
from robustness.errors import DataError
from robustness.tasks.task import Task
from robustness.testsets.loading import Testset, load_testset
from robustness.testsets.rows import label_index
from robustness.testsets.soft_labels import read_soft_label

DEFINITION = """summary = "Captions."
licence = "mine"
task = "snli"
kind = "clean"

[[test.local]]
reader = "table"
file = "{file}"
columns = ["example.premise", "example.hypothesis"]
id = "uid"
"""
COUNTED = 'label = "label_counter"\nlabels = { e = "entailment", n = "neutral", c = "contradiction" }\n'
STARS = Task("stars", ("text",), ("1", "2", "3"), ("text",))


def record(uid: str, counts: object, shares: object = None) -> dict[str, object]:
    inside = {"premise": f"a man {uid}", "hypothesis": "a person"}
    return {"uid": uid, "label_counter": counts, "label_dist": shares, "example": inside}


def load(folder: Path, keys: str, file: str = "captions.jsonl") -> Testset:
    (folder / "captions.toml").write_text(DEFINITION.format(file=file) + keys)
    return load_testset(TESTSETS.find(str(folder / "captions.toml")), folder)


def write(folder: Path, *records: dict[str, object]) -> None:
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, records)))


def test_the_most_frequent_label_is_right_and_the_disagreement_is_known(tmp_path: Path) -> None:
    write(tmp_path, record("a", {"e": 76, "n": 20, "c": 4}), record("b", {"c": 100}))

    first, second = load(tmp_path, COUNTED).examples

    assert (first.texts, first.label) == (("a man a", "a person"), 0)
    assert first.label_entropy == pytest.approx(entropy([76, 20, 4], base=2), rel=1e-12)
    assert (second.label, second.label_entropy) == (2, 0.0)


def test_a_list_of_shares_is_in_the_order_of_the_tasks_labels(tmp_path: Path) -> None:
    write(tmp_path, record("a", None, [0.1, 0.2, 0.7]))

    (example,) = load(tmp_path, 'label = "label_dist"\n').examples

    assert (example.label, example.label_entropy) == (2, pytest.approx(entropy([0.1, 0.2, 0.7], base=2), rel=1e-12))


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "json"])
def test_distributions_come_from_every_kind_of_table(tmp_path: Path, kind: str) -> None:
    rows = [record("a", None, [3, 1, 0]), record("b", None, [0, 0, 2])]
    if kind in ("csv", "tsv"):
        frame = pd.json_normalize(rows)
        frame["label_dist"] = frame["label_dist"].map(json.dumps)
        frame.to_csv(tmp_path / f"captions.{kind}", index=False, sep="\t" if kind == "tsv" else ",")
    elif kind == "parquet":
        pd.DataFrame(rows).to_parquet(tmp_path / "captions.parquet")
    else:
        (tmp_path / "captions.json").write_text(json.dumps(rows))

    testset = load(tmp_path, 'label = "label_dist"\n', f"captions.{kind}")

    assert [(e.texts[0], e.label) for e in testset.examples] == [("a man a", 0), ("a man b", 2)]
    assert [e.label_entropy for e in testset.examples] == pytest.approx([entropy([3, 1], base=2), 0])


def test_a_row_whose_labels_tie_is_refused_or_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path, record("a", {"e": 50, "n": 50}), record("b", {"c": 9, "e": 1}))

    with pytest.raises(DataError) as caught:
        load(tmp_path, COUNTED)
    assert str(caught.value) == (
        f"{tmp_path / 'captions.jsonl'} row 1: the labels entailment and neutral are equally frequent; "
        'ties = "leave-out" leaves such rows out'
    )
    testset = load(tmp_path, COUNTED + 'ties = "leave-out"\n')
    assert [example.id for example in testset.examples] == ["captions:b"]
    assert testset.notes == ("test set captions: 1 rows left out: their most frequent labels are equally frequent",)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"x": 1}, "row 1: label 'x'; expected one of entailment, neutral, contradiction"),
        ({"e": -1}, "row 1: -1 is no count and no share of a label; expected 0 or more"),
        ({"e": "many"}, "row 1: 'many' is no count and no share of a label; expected 0 or more"),
        ({"e": float("nan")}, "row 1: nan is no count and no share of a label; expected 0 or more"),
        ({"e": 0}, "row 1: no label has a number above 0, so none is right; mend or remove the row"),
        ([1, 2], "row 1: 2 numbers for labels; snli has 3: entailment, neutral, contradiction"),
    ],
)
def test_numbers_that_are_no_distribution_are_refused(tmp_path: Path, counts: object, expected: str) -> None:
    write(tmp_path, record("a", counts))

    with pytest.raises(DataError) as caught:
        load(tmp_path, COUNTED)

    assert str(caught.value) == f"{tmp_path / 'captions.jsonl'} {expected}"


def test_a_path_that_leads_nowhere_says_which_there_are(tmp_path: Path) -> None:
    write(tmp_path, {"uid": "a", "label_counter": {"e": 1}, "example": {"premise": "a man"}})

    with pytest.raises(DataError, match=r"column 'example.hypothesis' is missing; there are .*'example.premise'"):
        load(tmp_path, COUNTED)


@given(lists(integers(0, 50), min_size=3, max_size=3).filter(any))
def test_entropy_lies_between_none_and_that_of_equal_shares(counts: list[int]) -> None:
    soft = read_soft_label(counts, find_task("snli"), {}, "row")

    assert soft is not None
    assert 0 <= soft.entropy <= 1.5849625007211563 + 1e-12
    assert (soft.label is None) == (sorted(counts)[-1] == sorted(counts)[-2])


@pytest.mark.parametrize("cell", ["entailment", "1", 1, None, True, "[not json"])
def test_a_single_label_is_no_distribution(cell: object) -> None:
    assert read_soft_label(cell, find_task("snli"), {}, "row") is None


def test_labels_are_read_by_name_by_alias_and_by_index() -> None:
    news, imdb = find_task("ag-news"), find_task("imdb")

    assert [label_index(each, news, "row") for each in ("Sci/Tech", "sci-tech", "WORLD", 2, "3", 1.0)] == [
        *(3, 3, 0, 2, 3, 1)
    ]
    assert [label_index(each, imdb, "row") for each in ("positive", "pos", "neg", "1")] == [1, 1, 0, 1]


def test_where_names_are_numbers_no_other_number_is_an_index() -> None:
    assert [label_index(each, STARS, "row") for each in (1, "2", 3.0)] == [0, 1, 2]
    with pytest.raises(DataError, match="row: label 0; expected one of 1, 2, 3"):
        label_index(0, STARS, "row")


def test_a_label_outside_the_tasks_is_refused() -> None:
    with pytest.raises(DataError, match="row: label 'Weather'; expected one of World, Sports, Business, Sci/Tech"):
        label_index("Weather", find_task("ag-news"), "row")
