"""Isolation: texts that a victim cannot answer, told from a victim that answers nothing any more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar, final

from robustness.errors import RobustnessError, first_line
from robustness.victims.batches import recover_memory

K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")

GONE = 3
"""Groups of examples in a row that fail alone with the same kind of error: then it is the victim that is at fault."""


class VictimGoneError(Exception):
    """The victim fails whatever it is asked: no row could say more than that.

    No RobustnessError: another process, with a device of its own, may do better.
    """


@dataclass(frozen=True, slots=True)
class Fault:
    """In place of an answer: why there is none."""

    reason: str


@final
@dataclass(slots=True)
class Isolation:
    """Asks about many items at once and, where that fails, finds those at fault."""

    _kind: str = ""
    """Of the last error of an item that was alone."""
    _groups: set[str] = field(default_factory=set)
    """Of the items that failed with it since the last answer."""

    def ask(
        self,
        answer: Callable[[Mapping[K, T]], Iterable[tuple[K, R]]],
        items: Mapping[K, T],
        group_of: Callable[[T], str],
    ) -> Iterator[tuple[K, R | Fault]]:
        """Yields what `answer` yields of the items by their keys, in any order, or a fault.

        Where it fails, what has no answer yet is asked about in halves until what is at fault is alone. Items of
        one group, which may share the text at fault, count as one. Faults are held back until an answer follows or
        nothing is left, so that a victim that is gone leaves none.

        Raises:
            RobustnessError: what is no fault of an item.
            VictimGoneError: no answer for three groups in a row, or a device that is lost.
        """
        stack = [dict(items)]
        held: list[tuple[K, Fault]] = []
        while stack:
            part = stack.pop()
            left = dict(part)
            failure = ("", "")
            try:
                for key, found in answer(part):
                    del left[key]
                    self._groups.clear()
                    yield from held
                    held.clear()
                    yield key, found
            except (RobustnessError, VictimGoneError):
                raise
            except Exception as error:  # whatever one text does to a tokenizer, a model or a device
                failure = (type(error).__name__, f"{type(error).__name__}: {first_line(error)}")
                if not left:
                    raise VictimGoneError(f"what answers failed behind its last answer, with {failure[1]}") from error
            if not left:
                continue
            recover(failure[1])
            if len(part) == 1:
                ((key, item),) = part.items()
                held.append((key, self._book(*failure, group_of(item))))
            else:
                keys = list(left)
                half = (len(keys) + 1) // 2
                stack += [{k: left[k] for k in some} for some in (keys[half:], keys[:half]) if some]
        yield from held

    def _book(self, kind: str, reason: str, group: str) -> Fault:
        if kind != self._kind:
            self._groups.clear()
        self._kind = kind
        self._groups.add(group)
        if len(self._groups) >= GONE:
            raise VictimGoneError(f"{GONE} examples in a row failed, each of them alone, with {reason}")
        return Fault(reason)


def recover(reason: str) -> None:
    """Gives back the memory that a failed call held; raises VictimGoneError where the device is lost."""
    try:
        recover_memory()
    except Exception as error:  # whatever a broken device makes of it
        raise VictimGoneError(f"the device is lost ({first_line(error)}) after {reason}") from None
