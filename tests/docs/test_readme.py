"""Every command of the README and of the documents is run, as it stands there, on small sizes."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_study import write_base
from transformers import AutoTokenizer

from robustness import Example, Status
from robustness.cli import main
from robustness.definitions.catalog import ATTACKS, PROBES, SUITES, TESTSETS
from robustness.engine.attack import ScoreRows
from robustness.engine.scheduler import Scheduler
from robustness.recipes.building import name_attack
from robustness.recipes.textattack.importing import INSTALL
from robustness.testing import check_attack
from robustness.testsets.example import Texts

ROOT = Path(__file__).resolve().parents[2]
GUIDES = ("quickstart", "own-attack", "own-probe", "suites", "attacks", "probes", "testsets", "training", "clusters")
PAGES = ("README", *(f"docs/{name}" for name in (*GUIDES, "runs", "commands")))
OTHERS = {
    "docs/generation": "tests/docs/test_text_docs.py",
    "docs/tasks": "tests/runs/test_topics.py",
    "docs/studies": "tests/docs/test_studies_page.py",
}
"""Pages with commands that other tests run."""
README = "\n".join((ROOT / f"{page}.md").read_text(encoding="utf-8") for page in PAGES)
BASE = "sentence-transformers/all-MiniLM-L6-v2"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    """Each once, those that train first: the others' checkpoints are theirs."""
    lines = [line for block in blocks("console") for line in block.splitlines() if line.startswith("robustness ")]
    return sorted(dict.fromkeys(lines), key=lambda line: not line.startswith("robustness train"))


