from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustness.engine import query_cache
from robustness.engine.query_cache import FILE_NAME, QueryCache
from robustness.errors import UsageError
from robustness.tasks.abilities import Ability
from robustness.tasks.gold import GoldSpan
from robustness.tasks.grading import LabelGrader, Rows, SpanGrader
from robustness.testsets.example import Example, Texts


def examples(*texts: Texts) -> list[Example]:
    return [Example(str(number), text, label=0) for number, text in enumerate(texts)]


TEXTS = [(f"text {i}",) for i in range(50)]
ASKED = examples(*TEXTS)
ROWS = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """No text of these tests is recomputed unless a test says so."""
    monkeypatch.setattr(query_cache, "RECHECK_EVERY", 2**64)


def test_rows_come_back_to_the_last_bit_in_another_process_time(tmp_path: Path) -> None:
    first = QueryCache(tmp_path / "new", "victim")
    first.add(ASKED[:20], ROWS[:20])
    first.close()

    found = QueryCache(tmp_path / "new", "victim").find(ASKED)

    np.testing.assert_array_equal(found[:20], ROWS[:20])
    assert found[20:] == [None] * 30


def test_one_victim_does_not_answer_for_another_nor_one_segment_for_two(tmp_path: Path) -> None:
    QueryCache(tmp_path, "full").add(examples(("a", "b")), ROWS[:1])

    assert QueryCache(tmp_path, "lora").find(examples(("a", "b"))) == [None]
    assert QueryCache(tmp_path, "full").find(examples(("a b",), ("b", "a"), ("a", "b", ""))) == [None] * 3


def test_scores_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    cache = QueryCache(tmp_path, "victim")

    cache.add(ASKED[:2], np.array([[np.nan, 0], [1, 0]], dtype=np.float32))

    assert [number for number, row in enumerate(cache.find(ASKED)) if row is not None] == [1]


class Counting:
    grader = LabelGrader(("a", "b", "c"))
    can = frozenset({Ability.LOSSES, Ability.SCORES})

    def __init__(self) -> None:
        self.asked: list[Texts] = []
        self.truncated: set[str] = set()

    def rows(self, asked: Sequence[Example]) -> Rows:
        texts = [example.texts for example in asked]
        self.asked += texts
        return np.stack([ROWS[TEXTS.index(text)] for text in texts]) if texts else np.empty((0, 3), dtype=np.float32)


def test_a_victim_behind_its_cache_is_asked_only_what_is_unknown(tmp_path: Path) -> None:
    cache, victim = QueryCache(tmp_path, "victim"), Counting()
    cache.add(ASKED[:10], ROWS[:10])
    cached = cache.in_front_of(victim)

    rows = cached.rows([*ASKED[5:15], ASKED[12]])

    np.testing.assert_array_equal(rows, [*ROWS[5:15], ROWS[12]])
    assert victim.asked == TEXTS[10:15]
    assert cached.rows([]).shape == (0, 3)


def test_a_text_in_a_thousand_is_recomputed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_cache, "RECHECK_EVERY", 1_000)
    cache = QueryCache(tmp_path, "victim")
    texts = [(str(i),) for i in range(20_000)]
    rows = np.ones((len(texts), 2), dtype=np.float32)
    cache.add(examples(*texts), rows)

    known = cache.find(examples(*texts))

    assert 5 <= sum(row is None for row in known) <= 45  # 20 expected; a fixed draw, since it follows from the texts


def test_a_recomputed_score_that_differs_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_cache, "RECHECK_EVERY", 1)
    cache = QueryCache(tmp_path, "victim")
    cache.add(ASKED, ROWS)
    assert cache.find(ASKED) == [None] * 50
    cache.add(ASKED, ROWS + 1e-4)
    assert (cache.rechecked, cache.warnings()) == (50, [])

    other = ROWS.copy()
    other[7] += 0.5
    cache.add(ASKED, other)

    assert (cache.rechecked, cache.disagreed) == (100, 1)
    assert "1 of 100 cached scores that were recomputed differ" in cache.warnings()[0]


