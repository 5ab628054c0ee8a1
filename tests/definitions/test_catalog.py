from __future__ import annotations

from pathlib import Path

import pytest

from robustness.definitions.catalog import ATTACKS, SUITES, TESTSETS, Catalog, definitions_root
from robustness.definitions.tasks import TASKS, find_task, shipped_tasks, task_of_testset
from robustness.errors import DefinitionError

CATALOGS = {"attacks": ATTACKS, "suites": SUITES, "test sets": TESTSETS, "tasks": TASKS}


@pytest.mark.parametrize("catalog", CATALOGS.values(), ids=list(CATALOGS))
def test_every_shipped_definition_loads(catalog: Catalog) -> None:
    names = catalog.names()

    assert names
    for name in names:
        assert catalog.find(name).definition.summary.endswith(".")


def test_every_shipped_test_set_is_of_a_known_task() -> None:
    for name in TESTSETS.names():
        entry = TESTSETS.find(name)

        assert task_of_testset(entry.path, entry.definition) in shipped_tasks()


def test_the_test_set_of_a_tasks_name_is_a_clean_one_of_it() -> None:
    named = [task.name for task in shipped_tasks() if task.name in TESTSETS.names()]

    assert named == ["gsm8k", "mnli", "qnli", "qqp", "rte", "squad", "sst2", "viggo"]
    for name in named:
        definition = TESTSETS.find(name).definition
        assert (definition.task, definition.kind) == (name, "clean")


def test_every_suite_names_test_sets_and_attacks_that_ship() -> None:
    for name in SUITES.names():
        suite = SUITES.find(name).definition

        assert {*suite.testsets, *suite.evaluated} <= set(TESTSETS.names()), name
        assert set(suite.attacks) <= set(ATTACKS.names()), name


def test_no_two_shipped_definitions_of_one_kind_behave_alike() -> None:
    for catalog in (ATTACKS, SUITES, TESTSETS):  # tasks may: SNLI, ANLI and MNLI ask the same of other texts
        digests = [catalog.find(name).digest for name in catalog.names()]

        assert len(set(digests)) == len(digests), catalog.noun


@pytest.mark.parametrize(
    ("catalog", "name", "expected"),
    [
        (ATTACKS, "deepwordbugs", "unknown attack 'deepwordbugs'; did you mean 'deepwordbug'?"),
        (SUITES, "smok", "unknown suite 'smok'; did you mean 'smoke'?"),
        (TESTSETS, "advglue-sst", "unknown test set 'advglue-sst'; did you mean 'advglue-sst2'?"),
    ],
)
def test_an_unknown_name_gets_the_nearest_one(catalog: Catalog, name: str, expected: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        catalog.find(name)

    known = ", ".join(catalog.names())
    assert str(caught.value) == (
        f"{expected} Expected a shipped name or a file NAME.toml{catalog.also}; shipped: {known}"
    )


def test_what_is_no_definition_file_is_told_what_was_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "news.csv").write_text("text,label\n")
    (tmp_path / "topics.toml").write_text("")
    said = {}
    for name in ("news.csv", str(tmp_path), "topiks", "no-such-thing"):
        with pytest.raises(DefinitionError) as caught:
            TESTSETS.find(name)
        said[name] = str(caught.value)
    with pytest.raises(DefinitionError, match="topiks.toml: no such file; did you mean 'topics.toml'?"):
        TESTSETS.find("topiks.toml")

    expected = "xpected a shipped name or a file NAME.toml, which names the file of rows (docs/tasks.md); shipped: "
    assert said["news.csv"].startswith(f"test set news.csv: no TOML file; e{expected}")
    assert said[str(tmp_path)].startswith(f"test set {tmp_path}: a folder; e{expected}")
    assert said["topiks"].startswith(f"unknown test set 'topiks'; did you mean 'topics.toml'? E{expected}")
    assert said["no-such-thing"].startswith(f"unknown test set 'no-such-thing'; e{expected}")


@pytest.mark.parametrize("name", ["", "../attacks/deepwordbug", "testsets/sst2", "DEEPWORDBUG", "deepwordbug "])
def test_a_name_is_no_path(name: str) -> None:
    with pytest.raises(DefinitionError, match="unknown attack"):
        ATTACKS.find(name)


def test_a_file_of_ones_own_goes_by_its_stem(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((definitions_root() / "attacks" / "identity.toml").read_text())

    entry = ATTACKS.find(str(path))

    assert (entry.name, entry.path) == ("mine", path)
    assert entry.digest == ATTACKS.find("identity").digest


def test_a_file_of_ones_own_may_not_reuse_a_shipped_name(tmp_path: Path) -> None:
    path = tmp_path / "deepwordbug.toml"
    path.write_text((definitions_root() / "attacks" / "deepwordbug.toml").read_text())

    with pytest.raises(DefinitionError, match=r"'deepwordbug' is taken by a shipped attack; rename the file"):
        ATTACKS.find(str(path))


def test_a_name_taken_by_another_kind_of_definition_is_free(tmp_path: Path) -> None:
    path = tmp_path / "smoke.toml"
    path.write_text((definitions_root() / "attacks" / "identity.toml").read_text())

    assert ATTACKS.find(str(path)).name == "smoke"


def test_an_unknown_task_gets_the_nearest_one() -> None:
    with pytest.raises(DefinitionError, match=r"unknown task 'sst-2'; did you mean 'sst2'\?"):
        find_task("sst-2")
