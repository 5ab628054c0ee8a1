"""The documents: what pages ask for is made from what is shipped, and the site loads nothing from elsewhere."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

from robustness.definitions.catalog import ATTACKS, PROBES, SUITES, TESTSETS
from robustness.definitions.studies import STUDIES
from robustness.definitions.tasks import TASKS
from robustness.reports.studies.columns import STUDY_COLUMNS
from robustness.reports.tables.columns import COLUMNS
from robustness.reports.tables.meanings import undeclared
from robustness.studies.tables import CHECKPOINT_COLUMNS
from robustness.training.methods import method_names

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The site's hook, as MkDocs imports it: its own folder first."""
    monkeypatch.syspath_prepend(DOCS / "site")
    for name in ("hook", "catalogue", "results", "notebooks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("hook")


def test_every_column_has_a_meaning_and_every_meaning_a_column() -> None:
    assert undeclared() == set()


def test_every_mark_of_a_page_is_known_and_every_known_one_is_used(hook: ModuleType) -> None:
    texts = [path.read_text(encoding="utf-8") for path in DOCS.glob("**/*.md")]

    asked = {name for text in texts for name in re.findall(r"<!-- generated: (\S+) -->", text)}

    assert asked == set(hook.GENERATED)


def test_generated_pages_name_all_that_is_shipped(hook: ModuleType) -> None:
    for name, shipped in (
        ("attacks", ATTACKS.names()),
        ("probes", PROBES.names()),
        ("methods", method_names()),
        ("tasks", TASKS.names()),
        ("testsets", TESTSETS.names()),
        ("suites", SUITES.names()),
        ("studies", STUDIES.names()),
    ):
        page = hook.fill(f"<!-- generated: {name} -->")
        named = set(re.findall(r"^(?:### |\| `)([\w-]+)", page, flags=re.MULTILINE))
        assert named == set(shipped), name


def test_the_page_of_tables_has_every_column_with_its_unit(hook: ModuleType) -> None:
    page = hook.fill("<!-- generated: columns -->")

    assert page.count("\n| `") == sum(len(columns) for columns in COLUMNS.values())
    assert "| `difference` | fraction | Above 0 the candidate is worse off, for every metric |" in page


def test_the_page_of_commands_has_the_options_of_run(hook: ModuleType) -> None:
    page = hook.fill("<!-- generated: commands -->")

    assert "## robustness assets get" in page
    assert "| `--fail-on` |" in page.partition("## robustness run")[2].partition("## ")[0]


def test_the_simulated_figures_are_those_that_were_measured(hook: ModuleType) -> None:
    page = hook.fill("<!-- generated: simulations -->")

    assert "| equal; n 100; discordant 0.05 | 0.989 | 0.011 |  |  |" in page


def test_the_page_of_statistics_has_the_simulated_trends(hook: ModuleType) -> None:
    trends, examples = (hook.fill(f"<!-- generated: {name} -->") for name in ("trends", "trends-examples"))

    assert trends.count("\n| ") == 1 + 4  # two numbers of seeds, with and without slopes of their own
    assert examples.count("\n| ") == 1 + 2


def test_a_decision_has_its_three_parts_in_at_most_fifteen_lines(hook: ModuleType) -> None:
    pages = sorted((DOCS / "decisions").glob("0*.md"))

    assert [page.stem for page in pages] == [f"{number + 1:04d}" for number in range(len(pages))]
    for page in pages:
        lines = page.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 15 and lines[0].startswith("# "), page
        parts = [line.partition(":")[0] for line in lines if re.match("(Context|Decision|Consequence): ", line)]
        assert parts == ["Context", "Decision", "Consequence"], page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built strictly."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def test_the_site_loads_nothing_from_another_host(site: Path) -> None:
    pages = list(site.glob("**/*.html"))
    assert len(pages) > 70
    assert site / "notebooks/own_pair/own_pair.html" in pages
    for page in pages:
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="(.*?)"', page.read_text(encoding="utf-8"))
        loaded += re.findall(r'<link[^>]* rel="(?:stylesheet|icon|preload)"[^>]* href="(.*?)"', page.read_text())
        loaded += re.findall(r'<link[^>]* href="([^"]*)"[^>]* rel="(?:stylesheet|icon|preload)"', page.read_text())
        assert [source for source in loaded if source.startswith(("http", "//"))] == [], page


@pytest.mark.parametrize("start", ["index.html", "decisions/0001.html"])
def test_search_finds_a_page_of_a_site_that_is_opened_from_the_disk(site: Path, browser: Any, start: str) -> None:
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.goto((site / start).as_uri())

    opened.keyboard.press("s")  # opens the search
    opened.locator(".md-search__input").press_sequentially("adversarial distance")
    opened.wait_for_selector(".md-search-result__link", state="attached")

    found = opened.eval_on_selector_all(".md-search-result__link", "links => links.map(link => link.href)")
    assert any(link.startswith((site / "probes.html").as_uri()) for link in found)
    opened.close()


def test_a_notebook_runs_and_its_page_has_cells_and_what_they_showed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(DOCS / "site")
    notebooks = importlib.import_module("notebooks")
    source = tmp_path / "small.py"
    cells = ("# %% [markdown]\n# # Sums\n# Two numbers.", "# %%\nprint(1 + 2)", "# %%\n'a' * 3")
    source.write_text("\n\n".join(cells), encoding="utf-8")

    page = notebooks.execute(source, tmp_path / "made").read_text(encoding="utf-8")

    assert page.startswith("# Sums\nTwo numbers.\n\n```python\nprint(1 + 2)\n```\n\n```text\n3\n```")
    assert page.rstrip().endswith("```text\n'aaa'\n```")


def test_the_page_of_tables_has_every_column_of_a_study(hook: ModuleType) -> None:
    page = hook.fill("<!-- generated: study-columns -->")

    assert page.count("\n| `") == sum(len(columns) for columns in [*STUDY_COLUMNS.values(), CHECKPOINT_COLUMNS])


def test_a_figure_of_a_study_is_an_svg_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS / "site")
    written = importlib.import_module("dose_figure")
    drawn = '<svg class="figure" viewBox="0 0 350 240"><text style="fill: var(--ink)">{}</text></svg>'
    page = f'<svg></svg><section id="doses">{drawn.format("best")}{drawn.format("matched")}</section><svg></svg>'

    root = ElementTree.fromstring(written.dose_figure(page, 2))

    assert (root.tag, root.get("width"), root.get("height")) == ("{http://www.w3.org/2000/svg}svg", "350", "240")
    assert "matched" in "".join(root.itertext())
    assert all(f"--{name}: #" in "".join(root.itertext()) for name in ("ink", "muted", "line", "full", "peft"))
