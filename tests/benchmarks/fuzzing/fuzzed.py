"""Readers of files, and damaged files for them; see test_fuzzing.py and fuzz_with_atheris.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from robustness.definitions.attacks import AttackDefinition
from robustness.definitions.catalog import definitions_root
from robustness.definitions.reading import read_definition
from robustness.definitions.suites import SuiteDefinition
from robustness.definitions.tasks import find_task
from robustness.definitions.testsets import AdvGlueFile, SquadFile, TableFile, TestsetDefinition, TsvFile
from robustness.errors import RobustnessError
from robustness.recipes.parts import check_parts
from robustness.reports.tables.columns import Table, arrange
from robustness.reports.tables.csvfiles import read_table, write_table
from robustness.testsets.rows import read_advglue, read_tsv
from robustness.testsets.squad import read_squad
from robustness.testsets.tables import read_table as read_own_table

Act = Callable[[Path, Sequence[bytes]], int]
"""Reads files with the given contents in a folder; returns how many were refused with a RobustnessError."""

SST2 = find_task("sst2")
SHIPPED = sorted(path for folder in ("attacks", "suites") for path in (definitions_root() / folder).rglob("*.toml"))
TOML = tuple(path.read_text(encoding="utf-8").partition("[[deviations]]")[0] for path in SHIPPED)
TSV = 'sentence\tlabel\na fine film\t1\n"dull\t0\n'
ADVGLUE = '{"sst2": [{"sentence": "a fine film", "label": 1, "idx": 0}, {"sentence": "dull", "label": 0, "idx": 1}]}'
SQUAD = (
    '{"data": [{"title": "t", "paragraphs": [{"context": "A film of 1999.", "qas": [{"id": "q", "question": "When?", '
    '"answers": [{"text": "1999", "answer_start": 10}]}]}]}]}'
)
JSONL = '{"sentence": "a fine film", "label": 1}\n{"sentence": "dull", "label": "negative"}\n'
CSV = 'sentence,label\n"a ""fine"" film",1\ndull,negative\n'
PIECES = (
    *("\0", "\ufeff", "\u2028", "\r", "\n", "\t", '"', "'", "\\", "\\ud800", "\\u0000", "[", "]", "{", "}", "=", ","),
    *("null", "NaN", "Infinity", "-0", "1e999", "9" * 5000, "[" * 2000, '{"a":' * 2000, "true", "1979-05-27", "0x"),
    *("../../etc/passwd", "__class__", "factory", "kind", "[[search]]", "[search]", '"""', "=cmd()", "\x1b[2J"),
)
SCRIPT = 26
"""Bytes that say how one file is damaged."""


def damage(originals: Sequence[str], script: bytes) -> bytes:
    """An original with up to four pieces cut out, doubled, exchanged or put in; one in 20 is nothing like it."""
    if script[0] % 20 == 0:
        return script[1:]
    text = originals[script[1] % len(originals)]
    for place in range(2, 2 + 6 * (script[0] % 5), 6):
        high, low, length, kind, which, code = script[place : place + 6]
        start = (high * 256 + low) % (len(text) + 1)
        end = min(len(text), start + length % 21)
        character = chr(which % 17 * 4096 + code * 16 + which % 16)  # of any plane, half characters among them
        put_in = ("", text[start:end] * 2, PIECES[which % len(PIECES)], character)[kind % 4]
        text = text[:start] + put_in + text[end:]
    return text.encode("utf-8", "surrogatepass")


def one_by_one(name: str, read: Callable[[Path], object]) -> Act:
    def act(folder: Path, contents: Sequence[bytes]) -> int:
        refused = 0
        path = folder / name
        for content in contents:
            path.write_bytes(content)
            try:
                read(path)
            except RobustnessError as error:
                assert str(error).startswith(str(path)), f"does not say where: {error}"
                refused += 1
        return refused

    return act


def write_and_read_csv(folder: Path, contents: Sequence[bytes]) -> int:
    """One table of all texts: a row costs less than a file."""
    texts = [content.decode("utf-8", "replace") or "-" for content in contents]
    path = folder / "examples.csv"
    write_table(arrange(Table.EXAMPLES, [{"adversarial_text": text} for text in texts]), Table.EXAMPLES, path)
    assert read_table(Table.EXAMPLES, path)["adversarial_text"].tolist() == texts
    return 0


def read_any_definition(path: Path) -> None:
    """As what its first keys say it is."""
    content = path.read_bytes()
    is_attack, is_testset = b"family" in content, b"licence" in content
    if is_attack:
        check_parts(read_definition(path, AttackDefinition), str(path))
    else:
        read_definition(path, TestsetDefinition if is_testset else SuiteDefinition)


def _own(file: str) -> Act:
    source = TableFile(reader="table", file=file, columns=("sentence",), label="label")
    return one_by_one(file, lambda path: read_own_table(path, source, SST2))


_TSV = TsvFile(reader="tsv", file="f", columns=("sentence",), label="label")
_ADVGLUE = AdvGlueFile(
    reader="advglue", file="dev.json", annotations="none.json", section="sst2", rows=2, digest="0" * 64
)
_SQUAD = SquadFile(reader="squad", file="s.json")
READERS: dict[str, tuple[Act, Sequence[str]]] = {
    "definitions": (one_by_one("mine.toml", read_any_definition), TOML),
    "tsv": (one_by_one("dev.tsv", lambda path: read_tsv(path, _TSV, SST2)), (TSV,)),
    "advglue": (
        one_by_one("dev.json", lambda path: read_advglue(path, path.with_name("none.json"), _ADVGLUE, SST2)),
        (ADVGLUE,),
    ),
    "squad": (one_by_one("s.json", lambda path: read_squad(path, _SQUAD, adversarial=True)), (SQUAD,)),
    "jsonl": (_own("t.jsonl"), (JSONL,)),
    "csv": (_own("t.csv"), (CSV,)),
    "csv-writer": (write_and_read_csv, ("a fine film, =1+1", "@x\r\n'quoted'", '"')),
}
