"""Random mutants of a tree's modules: cosmic-ray makes them, forks of one process a core try them."""

from __future__ import annotations

import ast
import difflib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LEFT_OUT = (".*", "__pycache__", "demo-run", "runs", "ck", "build", "dist", "*.egg-info")
ARITHMETIC = ("Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow")
ORDER = ("Eq", "NotEq", "Lt", "LtE", "Gt", "GtE")
OTHERS = ("AddNot", "ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue")
MORE = ("NumberReplacer", "ZeroIterationForLoop", "ReplaceUnaryOperator_USub_UAdd", "ReplaceUnaryOperator_Delete_Not")
OPERATORS = (
    *(f"ReplaceBinaryOperator_{a}_{b}" for names in (ARITHMETIC, ("BitOr", "BitAnd")) for a in names for b in names),
    *(f"ReplaceComparisonOperator_{a}_{b}" for names in (ORDER, ("Is", "IsNot")) for a in names for b in names),
    *OTHERS,
    *MORE,
)
"""Comparison, arithmetic and boolean operators, swapped branches, loops and constants; none with itself."""
SLOWER = 5
"""Times what the tests take unmutated, a mutant that takes longer hangs."""
LEAST_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Variant:
    """What an operator may do at one place."""

    file: str
    line: int
    operator: str
    occurrence: int
    """Of the operator in the module."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change to one module."""

    file: str
    line: int
    operator: str
    before: str
    """The changed lines, stripped."""
    after: str
    source: str
    """The whole mutated module."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is known by, wherever its line moves to."""
        return self.file, self.before, self.after


@dataclass(frozen=True, slots=True)
class Trial:
    """What the tests said of a mutant."""

    mutant: Mutant
    killed: bool
    seconds: float
    by: str
    """The test that failed first; empty where it survived, `time` where it ran out."""


def read_modules() -> dict[str, list[str]]:
    """Returns the modules that are mutated, each with its test files."""
    modules: dict[str, list[str]] = tomllib.loads((HERE / "modules.toml").read_text(encoding="utf-8"))["tests"]
    return modules


def read_equivalent() -> dict[tuple[str, str, str], str]:
    """Returns the reasons why mutants are no other programs, by their keys; an empty third part is any change."""
    entries = tomllib.loads((HERE / "equivalent.toml").read_text(encoding="utf-8")).get("mutant", [])
    return {(each["file"], each["before"], each.get("after", "")): each["reason"] for each in entries}


def is_equivalent(mutant: Mutant, known: Mapping[tuple[str, str, str], str]) -> bool:
    """Whether a mutant, or any of its line, is named as no other program."""
    return mutant.key in known or (mutant.file, mutant.before, "") in known


def list_places(file: str) -> list[list[Variant]]:
    """Returns what may be done at each place of a module: several things where an operator has many others."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator

    nodes = list(ast_nodes(get_ast((ROOT / file).read_text(encoding="utf-8"))))
    found: dict[tuple[str, tuple[int, int]], list[Variant]] = defaultdict(list)
    for name in OPERATORS:
        kind, _, rest = name.partition("_")
        if rest and len(set(rest.split("_"))) == 1:
            continue
        operator = get_operator(f"core/{name}")()
        starts = [start for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, start in enumerate(starts):
            found[kind, start].append(Variant(file, start[0], name, occurrence))
    return [variants for _, variants in sorted(found.items())]


def make_mutant(variant: Variant) -> Mutant | None:
    """Returns the mutant, or None where the module still does the same or is no Python."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = (ROOT / variant.file).read_text(encoding="utf-8")
    mutated = mutate_code(source, get_operator(f"core/{variant.operator}")(), variant.occurrence)
    if mutated is None or meaning_of(mutated) in (None, meaning_of(source)):
        return None
    return Mutant(variant.file, variant.line, variant.operator, *changed_lines(source, mutated), mutated)


