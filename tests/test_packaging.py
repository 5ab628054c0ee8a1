from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from importlib.metadata import requires
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="building the wheel needs hatchling")
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("not a checkout: there is nothing to build a wheel from")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


def test_the_wheel_lists_and_shows_what_the_checkout_does(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)

    def ask(path: Path, *arguments: str) -> str:
        code = (
            f"import sys; sys.argv[1:] = {list(arguments)!r}; import robustness.cli as c; print(c.__file__); c.main()"
        )
        env = os.environ | {"PYTHONPATH": str(path)}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=env, check=True
        )
        origin, _, rest = done.stdout.partition("\n")
        assert Path(origin).is_relative_to(path)
        return rest

    for arguments in (["list", "attacks"], ["list", "suites"], ["list", "testsets"], ["list", "methods"]):
        assert ask(site, *arguments) == ask(ROOT, *arguments)
    assert ask(site, "show", "deepwordbug") == ask(ROOT, "show", "deepwordbug")


def test_the_wheel_carries_definitions_demo_data_and_types(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())

    assert {
        "robustness/attacks/deepwordbug.toml",
        "robustness/suites/testsets/advglue-sst2.toml",
        "robustness/testsets/demo/train.tsv",
        "robustness/training/methods/lora.toml",
        "robustness/py.typed",
    } <= names
    assert not any(name.startswith(("tests/", "attacks/", "suites/")) for name in names)


def test_the_names_are_those_that_were_agreed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["name"] == "peft-robustness"
    assert project["scripts"] == {"robustness": "robustness.cli:main"}


def names(requirements: Iterable[str]) -> set[str]:
    """What requirements name, written as package indexes do."""
    found = (re.match(r"[\w.-]+", requirement) for requirement in requirements)
    return {re.sub(r"[-_.]+", "-", match[0]).lower() for match in found if match}


def test_the_extra_brings_all_that_textattack_requires_but_flair() -> None:
    required = names(each for each in requires("textattack") or () if "extra ==" not in each)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    extra = names(project["optional-dependencies"]["textattack"])

    assert required - names(project["dependencies"]) - {"flair"} == extra - {"langdetect"}


@pytest.mark.parametrize(
    ("file", "line", "extras"),
    [
        ("constraints.txt", "5", ("textattack", "demo", "demo-text", "ray", "test", "fuzz", "mutation", "lint")),
        ("constraints-transformers4.txt", "4", ("flair", "demo", "test")),
    ],
)
def test_all_that_an_environment_is_asked_for_is_pinned(file: str, line: str, extras: tuple[str, ...]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = [row for row in (ROOT / file).read_text().splitlines() if not row.startswith("#")]

    asked = names(project["dependencies"]).union(*(names(project["optional-dependencies"][e]) for e in extras))

    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    assert asked | {"textattack"} <= names(pins)
    assert any(pin.startswith(f"transformers=={line}.") for pin in pins)
