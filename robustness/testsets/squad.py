"""Files in SQuAD's JSON format, read into rows and written from examples."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from robustness.definitions.testsets import ALTERED_SUFFIX, ID_OF_ORIGINAL, HubDataset, SquadFile
from robustness.errors import DataError
from robustness.tasks.gold import GoldSpan
from robustness.tasks.patterns import SlowPatternError, find_pattern
from robustness.tasks.task import Task
from robustness.testsets.example import Example
from robustness.testsets.files import read_json
from robustness.testsets.rows import Row, load_hub

RIGHT = 1
"""The label of every row: that the answer is right."""
PLAIN_ID = re.compile(r"\w+")


def read_squad(path: Path, source: SquadFile, *, adversarial: bool) -> list[Row]:
    """Reads questions with their gold answers; in an adversarial set an altered question knows its original.

    Raises:
        DataError: not JSON, not SQuAD's structure, a repeated id, an answer that is not at its stated place, or an
            unknown id. An id must be plain or an original's id with a known suffix.
    """
    rows: dict[str, Row] = {}
    for where, record, context in _records(path):
        row = _row(where, record, context)
        if row.key in rows:
            raise DataError(f"{where}: the id {row.key!r} is there twice")
        rows[row.key] = row
    return _group(list(rows.values()), source.suffix, str(path)) if adversarial else list(rows.values())


def read_squad_hub(source: HubDataset, task: Task, *, adversarial: bool) -> list[Row]:
    """Reads a SQuAD-like split from the hub, with ids as in a file.

    Raises:
        DataError: it cannot be loaded or does not match its description.
    """
    del task
    name, records = load_hub(source)
    rows = [
        answer_row(f"{name} row {number}", str(record.get("id", number)), record, record.get("answers"))
        for number, record in enumerate(records)
    ]
    return _group(rows, ALTERED_SUFFIX, name) if adversarial else rows


def answer_row(where: str, key: str, record: dict[str, Any], answers: object) -> Row:
    """Returns one row from a record with `question` and `context`.

    Args:
        where: names the row in errors.
        key: its id.
        record: has the two texts.
        answers: a list of {text, answer_start}, one such object, or the hub's object of two lists.

    Raises:
        DataError: a missing text, no answer, or an answer that is not at its stated place.
    """
    question, context = (record.get(name) for name in ("question", "context"))
    for name, text in (("question", question), ("context", context)):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{where}: field {name!r} is missing or not text")
    assert isinstance(question, str) and isinstance(context, str), "refused above"
    golds = tuple(_answers(where, context, answers))
    if not golds:
        raise DataError(f"{where}: no answer; every question of SQuAD v1.1 has at least one")
    return Row(key, (question.strip(), context), RIGHT, answers=golds)


def write_squad(path: Path, examples: Iterable[Example], *, title: str) -> None:
    """Writes official SQuAD v1.1 JSON in one step: one paragraph for each run of rows of one context.

    Writes ids without the test set's name before the colon.
    """
    paragraphs: list[dict[str, Any]] = []
    for example in examples:
        question, context = example.texts
        if not paragraphs or paragraphs[-1]["context"] != context:
            paragraphs.append({"context": context, "qas": []})
        answers = [{"text": answer.text, "answer_start": answer.start} for answer in example.answers]
        key = example.id.partition(":")[2] or example.id
        paragraphs[-1]["qas"].append({"id": key, "question": question, "answers": answers})
    content = {"version": "1.1", "data": [{"title": title, "paragraphs": paragraphs}]}
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    draft.replace(path)


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The place, question record and context of every question."""
    content = read_json(path)
    articles = content.get("data") if isinstance(content, dict) else None
    for article_number, article in enumerate(_objects(path, articles, "data")):
        for number, paragraph in enumerate(_objects(path, article.get("paragraphs"), "paragraphs")):
            where = f"{path} article {article_number} paragraph {number}"
            context = paragraph.get("context")
            if not isinstance(context, str):
                raise DataError(f"{where}: field 'context' is missing or not text")
            for row, record in enumerate(_objects(where, paragraph.get("qas"), "qas")):
                yield f"{where} question {row}", record, context


def _objects(where: object, values: object, name: str) -> list[dict[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise DataError(f"{where}: expected a list {name!r} of objects, as SQuAD's files have")
    return values


def _row(where: str, record: dict[str, Any], context: str) -> Row:
    key = record.get("id")
    if not isinstance(key, str) or not key:
        raise DataError(f"{where}: field 'id' is missing or not text")
    return answer_row(f"{where} (id {key})", key, {**record, "context": context}, record.get("answers"))


def _answers(where: str, context: str, answers: object) -> Iterator[GoldSpan]:
    if isinstance(answers, dict):
        texts, starts = answers.get("text"), answers.get("answer_start")
        if isinstance(texts, str):
            answers = [answers]
        elif hasattr(texts, "__len__") and hasattr(starts, "__len__") and len(texts) == len(starts):  # type: ignore[arg-type]
            pairs = zip(list(texts), list(starts), strict=True)  # type: ignore[arg-type]
            answers = [{"text": text, "answer_start": start} for text, start in pairs]
    for answer in _objects(where, answers if isinstance(answers, list) else None, "answers"):
        text, start = answer.get("text"), answer.get("answer_start")
        if not isinstance(text, str) or not text or isinstance(start, bool) or not isinstance(start, int):
            raise DataError(f"{where}: an answer needs a text and a whole number answer_start; got {answer!r}")
        yield _place(where, context, text, start)


def _place(where: str, context: str, text: str, start: int) -> GoldSpan:
    """The answer in the paragraph's spelling: letters may be composed in one and decomposed in the other."""
    spellings = dict.fromkeys([text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFD"))])
    for spelling in spellings:
        if start >= 0 and context.startswith(spelling, start):
            return GoldSpan(spelling, start)
    found = context[max(0, start) : max(0, start) + len(text)]
    places = [context.find(spelling) for spelling in spellings if spelling in context]
    elsewhere = f"; it stands at {places[0]}" if places else ""
    if places and text not in context:
        elsewhere += ", in another Unicode form (accents composed or not): write both in the same form"
    raise DataError(f"{where}: the answer {text!r} is not at character {start}; there stands {found!r}{elsewhere}")


def _group(rows: list[Row], suffix: str, where: str) -> list[Row]:
    """Adds originals to altered questions, by their ids."""
    known = {row.key: row for row in rows}
    try:
        return [_grouped(row, known, suffix, where) for row in rows]
    except SlowPatternError as error:
        raise DataError(f"{where}: suffix: {error}") from None


def _grouped(row: Row, rows: dict[str, Row], suffix: str, where: str) -> Row:
    if match := next(find_pattern(ID_OF_ORIGINAL.format(suffix=suffix), row.key), None):
        key = match["original"]
        original = rows.get(key)
        texts = original.texts if original is not None else None
        return Row(row.key, row.texts, row.label, texts, group=key, answers=row.answers)
    if PLAIN_ID.fullmatch(row.key):
        return row
    raise DataError(
        f"{where} id {row.key!r}: neither a plain id nor an original's with a known suffix "
        f"({suffix}); set `suffix` in the test set's definition"
    )