def meaning_of(source: str) -> str | None:
    """What a module does: its syntax tree without annotations, which nothing evaluates; None where it is no Python.

    Decorators are left out too: here they freeze data and cache answers, and no number follows from them; and so are
    the marks that say which arguments are given by name.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if getattr(node, name, None) is not None:
                setattr(node, name, ast.Constant(None))
        if hasattr(node, "decorator_list"):
            node.decorator_list = []
        if isinstance(node, ast.arguments):  # whether they are given by name or place is the caller's
            node.args = node.posonlyargs + node.args + node.kwonlyargs
            node.defaults += [default for default in node.kw_defaults if default is not None]
            node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
    return ast.dump(tree)


def changed_lines(before: str, after: str) -> tuple[str, str]:
    """Returns the lines that differ, stripped and joined by blanks."""
    olds, news = before.splitlines(), after.splitlines()
    blocks = difflib.SequenceMatcher(None, olds, news, autojunk=False).get_opcodes()
    changed = [block for block in blocks if block[0] != "equal"]
    pick = lambda lines, low, high: " ".join(line.strip() for line in lines[low:high])  # noqa: E731
    return (
        " ".join(pick(olds, i, j) for _, i, j, _, _ in changed),
        " ".join(pick(news, i, j) for _, _, _, i, j in changed),
    )


def draw_mutants(files: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """Returns one mutant each of `count` random places; a place with many variants is no likelier than another."""
    rng = np.random.default_rng(seed)
    places = [variants for file in files for variants in list_places(file)]
    drawn: list[Mutant] = []
    for place in rng.permutation(len(places)):
        mutant = make_mutant(places[place][int(rng.integers(len(places[place])))])
        drawn += [] if mutant is None or guards_lengths(mutant) else [mutant]
        if len(drawn) == count:
            break
    return drawn


def guards_lengths(mutant: Mutant) -> bool:
    """Whether a mutant takes away nothing but zip's check of lengths that are equal by construction."""
    return mutant.before.replace("strict=True", "strict=False") == mutant.after


def leave_out(folder: str, names: list[str]) -> set[str]:
    """What a copy can do without: more of the top folder than of those below, where `runs` is a package."""
    patterns = LEFT_OUT if Path(folder) == ROOT else ("__pycache__",)
    return shutil.ignore_patterns(*patterns)(folder, names)


class Tester:
    """A copy of the tree with a worker that runs tests in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        shutil.copytree(ROOT, folder, ignore=leave_out)
        environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        self._worker = subprocess.Popen(
            [sys.executable, "tests/mutation/worker.py"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, tests: Sequence[str], seconds: float) -> dict[str, Any]:
        """Runs test files until the first failure."""
        assert self._worker.stdin is not None and self._worker.stdout is not None
        self._worker.stdin.write(json.dumps({"tests": list(tests), "seconds": seconds}) + "\n")
        self._worker.stdin.flush()
        answer: dict[str, Any] = json.loads(self._worker.stdout.readline())
        return answer

    def attempt(self, mutant: Mutant, tests: Sequence[str], seconds: float) -> Trial:
        """Tries one mutant and puts the module back."""
        path = self._folder / mutant.file
        original = path.read_text(encoding="utf-8")
        path.write_text(mutant.source, encoding="utf-8")
        try:
            answer = self.run([*tests, mutant.file], seconds)
        finally:
            path.write_text(original, encoding="utf-8")
        by = "time" if answer["exit"] == 124 else answer["failed"] or f"pytest's exit status {answer['exit']}"
        return Trial(mutant, answer["exit"] != 0, answer["seconds"], by if answer["exit"] else "")

    def close(self) -> None:
        """Ends the worker."""
        assert self._worker.stdin is not None
        self._worker.stdin.close()
        self._worker.wait(timeout=60)


def try_mutants(mutants: Sequence[Mutant], scratch: Path, workers: int = 2) -> Iterator[Trial]:
    """Yields what the tests say of each mutant, in their order.

    Raises:
        RuntimeError: the tests of a module fail on the module as it is.
    """
    tests = read_modules()
    testers: SimpleQueue[Tester] = SimpleQueue()
    made = [Tester(scratch / str(number)) for number in range(workers)]
    for tester in made:
        testers.put(tester)

    def lend(call: str, *arguments: object) -> Any:
        tester = testers.get()
        try:
            return getattr(tester, call)(*arguments)
        finally:
            testers.put(tester)

    with ThreadPoolExecutor(workers) as pool:
        files = list(dict.fromkeys(mutant.file for mutant in mutants))
        baselines = pool.map(lambda file: lend("run", [*tests[file], file], 600.0), files)
        limits = {}
        for file, baseline in zip(files, baselines, strict=True):
            if baseline["exit"] != 0:
                raise RuntimeError(f"{file}: its tests fail unmutated: {baseline}")
            limits[file] = max(LEAST_SECONDS, SLOWER * baseline["seconds"])
        yield from pool.map(lambda m: lend("attempt", m, tests[m.file], limits[m.file]), mutants)
    for tester in made:
        tester.close()
