"""Isolation: distinguishes texts that a victim cannot answer from a victim that answers nothing any more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar, final

from robustness.errors import RobustnessError, first_line
from robustness.victims.batches import recover_memory

K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")
E = TypeVar("E", bound=BaseException)

GONE = 3
"""Consecutive groups of examples that fail alone with the same kind of error before the victim is at fault."""


class VictimGoneError(Exception):
    """The victim fails on every question, so rows could not say more.

    Not a RobustnessError, because another process with its own device may succeed.
    """


class UnfitTextError(ValueError):
    """A text that the victim cannot take, such as one too long for it; it says nothing of other texts."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The error in place of an answer."""

    reason: str


@final
@dataclass(slots=True)
class Isolation:
    """Asks about many items at once and, after a failure, finds the items at fault."""

    _kind: str = ""
    """Kind of the last error of a single item."""
    _groups: set[str] = field(default_factory=set)
    """Groups of the items that failed with it since the last answer."""

    def ask(
        self,
        answer: Callable[[Mapping[K, T]], Iterable[tuple[K, R]]],
        items: Mapping[K, T],
        group_of: Callable[[T], str],
    ) -> Iterator[tuple[K, R | Fault]]:
        """Yields the results of `answer` by the items' keys, in any order, or faults.

        After a failure it asks about unanswered items in halves until the item at fault is alone. Items of one group,
        which may share a text, count as one. Faults are held back until an answer follows or all items are done, so
        that a lost victim leaves none.

        Raises:
            RobustnessError: an error that is no item's fault.
            VictimGoneError: no answer for three groups in a row, unfit texts aside, or a device that is lost.
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
            except Exception as error:  # any error of one text in a tokenizer, a model or a device
                kind = "" if isinstance(error, UnfitTextError) else type(error).__name__
                failure = (kind, f"{type(error).__name__}: {first_line(error)}")
                if not left:
                    raise VictimGoneError(f"the victim failed after its last answer, with {failure[1]}") from error
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
        if not kind:  # of a text that is itself at fault
            return Fault(reason)
        if kind != self._kind:
            self._groups.clear()
        self._kind = kind
        self._groups.add(group)
        if len(self._groups) >= GONE:
            raise VictimGoneError(f"{GONE} examples in a row failed, each of them alone, with {reason}")
        return Fault(reason)


def without_frames(error: E) -> E:
    """Returns the error after it and its causes lost their tracebacks, whose frames hold tensors."""
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        each = left.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            left += [each.__cause__, each.__context__]
    return error


def recover(reason: str) -> None:
    """Frees a failed call's memory, once its error is handled; raises VictimGoneError if the device is lost."""
    try:
        recover_memory()
    except Exception as error:  # any error of a broken device
        raise VictimGoneError(f"the device is lost ({first_line(error)}) after {reason}") from None
