"""Task files as people, and worse, may write them: each is a task, or is refused in one line that names the file."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fuzzing import PIECES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustness.definitions.tasks import find_task
from robustness.errors import DefinitionError, RobustnessError
from robustness.tasks.task import TaskKind
from robustness.testsets.task_checks import check_task

LINES: dict[str, tuple[str, ...]] = {
    "summary": ('"Sums."', '""', "3", '"""\nlong\n"""'),
    "kind": ('"text"', '"text"', '"labels"', '"span"', '"txt"', "1", '""'),
    "fields": ('["question"]', '["question"]', '["a", "b"]', '["question", "question"]', "[]", '[""]', '"question"'),
    "attacked": ('["question"]', "[]", '["qestion"]', '["b"]', "true"),
    "labels": ('["yes", "no"]', '["yes"]', '["yes", "YES"]', '["yes", "!"]', "[1, 2]", "[]"),
    "metric": ('"accuracy"', '"accuracy-and-f1"', '"exact-match-and-f1"', '"slot-f1"'),
    "template": (
        '"Q: {question}"',
        '"Q: {question}"',
        '"{a} {b}"',
        *('"{"', '"}"', '"{}"', '"{0}"', '"{question"', '"{question:x}"', '"{question!r}"', '"{question.x}"'),
        *('"{{question}}"', '"{question}{question}"', '"{qestion}"', '""', "{ a = 1 }", '"{question[0]}"'),
    ),
    "verbalisers": ('[" yes", " no"]', '[" yes"]', '["", " no"]', "{}"),
    "aliases": ('{ y = "yes" }', '{ y = "maybe" }', '{ no = "yes" }', "[]"),
    "chat": ('{ user = "{question}" }', '{ user = "{question}", system = "{question}" }', "{}", '"{question}"'),
    "task": ('"viggo"', '"nothing"', '"other.toml"'),
    "tempalte": ('"x"',),
}
ANSWER: dict[str, tuple[str, ...]] = {
    "parser": (
        *('"number"', '"regex"', '"whole"', '"after-marker"', '"json"', '"meaning-representation"'),
        *('"numbr"', '""', "7", '["number"]'),
    ),
    "metric": ('"exact"', '"fraction"', '"set"', '"token-f1"', '"slot-f1"', '"rouge-l"', '"exct"', "nan", "{}"),
    "threshold": ("0.5", "1", "0", "-1", "inf", "nan", '"0.5"', "true", "2"),
    "marker": ('"####"', '""', "4", '"\\u0000"'),
    "rule": ('"marked"', '"last"', '"first"', "1"),
    "pattern": (
        *('"(A|B)"', '"(a"', '"[0-9]+"', '"(a+)+$"', '"(a{999}){999}"', '"*"', '"(?P<x>a)(?P<x>b)"', '"\\\\"'),
        *('"(?<=a+)b"', '"(?R)"', '"[[a--b]]"', '"\\\\p{Foo}"', '"a{999999999999}"', '"(?i"', '"{"', '""', "1"),
    ),
    "max_new_tokens": ("8", "0", "-1", "1.5", "99999999999999999999", '"8"', "true"),
    "stop": ('["\\n"]', '[""]', "[]", '"x"', "[1]"),
    "lead": ('" "', '""', "1"),
    "code": ('"abc"',),
}
PROTECTED: dict[str, tuple[str, ...]] = {
    "fields": ('["question"]', '["a"]', '["nothing"]', "[]", "1"),
    "patterns": ('["[0-9]+"]', '["("]', '["(a{999}){999}"]', '[""]', "[1]"),
    "words": ('["not"]', '[" "]', "[]", '"not"'),
    "numbers": ("true", "false", "1"),
    "answers": ("true", "false", '"yes"'),
}
VALID = """kind = "text"
fields = ["question"]
template = "Q: {question}"
[answer]
parser = "number"
metric = "exact"
"""


def tables(lines: dict[str, tuple[str, ...]]) -> st.SearchStrategy[str]:
    """Some of the keys with one of their values each, in any order."""
    pairs = [st.tuples(st.just(key), st.sampled_from(values)) for key, values in lines.items()]
    some = st.lists(st.one_of(pairs), max_size=len(lines), unique_by=lambda pair: pair[0])
    return some.map(lambda chosen: "\n".join(f"{key} = {value}" for key, value in chosen))


@st.composite
def spliced(draw: st.DrawFn) -> str:
    """A valid file with pieces of anything put in at one place, or in place of what stood there."""
    start = draw(st.integers(0, len(VALID)))
    end = draw(st.integers(start, min(len(VALID), start + 12)))
    piece = draw(st.lists(st.sampled_from([*PIECES, "\n[", '"', "'''", "\\u", "=", "kind"]), max_size=4).map("".join))
    return VALID[:start] + piece + VALID[end:]


WHOLE = st.builds("{}\n[answer]\n{}\n[protected]\n{}\n".format, tables(LINES), tables(ANSWER), tables(PROTECTED))
FURTHER = tables({key: ANSWER[key] for key in ("rule", "pattern", "stop", "lead", "marker", "threshold")})
FILES = WHOLE | st.builds("{}{}\n[protected]\n{}\n".format, st.just(VALID), FURTHER, tables(PROTECTED)) | spliced()


def fuzz(text: str, folder: Path) -> None:
    """Reads a file; raises AssertionError where it neither is a task nor is refused as it should be."""
    path = folder / "mine.toml"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    started = time.process_time()
    try:
        task = find_task(str(path))
        if task.kind is TaskKind.TEXT:
            check_task(task)
            assert task.answer is not None
            task.answer.unreadable("It is 18.")
    except RobustnessError as error:
        assert "mine.toml" in str(error) or "rouge" in str(error), str(error)
        assert "Traceback" not in str(error) and str(error).count("\n") == 0, str(error)
    assert time.process_time() - started < 30


@given(text=FILES)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_task_file_is_a_task_or_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    fuzz(text, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@given(text=FILES)
@settings(max_examples=200_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_one_of_200_000_task_files_is_a_task_or_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    fuzz(text, tmp_path)


def test_the_file_that_is_broken_here_is_whole(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(VALID)

    assert find_task(str(tmp_path / "mine.toml")).kind is TaskKind.TEXT


def test_both_tasks_and_refusals_are_among_what_is_tried(tmp_path: Path) -> None:
    seen: dict[bool, int] = {True: 0, False: 0}

    @given(text=FILES)
    @settings(max_examples=100, database=None, derandomize=True, deadline=None)
    def count(text: str) -> None:
        (tmp_path / "mine.toml").write_bytes(text.encode("utf-8", errors="surrogatepass"))
        try:
            find_task(str(tmp_path / "mine.toml"))
            seen[True] += 1
        except DefinitionError:
            seen[False] += 1

    count()

    assert min(seen.values()) > 5, seen
