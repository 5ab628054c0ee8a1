"""Whatever a file holds, reading it ends in its content or a RobustnessError: few inputs here, many in `bench`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from robustness.definitions.attacks import AttackDefinition
from robustness.definitions.catalog import definitions_root
from robustness.definitions.reading import read_definition
from robustness.definitions.suites import SuiteDefinition
from robustness.definitions.tasks import find_task
from robustness.definitions.testsets import AdvGlueFile, SquadFile, TableFile, TestsetDefinition, TsvFile
from robustness.errors import RobustnessError
from robustness.reports.columns import Table, arrange
from robustness.reports.csvfiles import read_table, write_table
from robustness.testsets.rows import read_advglue, read_tsv
from robustness.testsets.squad import read_squad
from robustness.testsets.tables import read_table as read_own_table

SST2 = find_task("sst2")
INPUTS = int(os.environ.get("ROBUSTNESS_FUZZ_INPUTS", "200000"))
SHIPPED = sorted((definitions_root() / "attacks").glob("*.toml"))
TOML = st.sampled_from([path.read_text(encoding="utf-8") for path in SHIPPED])
TSV = 'sentence\tlabel\na fine film\t1\n"dull\t0\n'
ADVGLUE = '{"sst2": [{"sentence": "a fine film", "label": 1, "idx": 0}, {"sentence": "dull", "label": 0, "idx": 1}]}'
SQUAD = (
    '{"data": [{"title": "t", "paragraphs": [{"context": "A film of 1999.", "qas": [{"id": "q", "question": "When?", '
    '"answers": [{"text": "1999", "answer_start": 10}]}]}]}]}'
)
JSONL = '{"sentence": "a fine film", "label": 1}\n{"sentence": "dull", "label": "negative"}\n'
FRAGMENTS = st.sampled_from(
    [
        *(
            "\0",
            "\ufeff",
            "\u2028",
            "\r",
            "\n",
            "\t",
            '"',
            "'",
            "\\",
            "\\ud800",
            "\\u0000",
            "[",
            "]",
            "{",
            "}",
            "=",
            ",",
        ),
        *(
            "null",
            "NaN",
            "Infinity",
            "-0",
            "1e999",
            "9" * 5000,
            "[" * 2000,
            '{"a":' * 2000,
            "true",
            "1979-05-27",
            "0x",
        ),
        *("../../etc/passwd", "__class__", "factory", "kind", "[[search]]", "[search]", '"""', "=cmd()", "\x1b[2J"),
    ]
)


@st.composite
def damaged(draw: st.DrawFn, original: st.SearchStrategy[str]) -> bytes:
    """A file like the original with a few pieces cut out, doubled, exchanged or put in; at times nothing like it."""
    text = draw(original)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 20)))
        kind = draw(st.sampled_from(["cut", "double", "put"]))
        piece = (
            ""
            if kind == "cut"
            else text[start:end] * 2
            if kind == "double"
            else draw(FRAGMENTS | st.text(max_size=9))
        )
        text = text[:start] + piece + text[end:]
    content = text.encode("utf-8", "surrogatepass")
    return draw(st.binary(max_size=60)) if draw(st.integers(0, 19)) == 0 else content


def reader(name: str, read: Callable[[Path], object]) -> Callable[[Path, bytes], None]:
    def read_content(folder: Path, content: bytes) -> None:
        path = folder / name
        path.write_bytes(content)
        read(path)

    return read_content


def write_and_read_csv(folder: Path, content: bytes) -> None:
    text = content.decode("utf-8", "replace") or "-"
    path = folder / "examples.csv"
    write_table(arrange(Table.EXAMPLES, [{"adversarial_text": text}]), Table.EXAMPLES, path)
    assert read_table(Table.EXAMPLES, path)["adversarial_text"].tolist() == [text]


def read_any_definition(path: Path) -> None:
    """Refused where it is none of three kinds."""
    refusals = []
    for model in (AttackDefinition, SuiteDefinition, TestsetDefinition):
        try:
            read_definition(path, model)
        except RobustnessError as error:
            refusals.append(error)
    if len(refusals) == 3:
        raise refusals[0]


TABLE_SOURCE = TableFile(reader="table", file="t.jsonl", columns=("sentence",), label="label")
ADVGLUE_SOURCE = AdvGlueFile(
    reader="advglue", file="dev.json", annotations="none.json", section="sst2", rows=2, digest="0" * 64
)
READERS: dict[str, tuple[Callable[[Path, bytes], None], st.SearchStrategy[str]]] = {
    "definitions": (reader("mine.toml", read_any_definition), TOML),
    "tsv": (
        reader(
            "dev.tsv",
            lambda path: read_tsv(path, TsvFile(reader="tsv", file="f", columns=("sentence",), label="label"), SST2),
        ),
        st.just(TSV),
    ),
    "advglue": (
        reader("dev.json", lambda path: read_advglue(path, path.with_name("none.json"), ADVGLUE_SOURCE, SST2)),
        st.just(ADVGLUE),
    ),
    "squad": (
        reader("s.json", lambda path: read_squad(path, SquadFile(reader="squad", file="s.json"), adversarial=True)),
        st.just(SQUAD),
    ),
    "jsonl": (reader("t.jsonl", lambda path: read_own_table(path, TABLE_SOURCE, SST2)), st.just(JSONL)),
    "csv-writer": (write_and_read_csv, st.just("a fine film, =1+1")),
}


def fuzz(name: str, folder: Path, inputs: int) -> tuple[int, int]:
    """Feeds damaged files to a reader; returns how many were tried and how many of them were refused clearly."""
    act, original = READERS[name]
    counts = [0, 0]

    @seed(20)
    @settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(original))
    def feed(content: bytes) -> None:
        counts[0] += 1
        try:
            act(folder, content)
        except RobustnessError:
            counts[1] += 1

    feed()
    return counts[0], counts[1]


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused(name: str, tmp_path: Path) -> None:
    tried, refused = fuzz(name, tmp_path, 150)

    assert tried >= 100
    assert (refused > 0) == (name != "csv-writer")  # which takes any text


@pytest.mark.benchmark
@pytest.mark.timeout(7200)
def test_many_damaged_files_are_read_or_refused(
    tmp_path: Path, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    figures: dict[str, Any] = {}
    for name in READERS:
        started = time.perf_counter()
        tried, refused = fuzz(name, tmp_path, INPUTS)
        figures[name] = {"tried": tried, "refused": refused, "seconds": round(time.perf_counter() - started, 1)}
        print(name, figures[name], flush=True)

    save_result("fuzzing", figures)

    assert all(each["tried"] >= 0.9 * INPUTS for each in figures.values())
