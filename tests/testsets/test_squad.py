from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from robustness.definitions.catalog import TESTSETS
from robustness.definitions.testsets import SquadFile
from robustness.errors import DataError
from robustness.testsets.loading import load_testset
from robustness.testsets.squad import read_squad, write_squad

SOURCE = SquadFile(reader="squad", file="-")


def question(key: str, **changes: Any) -> dict[str, Any]:
    return {"id": key, "question": "Where?", "answers": [{"text": "Rome", "answer_start": 9}]} | changes


def write(path: Path, *questions: dict[str, Any], context: str = "He is in Rome.") -> Path:
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": [{"context": context, "qas": questions}]}]}))
    return path


@pytest.mark.parametrize(
    ("name", "rows", "groups"),
    [("squad", 10_570, 10_570), ("advsquad-addsent", 3_560, 1_000), ("advsquad-addonesent", 1_787, 1_000)],
)
def test_the_official_files_have_the_published_rows_and_groups(
    shared_data: Path, name: str, rows: int, groups: int
) -> None:
    testset = load_testset(TESTSETS.find(name), shared_data)

    assert len(testset.examples) == rows
    assert len({example.group for example in testset.examples}) == groups
    assert testset.provenance == "official"
    originals = {example.id: example for example in testset.examples if not example.group_id}
    assert len(originals) == groups
    for example in testset.examples:
        assert all(example.texts[1][a.start : a.start + len(a.text)] == a.text for a in example.answers)
        if example.group_id:
            assert example.original == originals[example.group_id].texts


