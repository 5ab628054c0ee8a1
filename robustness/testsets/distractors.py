"""Distractor sentences without a model: the answer's sentence without the answer, and a denied fake answer."""

from __future__ import annotations

import re

from robustness.testsets.answer_kinds import contains_answer
from robustness.testsets.example import Example
from robustness.testsets.sentences import split_sentences

MIN_WORDS = 3
"""The rest of a sentence must have at least so many words."""
MAX_PHRASE = 4
"""Words that a question phrase ("what school of thought") may have after its question word."""

_WH = re.compile(r"\b(who|whom|whose|what|which|when|where|why|how)\b", re.IGNORECASE)
_DO = frozenset(("do", "does", "did"))
_BE = frozenset(("is", "are", "was", "were"))
_AUXILIARIES_TEXT = """
has have had can could will would shall should may might must
"""
_AUXILIARIES = _DO | _BE | frozenset(_AUXILIARIES_TEXT.split())
_PREPOSITIONS_TEXT = """
in on at by for to of from with during under through about into after before since until
"""
_PREPOSITIONS = frozenset(_PREPOSITIONS_TEXT.split())


def answer_context(example: Example) -> str | None:
    """Returns the sentence of the first gold answer without that answer, or None if too few words remain.

    Removes other gold answers from it too, so that none is repeated.
    """
    context = example.texts[1]
    answer = example.answers[0]
    bounds = split_sentences(context)
    first = next((b for b in bounds if b[0] <= answer.start < b[1]), None)
    if first is None:
        return None
    start, end = first
    text = f"{context[start : answer.start]} {context[answer.start + len(answer.text) : end]}"
    for gold in sorted({gold.text for gold in example.answers}, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(gold)}(?!\w)", " ", text, flags=re.IGNORECASE)
    sentence = _tidy(text)
    if len(sentence.split()) < MIN_WORDS or contains_answer(sentence, [gold.text for gold in example.answers]):
        return None
    return sentence


def denied_answer(example: Example, fake: str) -> str | None:
    """Returns a sentence shaped like the question that denies a fake answer, or None for a question it cannot shape.

    A question phrase in the middle is replaced by "not FAKE". A phrase at the start without a following auxiliary
    verb gives "FAKE is not what happened". After who or what with a form of be it gives "FAKE was not the name".
    Otherwise it gives "It was not FAKE that ...", without the auxiliary.
    """
    question = example.texts[0].strip().rstrip("?!. ")
    match = _WH.search(question)
    if match is None:
        return None
    before, wh = question[: match.start()].strip(), match.group().lower()
    phrase, rest = _split_phrase(wh, question[match.end() :].split())
    preposition = before.lower() if before.lower() in _PREPOSITIONS else ""
    if before and not preposition:
        sentence = " ".join([before, "not", fake, *rest])
    elif not rest or rest[0].lower() not in _AUXILIARIES:
        sentence = " ".join([fake, "is not", wh, *phrase, *rest])
    elif rest[0].lower() in _BE and wh in ("who", "what", "which") and not preposition:
        sentence = " ".join([fake, rest[0].lower(), "not", *rest[1:]])
    else:
        be = "is" if rest[0].lower() in ("is", "are", "do", "does", "can", "will") else "was"
        sentence = " ".join(["It", be, "not", *([preposition] if preposition else []), fake, "that", *rest[1:]])
    sentence = _tidy(sentence)
    if len(sentence.split()) < MIN_WORDS or contains_answer(sentence, [gold.text for gold in example.answers]):
        return None
    return sentence


def _split_phrase(wh: str, words: list[str]) -> tuple[list[str], list[str]]:
    """The words that belong to the question word, up to the auxiliary verb, and what follows."""
    if wh in ("what", "which", "whose", "how"):
        for count in range(min(MAX_PHRASE, len(words) - 1) + 1):
            if count < len(words) and words[count].lower() in _AUXILIARIES:
                return words[:count], words[count:]
    return [], words


def _tidy(text: str) -> str:
    text = re.sub(r"\(\s*\)|\[\s*\]|\"\s*\"|“\s*”", " ", text)
    text = re.sub(r"\s+([,.;:!?)\]])", r"\1", " ".join(text.split()))
    text = re.sub(r"([,;:])(?:\s*[,;:])+", r"\1", text).strip(" ,;:")
    text = text.rstrip(".?! ") + "."
    return text[:1].upper() + text[1:]
