"""What can go wrong for a user: every kind says where, what was expected, what was found and what to do."""


def first_line(error: BaseException, most: int = 300) -> str:
    r"""Returns the first line of an error's message that says something, or the error's kind where none does.

    >>> first_line(KeyError()), first_line(ValueError("\n  no such thing\nand more"))
    ('KeyError', 'no such thing')
    """
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:most]


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
    """An attack, one's own perhaps, that breaks the attack protocol."""


class ProbeError(RobustnessError):
    """A probe, one's own perhaps, that breaks the probe protocol, or numbers that contradict each other."""
