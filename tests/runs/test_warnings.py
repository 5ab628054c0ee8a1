"""From what makes numbers doubtful to run.json and the page."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import robustness
from robustness import RunSettings, api
from robustness.progress import Progress
from robustness.reports.summaries.ending import describe_gaps
from robustness.victims.heads.labels import Victim
from robustness.victims.isolation import Fault, Isolation

TINY_EXAMPLES = 24
JUDGED = "AND status IN ('succeeded', 'failed')"


def start(tiny: Any, out: Path, attacks: list[str], on_progress: Any = None, **options: Any) -> Path:
    options = {"data": tiny.data, "testsets": [str(tiny.testset)], "attacks": attacks} | options
    return Path(api.run("smoke", tiny.pairs, out, RunSettings(**options), on_progress=on_progress).folder)


def read_warnings(folder: Path) -> list[str]:
    found: list[str] = json.loads((folder / "run.json").read_text())["warnings"]
    return found


def read_listed(folder: Path) -> str:
    """What the page lists below its heading for warnings."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    return unescape(page.partition("<h3>Warnings</h3>")[2].partition("</ul>")[0])


ATTACKS_RUN = ["deepwordbug", "random-chars", "fgsm"]


@pytest.fixture(scope="module")
def finished(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start(tiny, tmp_path_factory.mktemp("warned") / "run", ATTACKS_RUN)


@pytest.mark.parametrize(
    ("statements", "warning"),
    [
        (
            [f"UPDATE outcomes SET status='succeeded' WHERE attack='deepwordbug' {JUDGED}"],
            "deepwordbug broke all",
        ),
        (
            [f"UPDATE outcomes SET status='failed' WHERE attack='deepwordbug' {JUDGED}"],
            "deepwordbug broke none of",
        ),
        (
            [
                f"UPDATE outcomes SET status='succeeded' WHERE attack='random-chars' {JUDGED}",
                f"UPDATE outcomes SET status='failed' WHERE attack='deepwordbug' {JUDGED}",
            ],
            "a random baseline should not beat the attack it mirrors",
        ),
        (
            [f"UPDATE outcomes SET status='failed', zero_gradients=3 WHERE attack='fgsm' {JUDGED}"],
            "the gradient vanished in",
        ),
    ],
)
def test_what_stored_outcomes_say_against_themselves_is_in_the_record_and_on_the_page(
    tiny: Any, finished: Path, tmp_path: Path, statements: list[str], warning: str
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    with sqlite3.connect(folder / "run.sqlite") as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount >= 20

    start(tiny, folder, ATTACKS_RUN)

    assert not any(warning in each for each in read_warnings(finished))
    assert any(warning in each for each in read_warnings(folder))
    assert warning in read_listed(folder)


def test_a_victim_that_is_not_deterministic_is_warned_of(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    honest: Callable[..., Any] = Victim._start

    def waver(victim: Victim, texts: Any) -> Callable[[], Any]:
        collect = honest(victim, texts)
        return lambda: collect() * rng.choice(np.array([-1, 1], dtype=np.float32), size=(len(texts), 1))

    def spoil(progress: Progress) -> None:
        if progress.done:  # the gate, which would have refused it, has passed
            monkeypatch.setattr(Victim, "_start", waver)

    folder = start(tiny, tmp_path / "run", ["identity"], on_progress=spoil)

    assert any("it is not deterministic" in each for each in read_warnings(folder))
    assert "it is not deterministic" in read_listed(folder)


def test_a_suspicion_goes_when_the_outcomes_no_longer_bear_it_out(tiny: Any, finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    with sqlite3.connect(folder / "run.sqlite") as connection:
        connection.execute("INSERT INTO truncated VALUES ('full', 'a'), ('full', 'b')")
    start(tiny, folder, ATTACKS_RUN)
    assert any(each.startswith("full: 2 texts are longer") for each in read_warnings(folder))
    with sqlite3.connect(folder / "run.sqlite") as connection:
        connection.execute("INSERT INTO truncated VALUES ('full', 'c')")

    start(tiny, folder, ATTACKS_RUN)

    about_length = [each for each in read_warnings(folder) if "are longer than the model's limit" in each]
    assert len(about_length) == 1 and about_length[0].startswith("full: 3 texts")


def test_a_warning_of_what_was_left_out_goes_once_the_run_has_made_up_for_it(
    tiny: Any, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    with closing(sqlite3.connect(folder / "run.sqlite")) as connection, connection:
        (n,) = connection.execute("SELECT COUNT(*) FROM replays WHERE target = 'lora'").fetchone()
        connection.execute("DELETE FROM replays WHERE target = 'lora'")
    torn = api.report(folder)

    with monkeypatch.context() as patch:
        patch.setattr(Isolation, "ask", lambda self, answer, asked, key: ((name, Fault("broken")) for name in asked))
        start(tiny, folder, ATTACKS_RUN)
    left_out = [each for each in read_warnings(folder) if "left out" in each]
    start(tiny, folder, ATTACKS_RUN)
    mended = robustness.load(folder)

    assert torn.missing_replays == n > 0 == mended.missing_replays
    assert [each.text for each in describe_gaps(torn)] == [
        f"{n} texts that broke one arm have no answer of the other: they are not asked yet, "
        "or the model fails on them; the same command tries again"
    ]
    assert not list(describe_gaps(mended))
    assert left_out and all("-> lora | " in each and each.endswith("the first: broken") for each in left_out)
    assert read_warnings(folder) == read_warnings(finished)


def test_a_run_that_is_interrupted_has_its_warnings(tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    rows = "".join(f"the film is {'fine ' * (100 if i == 0 else 1)}number {i}\t1\n" for i in range(20))
    rows += "".join(f"the film is dull number {i}\t0\n" for i in range(4))
    (tmp_path / "tiny" / "dev.tsv").write_text("sentence\tlabel\n" + rows)

    def stop(progress: Progress) -> None:
        if progress.done > TINY_EXAMPLES:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(tiny, tmp_path / "run", ["identity"], data=tmp_path, on_progress=stop)

    assert any("longer than the model's limit" in each for each in read_warnings(tmp_path / "run"))