def run_command(line: str, replacements: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> int:
    words = [replacements.get(word, word) for word in shlex.split(line, comments=True)]
    monkeypatch.setattr(sys, "argv", words)
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_readme_is_one_screen_and_what_it_links_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\(([\w/.-]+)\)", text)

    assert len(text.encode()) <= 9_000
    assert "docs/quickstart.md" in linked and "CITATION.cff" in linked
    assert [path for path in linked if not (ROOT / path).is_file()] == []


def test_the_readme_counts_what_is_shipped() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    families = [ATTACKS.find(name).definition.family for name in ATTACKS.names()]
    sets = [TESTSETS.find(name).definition.kind for name in TESTSETS.names()]
    strong = [ATTACKS.find(name).definition.family for name in SUITES.find("attacks-strong").definition.attacks]
    suites = dict(re.findall(r"^\| `([\w-]+)` \|[^|]*\|([^|]*)\|", text, flags=re.MULTILINE))

    baselines = families.count("baseline")
    assert f"{len(families) - baselines} attack recipes and {baselines} baselines" in text
    assert f"{sets.count('adversarial')} adversarial test sets, {len(PROBES.names())} sensitivity probes" in text
    assert f"Which of {len(strong) - strong.count('baseline')} attacks" in text
    assert set(suites) == {name for name in SUITES.names() if not name.startswith("demo")}
    told = {name: examples.split()[0].rstrip(",") for name, examples in suites.items()}
    limits = {name: SUITES.find(name).definition.limit for name in suites}
    assert {name: told[name] for name in suites if limits[name]} == {n: str(k) for n, k in limits.items() if k}


def test_every_page_with_commands_is_run_by_a_test() -> None:
    pages = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"))}
    told = {path.relative_to(ROOT).with_suffix("").as_posix() for path, text in pages.items() if "```console" in text}

    assert told == {*PAGES, *OTHERS}
    assert all((ROOT / test).is_file() for test in OTHERS.values())


def test_the_two_commands_and_the_install_line_are_those_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    first = [line.split("#")[0].strip() for line in blocks("console")[0].splitlines()]

    assert first == ["make demo", "make test"]
    assert all(re.search(rf"^{command.split()[1]}:", makefile, flags=re.MULTILINE) for command in first)
    assert "-c constraints.txt" in makefile and "[textattack,demo" in makefile
    assert blocks("console")[1].splitlines() == [
        "pip install -c constraints.txt '.[textattack,demo]'",
        "pip install --no-deps textattack==0.3.11",
    ]
    assert INSTALL.endswith(blocks("console")[1].splitlines()[1])
    assert "textattack==0.3.11" in (ROOT / "constraints.txt").read_text().split()


def first_attack() -> Any:
    names: dict[str, Any] = {}
    exec(next(block for block in blocks("python") if "access = Access.SCORES" in block), names)
    return names["Swap"]


def test_the_white_box_example_keeps_the_rules() -> None:
    names: dict[str, Any] = {}
    exec(next(block for block in blocks("python") if "class Blank" in block), names)

    check_attack(names["Blank"])


def test_the_first_example_swaps_letters_until_the_answer_is_wrong() -> None:
    swap = first_attack()

    class Reads:
        """Answers 1 as long as it reads `good`."""

        def scores(self, texts: Sequence[Texts]) -> ScoreRows:
            return np.array([[0.5, "good" in text[0]] for text in texts], dtype=np.float32)

    examples = [Example("1", ("a good film",), 1), Example("2", ("a film",), 0)]

    outcomes = {o.example_id: o for o in Scheduler(name_attack(swap), Reads(), seed=0).run(examples)}

    assert (outcomes["1"].status, outcomes["1"].queries) == (Status.SUCCEEDED, 1)  # a word of one letter stays
    assert outcomes["1"].adversarial_text == ("a ogod film",)
    assert (outcomes["2"].status, outcomes["2"].queries) == (Status.FAILED, 1)
    check_attack(swap)


def test_the_first_example_changes_what_the_demos_uncased_model_reads(minilm: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    asked: list[str] = []

    class Listens:
        """Answers 1 whatever it reads, so that every candidate is asked about."""

        def scores(self, texts: Sequence[Texts]) -> ScoreRows:
            asked.extend(text[0] for text in texts)
            return np.tile(np.array([0.0, 1.0], dtype=np.float32), (len(texts), 1))

    list(Scheduler(name_attack(first_attack()), Listens(), seed=0).run([Example("1", ("Every Scene Works .",), 1)]))

    clean, *candidates = dict.fromkeys(asked)
    assert candidates == ["vEery Scene Works .", "Every cSene Works .", "Every Scene oWrks ."]
    assert all(tokenizer(text)["input_ids"] != tokenizer(clean)["input_ids"] for text in candidates)


def test_every_command_is_known() -> None:
    assert {line.split()[1] for line in commands()} == {
        *("list", "show", "doctor", "train", "run", "report", "verify", "check", "assets", "generate"),
        "compare",
    }


@pytest.mark.timeout(900)
def test_every_command_runs_on_real_data(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """With a small base that knows which words the rows call good, 160 training rows, and three examples of twenty.

    The demo takes MiniLM, and the notebooks, in ten times the time.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBUSTNESS_DATA", str(shared_data))
    attack, probe = blocks("python")[0], next(block for block in blocks("python") if "class Lengths" in block)
    testset = next(block for block in blocks("toml") if "support mails" in block)
    (tmp_path / "my_attack.py").write_text(attack, encoding="utf-8")
    (tmp_path / "my_probe.py").write_text(probe, encoding="utf-8")
    (tmp_path / "mails.toml").write_text(testset, encoding="utf-8")
    (tmp_path / "my_data" / "mails").mkdir(parents=True)
    mails = (shared_data / "glue/SST-2/dev.tsv").read_text(encoding="utf-8").splitlines()[:31]
    (tmp_path / "my_data" / "mails" / "dev.tsv").write_text("\n".join(mails), encoding="utf-8")
    write_base(tmp_path / "base", read_opinions(shared_data / "glue/SST-2/train.tsv"), length=128)
    replacements = {BASE: str(tmp_path / "base"), "2000": "160", "20": "3"}
    fetched: list[str] = []
    monkeypatch.setattr(
        "robustness.recipes.assets.downloading.get_asset",
        lambda name, folder, *_: fetched.append(name) or folder / name,
    )

    codes = {}
    for line in commands():
        if "my/full" in line and not Path("my").exists():
            write_plain_pair(Path("ck"), Path("my"))
        codes[line] = run_command(line, replacements, monkeypatch)

    assert {line: code for line, code in codes.items() if code != 0} == {}, capsys.readouterr().err
    assert fetched == ["wordnet", "bert-base-uncased"]
    assert (tmp_path / "runs/mine/pairs.csv").is_file() and (tmp_path / "runs/mails/pairs.csv").is_file()
    assert "deepwordbug" in capsys.readouterr().out


def read_opinions(file: Path) -> dict[str, float]:
    """How much more often a word stands in good rows than in bad ones, from -1 to 1, for words that are not rare."""
    counts: tuple[Counter[str], Counter[str]] = Counter(), Counter()
    for line in file.read_text(encoding="utf-8").splitlines()[1:]:
        text, label = line.rsplit("\t", 1)
        counts[int(label)].update(set(text.split()))
    bad, good = counts
    known = [word for word in {**bad, **good} if word.isalpha() and bad[word] + good[word] >= 20]
    return {word: (good[word] - bad[word]) / (good[word] + bad[word]) for word in known}


def write_plain_pair(trained: Path, folder: Path) -> None:
    """The checkpoints as `Trainer` and peft leave them: labels without names."""
    for name, method in (("full", "full"), ("lora", "lora")):
        (found,) = trained.glob(f"*-{method}-seed0")
        shutil.copytree(found, folder / name)
        for path in (folder / name).glob("config.json"):
            config = json.loads(path.read_text(encoding="utf-8"))
            kept = {key: value for key, value in config.items() if key not in {"id2label", "label2id"}}
            path.write_text(json.dumps(kept), encoding="utf-8")


def test_the_readmes_probe_yields_readings() -> None:
    from types import SimpleNamespace

    from robustness.sensitivity.building import name_probe
    from robustness.testsets.example import Example

    names: dict[str, Any] = {"__name__": "my_probe"}
    exec(next(block for block in blocks("python") if "class Lengths" in block), names)

    probe = name_probe(names["Lengths"])

    subject: Any = SimpleNamespace(examples=[Example("1", ("a fine film",), 1)])
    assert [reading.measurement.value for reading in probe.probe.measure(subject)] == [3.0]
