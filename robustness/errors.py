"""What can go wrong for a user: every kind says where, what was expected, what was found and what to do."""

SHOWN_CHARACTERS = 400
"""Of a reason that a library gives, or a file."""


def first_line(error: BaseException) -> str:
    r"""Returns the first line of an error's message that says something, or the error's kind where none does.

    A heading says it with what it is above. A library's line may list all models it knows: what is longer than a
    paragraph is cut.

    >>> first_line(KeyError()), first_line(ValueError("\n***\n  no such thing\nand more"))
    ('KeyError', 'no such thing')
    >>> first_line(RuntimeError("Error(s) in loading:\n\tsize mismatch"))
    'Error(s) in loading: size mismatch'
    >>> first_line(AssertionError("Layer(\n  (0): Linear()\n) should be a decoder"))
    'Layer(...) should be a decoder'
    """
    lines = [line.strip() for line in str(error).splitlines() if any(map(str.isalnum, line))]
    if len(lines) > 1 and lines[0].endswith(":"):
        return shorten(f"{lines[0]} {lines[1]}")
    if len(lines) > 1 and lines[0].endswith("("):  # a module is spelled out first
        return shorten(f"{lines[0]}...{lines[-1]}")
    return shorten(lines[0]) if lines else type(error).__name__


def shorten(words: str) -> str:
    """Returns words unchanged, or the first of many.

    >>> shorten("short"), len(shorten("long" * 1000))
    ('short', 404)
    """
    return words if len(words) <= SHOWN_CHARACTERS else f"{words[:SHOWN_CHARACTERS]} ..."


class RobustnessError(Exception):
    """Anything a user can cause; the command line prints its message as one paragraph and exits with 2."""


class UsageError(RobustnessError):
    """An argument that is out of range or names nothing."""


class DefinitionError(RobustnessError):
    """A definition file that cannot be read, or a name that no definition has."""


class DataError(RobustnessError):
    """A data file that is missing, of the wrong format or not the published one."""


class CheckpointError(RobustnessError):
    """A checkpoint that cannot be loaded as what it claims to be."""


class GateError(RobustnessError):
    """A pair that must not be compared; the message names every check that failed."""


class RunError(RobustnessError):
    """A run folder that cannot be continued or read."""


class AttackError(RobustnessError):
    """An attack that breaks the attack protocol."""


class ProbeError(RobustnessError):
    """A probe that breaks the probe protocol, or numbers that contradict each other."""