def test_two_writers_share_a_file(tmp_path: Path) -> None:
    def write(part: int) -> None:
        cache = QueryCache(tmp_path, "victim")
        for i in range(part, 50, 4):
            cache.add(ASKED[i : i + 1], ROWS[i : i + 1])
        cache.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))

    assert len(QueryCache(tmp_path, "victim").find(ASKED)) == 50


def test_a_file_that_another_process_makes_at_this_moment_is_waited_for(tmp_path: Path) -> None:
    """Made and not yet in write-ahead mode, it is held by a writer whose transaction ends a little later."""
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None, check_same_thread=False)
    made = threading.Event()

    class Racing(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if "journal_mode" in statement and not made.is_set():
                other.execute("BEGIN IMMEDIATE")
                made.set()
                threading.Timer(0.1, other.execute, ("COMMIT",)).start()
            return super().execute(statement, *values)

    connect = partial(sqlite3.connect, factory=Racing)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robustness.engine.query_cache.sqlite3.connect", connect)
        cache = QueryCache(tmp_path, "victim")

    cache.add(ASKED[:1], ROWS[:1])
    assert made.is_set() and cache.find(ASKED[:1])[0] is not None


def test_a_file_that_is_no_cache_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database, but long enough to be read as one" * 100)

    with pytest.raises(UsageError, match=r"--cache .*queries.sqlite: no readable query cache: .*delete the file"):
        QueryCache(tmp_path, "victim")


def test_another_databases_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("CREATE TABLE mine (x)")

    with pytest.raises(UsageError, match="not a query cache of this release"):
        QueryCache(tmp_path, "victim")
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("mine",)]


def test_a_damaged_row_is_an_error_and_no_score(tmp_path: Path) -> None:
    cache = QueryCache(tmp_path, "victim")
    cache.add(ASKED, ROWS)
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("UPDATE scores SET row=x'0102'")

    with pytest.raises(UsageError, match="delete the file"):
        cache.find(ASKED)


def test_a_file_that_stays_locked_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_cache, "LOCK_SECONDS", 0.1)
    cache = QueryCache(tmp_path, "victim")
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(UsageError, match="database is locked; another process may hold it"):
        cache.add(ASKED, ROWS)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError, match="cannot be written"):
        QueryCache(tmp_path / "file" / "folder", "victim")


def test_a_doubt_outlives_a_killed_run_and_is_of_its_victim_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_cache, "RECHECK_EVERY", 1)
    killed = QueryCache(tmp_path, "victim")
    killed.add(ASKED, ROWS)
    killed.add(ASKED, ROWS + 1)  # and never closed

    resumed, other = QueryCache(tmp_path, "victim"), QueryCache(tmp_path, "other")

    assert "50 of 50 cached scores that were recomputed differ" in resumed.warnings()[0]
    assert other.warnings() == []


def test_a_question_with_other_gold_answers_is_another_question(tmp_path: Path) -> None:
    cache = QueryCache(tmp_path, "reader", SpanGrader())
    asked = [
        Example("1", ("Who won?", "Denver beat Rome."), 0, answers=(GoldSpan(answer, start),))
        for answer, start in (("Denver", 0), ("Rome", 12))
    ]

    cache.add(asked[:1], np.array([[0.5, 0, 6]], dtype=np.float32))

    known, other = cache.find(asked)
    assert known is not None and known.tolist() == [0.5, 0, 6]
    assert other is None


@pytest.mark.parametrize(("row", "disagreed"), [((20.1, 400, 406), 0), ((21.0, 400, 406), 1), ((20.0, 401, 406), 1)])
def test_a_recomputed_question_differs_by_its_loss_or_its_span(
    row: tuple[float, ...], disagreed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_cache, "RECHECK_EVERY", 1)
    cache = QueryCache(tmp_path, "reader", SpanGrader())
    question = [Example("1", ("Who won?", "Denver won."), 0, answers=(GoldSpan("Denver", 0),))]
    cache.add(question, np.array([[20.0, 400, 406]], dtype=np.float32))

    cache.add(question, np.array([row], dtype=np.float32))

    assert (cache.rechecked, cache.disagreed) == (1, disagreed)
