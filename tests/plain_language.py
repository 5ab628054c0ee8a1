"""The checker of plain language: `python tests/plain_language.py` lists phrases to avoid and long sentences.

It reads docstrings, comments and messages of the package, the documents and the summaries of TOML files.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_WORDS = 25
"""Of a sentence in docstrings and documents."""
PACKAGE = ("robustness/*.py", "robustness/*/**/*.py")
DOCUMENTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/*.md", "docs/decisions/*.md")
LONG_YET = ("CHANGELOG.md",)
"""Documents with long sentences from before they were found; only phrases are checked."""
DEFINITIONS = ("attacks/*.toml", "suites/*.toml", "suites/*/*.toml")

AVOIDED = {
    r"(?:is|are|was|were|be|been) had": "exists, is available, is computed",
    r"as \w+ (?:has|have) (?:it|them)": "as in ...",
    r"(?:nothing|none) but": "only; None unless",
    r"for want of": "for lack of",
    r"giv(?:e|es|ing) way to": "is replaced by",
    r"tak(?:e|es|ing) (?:\w+ )?no notice": "ignores",
    r"left standing|leaves? standing": "on which ... failed",
    r"all the same": "still",
    r"as (?:it|they) (?:is|are|was|were)(?=[.,;:)]|$)": "unchanged",
    r"leav(?:e|es|ing) (?:it|them) (?:as|at|where)": "does not change",
    r"put together": "built, assembled",
    r"whatever": "any, for every, regardless of",
    r"one's own": "your own, a user's own",
    r"those (?:that|which)": "repeat the noun: the rows that",
    r"such as (?:hold|have|are|were)": "that hold",
    r"what (?:is|was|it) (?:left|right|asked|wanted|there)": "the rest; the gold; the question",
    r"(?:go|goes|went|going) on": "continues",
    r"now and then": "sometimes",
    r"in one go": "in one call, at once",
    r"one an? (?:example|row|pair|output|label|token|group|line|text|segment|place)": "one for each",
    r"(?:do|does) without": "does not need",
    r"(?:bring|brings) torch": "imports torch",
    r"were (?:it|the model)": "if it were",
    r"that (?:have|has) no .{1,30} (?:have|has) none": "name what is missing: examples without a margin",
    r"as people read (?:it|them)": "in readable form",
    r"told apart|tells? (?:\w+ )?apart": "distinguished",
    r"thereof|thereby|whereby|wherein|whereof|hitherto|lest|albeit|cannot but|in (?:its|their) stead": "plain words",
}
"""A phrase, as a pattern of whole words, and what to write in its place."""

_PHRASES = {re.compile(rf"\b(?:{phrase})\b", re.IGNORECASE): instead for phrase, instead in AVOIDED.items()}
_FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$]*\$", re.DOTALL)
_WORD = re.compile(r"`[^`]+`|[A-Za-z][\w'-]+|\b[aAI]\b")
_ENTRY = re.compile(r"[-*] |\d+\. |\w+:$|\*{0,2}\w+(?:, \*{0,2}\w+)*: ")
"""The first line of an item, a section, or an argument with its meaning."""
_CODE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Hit:
    path: Path
    line: int
    found: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.found!r}: {self.instead}"


@dataclass(frozen=True, slots=True)
class Passage:
    """A text that people read, with its first line in the file."""

    line: int
    text: str
    is_prose: bool
    """Whether its sentences have a greatest length."""


def check(path: Path, passages: Iterator[Passage]) -> Iterator[Hit]:
    """Yields the phrases to avoid and the sentences that are too long."""
    for passage in passages:
        for phrase, instead in _PHRASES.items():
            for match in phrase.finditer(re.sub(r"\s", " ", passage.text)):
                line = passage.line + passage.text.count("\n", 0, match.start())
                yield Hit(path, line, match[0], instead)
        if passage.is_prose:
            yield from _long_sentences(path, passage)


def _long_sentences(path: Path, passage: Passage) -> Iterator[Hit]:
    text = _FORMULA.sub(lambda formula: "\n" * formula[0].count("\n") + "." * ("." in formula[0][-3:]), passage.text)
    for match in re.finditer(r"\S.*?(?:[.!?](?=\)?(?:\s+[A-Z(`]|\s*$))|$)", text, re.DOTALL):
        count = len(_WORD.findall(re.sub(r"\([^()]*\)", "", match[0])))
        if count > MOST_WORDS:
            line = passage.line + text.count("\n", 0, match.start())
            start = " ".join(match[0].split()[:6])
            yield Hit(path, line, f"{start} ...", f"{count} words; at most {MOST_WORDS} a sentence")


def python_passages(source: str) -> Iterator[Passage]:
    """Yields docstrings by paragraph, comments, and string literals of four words or more."""
    tree = ast.parse(source)
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            inside.add(id(node.value))
            yield from _paragraphs(node.value.lineno, _CODE.sub(_blank, node.value.value))
        elif isinstance(node, ast.JoinedStr):
            inside.update(id(part) for part in ast.walk(node))
            parts = (str(each.value) if isinstance(each, ast.Constant) else "X" for each in node.values)
            yield Passage(node.lineno, "".join(parts), is_prose=False)
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside
        if is_text and node.value.count(" ") >= 3:
            yield Passage(node.lineno, node.value, is_prose=False)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Passage(token.start[0], token.string, is_prose=False)


def document_passages(source: str) -> Iterator[Passage]:
    """Yields a Markdown document's paragraphs, list items and headings, without code, images and tables."""
    prose = re.sub(r"!\[[^]]*\]\([^)]*\)", _blank, _CODE.sub(_blank, source))
    yield from _paragraphs(1, re.sub(r"^\|.*$|^ {4}.*$|<[^>]+>", "", prose, flags=re.MULTILINE))


def _blank(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")


def definition_passages(source: str) -> Iterator[Passage]:
    """Yields a TOML file's texts of four words or more, and its comments."""
    for number, line in enumerate(source.splitlines(), 1):
        if line.startswith("#"):
            yield Passage(number, line, is_prose=False)
    texts = [value for value in _texts_of(tomllib.loads(source)) if value.count(" ") >= 3]
    for text in texts:
        yield Passage(source[: source.find(text[:20])].count("\n") + 1, text, is_prose=True)


def _texts_of(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts_of(each)


def _paragraphs(first: int, text: str) -> Iterator[Passage]:
    """Cuts a text at blank lines and at entries of lists; leaves examples, formulas and sources out."""
    lines: list[str] = []
    start = first
    for number, line in enumerate([*text.split("\n"), ""], first):
        bare = line.strip()
        is_entry = _ENTRY.match(bare) and (bare[0] in "-*0123456789" or line[:1] == " ")
        if is_entry or not bare:
            if lines and not lines[0].startswith((">>>", "Source:", "$$")):
                yield Passage(start, "\n".join(lines), is_prose=True)
            lines, start = [], number
        if bare:
            lines.append(bare)
        else:
            start = number + 1


def all_hits(root: Path = ROOT) -> Iterator[Hit]:
    """Yields every hit in the package, the documents and the definitions."""
    for read, patterns in (
        (python_passages, PACKAGE),
        (document_passages, DOCUMENTS),
        (definition_passages, DEFINITIONS),
    ):
        for path in sorted(found for pattern in patterns for found in root.glob(pattern)):
            passages = read(path.read_text())
            if path.name in LONG_YET:
                passages = (replace(each, is_prose=False) for each in passages)
            yield from check(path.relative_to(root), passages)


if __name__ == "__main__":
    hits = list(all_hits())
    sys.exit("\n".join(map(str, hits)) or None)
