from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from robustness.errors import DataError
from robustness.tasks.gold import GoldSpan
from robustness.tasks.task import Task, TaskKind
from robustness.testsets.example import Example
from robustness.training.examples.augmentation import read_augmented, write_augmented
from robustness.training.examples.rows import TrainingRows

SENTENCES = Task("tiny", ("sentence",), ("bad", "good"), ("sentence",))
QUESTIONS = Task("tiny-qa", ("question", "context"), (), ("context",), kind=TaskKind.SPAN)


@dataclass(frozen=True)
class Shout:
    """Upper-cases and lengthens the first word, unless it is `it`."""

    name: str = "shout"
    digest: str = "0123"

    def rewrite(self, example: Example, seed: int) -> Example | None:
        word = example.words[0]
        return None if word == "it" else example.replace_word(0, f"{word.upper()}!{seed}")


def _rows(*texts: str, dev: tuple[str, ...] = ("dull",), task: Task = SENTENCES) -> TrainingRows:
    train = tuple(Example(f"t:{i}", (text,), i % 2) for i, text in enumerate(texts))
    scored = tuple(Example(f"d:{i}", (text,), 0) for i, text in enumerate(dev))
    return TrainingRows("tiny", task, train, scored, scored, "", "")


def _said(lines: list[str], rows: TrainingRows, folder: Path) -> Path:
    return write_augmented(rows, Shout(), folder, lines.append)


def test_each_row_is_changed_once_and_keeps_its_gold(tmp_path: Path) -> None:
    lines: list[str] = []
    rows = _rows("a film", "it drags", "fine plot")

    path = _said(lines, rows, tmp_path / "out")
    changed, digest = read_augmented(path, rows.train)

    assert [(each.texts, each.label) for each in changed] == [(("A!0 film",), 0), (("FINE!0 plot",), 0)]
    assert not {each.id for each in changed} & {each.id for each in rows.train}
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert lines == [f"shout: 2 of 3 training rows changed, in {path.name}"]


def test_the_same_rows_have_one_file_and_others_another(tmp_path: Path) -> None:
    rows = _rows("a film", "fine plot")
    first = _said([], rows, tmp_path)
    first.write_text(first.read_text() + " \n")  # would be written over if it were made again

    again, fewer = _said([], rows, tmp_path), _said([], _rows("a film"), tmp_path)

    assert again == first != fewer
    assert first.read_text().endswith(" \n")


@pytest.mark.parametrize("changed", ["dev", "order", "protected", "label"])
def test_whatever_decides_a_changed_row_makes_another_file(tmp_path: Path, changed: str) -> None:
    rows = _rows("a film", "fine plot")
    first, second = rows.train
    others = {
        "dev": _rows("a film", "fine plot", dev=("A!0 film",)),
        "order": replace(rows, train=(second, first)),
        "protected": replace(rows, train=(replace(first, protected=((0, 0, 1),)), second)),
        "label": replace(rows, train=(replace(first, label=1), second)),
    }

    assert _said([], rows, tmp_path) != _said([], others[changed], tmp_path)


def test_a_row_protected_later_is_not_read_from_a_file_made_before(tmp_path: Path) -> None:
    _said([], _rows("a film", "fine plot"), tmp_path)
    rows = _rows("a film", "fine plot")
    guarded = replace(rows, train=(replace(rows.train[0], protected=((0, 0, 1),)), rows.train[1]))

    changed, _ = read_augmented(_said([], guarded, tmp_path), guarded.train)

    assert [each.texts for each in changed] == [("a FILM!0",), ("FINE!0 plot",)]


def test_a_row_that_becomes_a_development_row_is_left_out(tmp_path: Path) -> None:
    rows = _rows("a film", "fine plot", dev=("A!0 film",))

    changed, _ = read_augmented(_said([], rows, tmp_path), rows.train)

    assert [each.texts for each in changed] == [("FINE!0 plot",)]


def test_an_answer_moves_with_the_words_before_it(tmp_path: Path) -> None:
    context = "a film by Ann Lee"
    answers = (GoldSpan("Ann Lee", 10), GoldSpan("a", 0))
    asked = Example("t:0", ("by whom?", context), 1, attacked=(1,), answers=answers[:1], protected=((1, 10, 17),))
    lost = replace(asked, id="t:1", answers=answers, protected=())
    rows = replace(_rows(task=QUESTIONS), train=(asked, lost))

    changed, _ = read_augmented(_said([], rows, tmp_path), rows.train)

    (row,) = changed  # of the other, the answer `a` is no longer there
    assert row.texts == ("by whom?", "A!0 film by Ann Lee")
    assert row.answers == (GoldSpan("Ann Lee", 12),)


def test_a_recipe_that_changes_no_row_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="recipe shout: it can change none of the 1 training rows"):
        _said([], _rows("it drags"), tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", '{"id": "t:9", "texts": ["x"]}', '{"id": "t:0", "texts": [1]}', '{"id": "t:0"}', "[]"]
)
def test_a_damaged_file_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    if content:
        path.write_text(content)

    with pytest.raises(DataError, match=r"rows\.jsonl: expected the changed training rows.*remove the file"):
        read_augmented(path, _rows("a film").train)


def test_lines_are_json_of_id_and_texts(tmp_path: Path) -> None:
    path = _said([], _rows("a film"), tmp_path)

    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"id": "t:0", "texts": ["A!0 film"]}]