def test_an_altered_question_knows_its_original(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", question("x1"), question("x1-high-conf-turk0"), question("x1-addany"))

    rows = read_squad(path, SOURCE, adversarial=True)

    assert [(row.key, row.group) for row in rows] == [("x1", ""), ("x1-high-conf-turk0", "x1"), ("x1-addany", "x1")]
    assert rows[1].original == rows[0].texts


@pytest.mark.parametrize(
    ("questions", "expected"),
    [
        (
            [question("a", answers=[{"text": "Oslo", "answer_start": 9}])],
            "'Oslo' is not at character 9; there stands 'Rome'",
        ),
        ([question("a", answers=[{"text": "Rome", "answer_start": 99}])], "not at character 99"),
        ([question("a", answers=[{"text": "Rome", "answer_start": "9"}])], "whole number answer_start"),
        ([question("a", answers=[])], "no answer"),
        ([question("a", answers="Rome")], "expected a list 'answers' of objects"),
        ([question("a", question=" ")], "field 'question' is missing or not text"),
        ([{"question": "Where?"}], "field 'id' is missing"),
        ([question("a"), question("a")], "the id 'a' is there twice"),
        ([question("a"), question("a-mod3")], "'a-mod3': neither a plain id nor an original's with a known suffix"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, questions: list[dict[str, Any]], expected: str) -> None:
    path = write(tmp_path / "a.json", *questions, context="He is in Rome.")

    with pytest.raises(DataError) as refusal:
        read_squad(path, SOURCE, adversarial=True)

    assert expected in str(refusal.value) and str(path) in str(refusal.value)


def test_a_row_is_named_by_its_place_and_id(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", question("a"), question("b", answers=[]), context="he is in Rome.")

    with pytest.raises(DataError, match=r"a.json article 0 paragraph 0 question 1 \(id b\): no answer"):
        read_squad(path, SOURCE, adversarial=False)


@pytest.mark.parametrize("cut", [1, 30, 100])
def test_a_file_cut_short_is_named_as_such(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "a.json", question("a"))
    path.write_text(path.read_text()[:-cut])

    with pytest.raises(DataError, match=r"a.json: not JSON"):
        read_squad(path, SOURCE, adversarial=False)


def test_a_compressed_file_is_read_and_a_broken_one_is_named(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.json", question("a"), context="he is in Rome.")
    packed = tmp_path / "a.json.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))

    assert read_squad(packed, SOURCE, adversarial=False) == read_squad(plain, SOURCE, adversarial=False)
    for broken in (packed.read_bytes()[:-12], b"no gzip", packed.read_bytes()[:20] + b"\xff" * 40):
        packed.write_bytes(broken)
        with pytest.raises(DataError, match=r"a.json.gz: a broken compressed file"):
            read_squad(packed, SOURCE, adversarial=False)


def test_what_is_written_is_read_again(shared_data: Path, tmp_path: Path) -> None:
    testset = load_testset(TESTSETS.find("advsquad-addonesent"), shared_data)

    write_squad(tmp_path / "a.json", testset.examples, title="t")

    rows = read_squad(tmp_path / "a.json", SOURCE, adversarial=True)
    assert [(r.texts, r.answers, r.original) for r in rows] == [
        (e.texts, e.answers, e.original) for e in testset.examples
    ]


@pytest.mark.parametrize(("name", "rows"), [("advsquad-addansctx", 1_991), ("advsquad-addnegans", 1_985)])
def test_generated_sets_are_valid_in_every_row(shared_data: Path, name: str, rows: int) -> None:
    from robustness.testsets.answer_kinds import contains_answer

    testset = load_testset(TESTSETS.find(name), shared_data)
    again = load_testset(TESTSETS.find(name), shared_data)

    assert testset.digest == again.digest and testset.provenance == "generated"
    assert len(testset.examples) == rows == TESTSETS.find(name).definition.test.generated.rows
    assert any(f"{2_000 - rows} questions have no valid distractor" in note for note in testset.notes)
    assert Counter(bool(example.group_id) for example in testset.examples)[False] == 1_000
    for example in testset.examples:
        assert all(example.texts[1][a.start : a.start + len(a.text)] == a.text for a in example.answers)
        if example.original is not None:
            added = example.texts[1].removeprefix(example.original[1].rstrip())
            assert added != example.texts[1] and len(added.split()) >= 3
            assert not contains_answer(added, [answer.text for answer in example.answers])


def test_a_users_file_takes_precedence_over_generation(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "adversarial_squad").mkdir()
    write(
        tmp_path / "adversarial_squad" / "addany.json", question("a"), question("a-addany"), context="he is in Rome."
    )

    testset = load_testset(TESTSETS.find("advsquad-addany"), tmp_path)

    assert [example.id for example in testset.examples] == ["advsquad-addany:a", "advsquad-addany:a-addany"]
    assert testset.provenance == "generated" and testset.generated is None


HUB = """summary = "Questions on the hub."
licence = "CC BY-SA 4.0"
task = "squad"
kind = "{kind}"

[test.hub]
dataset = "owner/questions"
config = "plain"
split = "validation"
revision = "{revision}"
rows = 3
"""


@pytest.mark.parametrize("kind", ["clean", "adversarial"])
def test_questions_on_the_hub_are_asked_for_by_revision_and_read_as_a_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    # The hub has the answers of a question as one object of lists.
    answers = {"text": ["Rome", "in Rome"], "answer_start": [9, 6]}
    context = "He is in Rome."
    ids = ["x1", "x1-high-conf-turk0", "x2"]
    records = [
        {"id": key, "title": "t", "question": " Where? ", "context": context, "answers": answers} for key in ids
    ]
    asked = []
    monkeypatch.setattr("datasets.load_dataset", lambda *args, **options: asked.append((args, options)) or records)
    golds = [{"text": "Rome", "answer_start": 9}, {"text": "in Rome", "answer_start": 6}]
    file = write(tmp_path / "a.json", *(question(key, answers=golds) for key in ids), context=context)
    definition = tmp_path / "mine.toml"
    definition.write_text(HUB.format(kind=kind, revision="a" * 40))

    testset = load_testset(TESTSETS.find(str(definition)), None)

    assert asked == [(("owner/questions", "plain"), {"split": "validation", "revision": "a" * 40})]
    rows = read_squad(file, SOURCE, adversarial=kind == "adversarial")
    assert [(e.id, e.texts, e.answers, e.original) for e in testset.examples] == [
        (f"mine:{row.key}", row.texts, row.answers, row.original) for row in rows
    ]
    assert [e.group_id for e in testset.examples] == ["", "mine:x1" if kind == "adversarial" else "", ""]


def test_a_hub_row_whose_answer_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = {"id": "x", "question": "Where?", "context": "He is in Rome."}
    answers = {"text": ["Rome"], "answer_start": [8]}
    definition = tmp_path / "mine.toml"
    definition.write_text(HUB.format(kind="clean", revision="a" * 40))
    monkeypatch.setattr("datasets.load_dataset", lambda *args, **options: [record | {"answers": answers}])

    with pytest.raises(
        DataError, match="owner/questions plain validation at aaaaaaaa row 0: the answer 'Rome' is not"
    ):
        load_testset(TESTSETS.find(str(definition)), None)


def test_a_shipped_set_of_questions_is_pinned_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("datasets.load_dataset", lambda *args, **options: asked.append(options) or [])
    with pytest.raises(DataError, match="no rows in hub data set rajpurkar/squad plain_text"):
        load_testset(TESTSETS.find("squad"), None)

    row = {"id": "x", "question": "Where?", "context": "In Rome.", "answers": {"text": ["Rome"], "answer_start": [3]}}
    monkeypatch.setattr("datasets.load_dataset", lambda *args, **options: [row])
    with pytest.raises(DataError, match="has 1 rows; the published set has 10570"):
        load_testset(TESTSETS.find("squad"), None)

    assert asked == [{"split": "validation", "revision": "7b6d24c440a36b6815f21b70d25016731768db1f"}]


def test_offline_questions_on_the_hub_are_a_data_error_at_once() -> None:
    # conftest sets HF_HUB_OFFLINE before any library reads it; nothing is waited for or asked again.
    started = time.monotonic()

    with pytest.raises(
        DataError, match="rajpurkar/squad plain_text validation at 7b6d24c4: could not be loaded.*--data"
    ):
        load_testset(TESTSETS.find("squad"), None)

    assert time.monotonic() - started < 20
