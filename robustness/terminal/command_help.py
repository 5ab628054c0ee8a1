"""What a command's help shows beside its options: examples, and the names that a shell completes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "demo": ("robustness demo --out demo-run",),
    "list": ("robustness list", "robustness list attacks"),
    "show": ("robustness show deepwordbug", "robustness show levenshtein"),
    "doctor": ("robustness doctor --data data",),
    "assets list": ("robustness assets list --data data",),
    "assets get": ("robustness assets get wordnet --data data", "robustness assets get --missing --data data"),
    "train": ("robustness train sst2 --base my/base --method full --method lora --out ck",),
    "run": (
        "robustness run attacks-quick --pairs ck/pairs.toml --out runs/attacks",
        "robustness run smoke --reference full --candidate lora --task sst2 --out r",
        "robustness run attacks-strong --pairs ck/pairs.toml --out runs/x --dry-run",
        "robustness run demo --pairs p --out r --fail-on candidate-more-fragile:2",
    ),
    "study": (
        "robustness study smoke --out studies/smoke",
        "robustness study capacity.toml --out studies/capacity --dry-run",
    ),
    "generate": ("robustness generate advsquad-addany --against my/full --out addany.json",),
    "report": ("robustness report runs/attacks --verbose", "robustness report runs/attacks --format latex"),
    "compare": ("robustness compare runs/monday runs/tuesday",),
    "verify": ("robustness verify runs/attacks --sample 50",),
    "check": ("robustness check mine.py:Shout", "robustness check my-task.toml"),
}
"""By command; a line of help at 80 columns holds each."""
NOTES: Mapping[str, tuple[str, ...]] = {
    "run": (
        "verdicts of --fail-on, each with :POINTS for a difference of at least so many:",
        "  candidate-more-fragile, reference-more-fragile, less-accurate,",
        "  equivalent, inconclusive",
    ),
}
"""What an option's own help would break inside a word."""


def epilog(command: str) -> str:
    """Returns the end of a command's help; its first character keeps its line breaks.

    >>> print(epilog("compare").replace(chr(8), ""))
    <BLANKLINE>
    examples:
      robustness compare runs/monday runs/tuesday
    """
    return "\n".join(["\b", *NOTES.get(command, ()), "examples:", *(f"  {line}" for line in EXAMPLES[command])])


def complete_shipped(*kinds: str) -> Callable[[str], list[str]]:
    """Returns what completes names of these kinds, such as suites, studies and assets."""

    def complete(incomplete: str) -> list[str]:
        return [name for kind in kinds for name in _names_of(kind) if name.startswith(incomplete)]

    return complete


def complete_kinds(incomplete: str) -> list[str]:
    """Completes the kinds of what is shipped."""
    from robustness.listing import list_kinds

    return [kind for kind, _ in list_kinds() if kind.startswith(incomplete)]


def _names_of(kind: str) -> list[str]:
    from robustness.listing import list_kind
    from robustness.recipes.assets.registry import ASSETS

    return list(ASSETS) if kind == "assets" else [name for name, _ in list_kind(kind)]
