from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_study import write_study

from robustness.definitions.studies import STUDIES, find_study
from robustness.errors import CheckpointError, DefinitionError
from robustness.studies.checking import check_design
from robustness.studies.design import Design, resolve
from robustness.studies.digests import FileDigests
from robustness.studies.graph import Kind, build_graph
from robustness.training.defences import Defence, FreeLb
from robustness.training.methods import METHODS_FOLDER


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("design")
    write_study(folder)
    return folder


def _refusal(place: Path, *, checked: bool = False, **changes: str) -> str:
    file = write_study(place, **changes)  # type: ignore[arg-type]
    with pytest.raises((DefinitionError, CheckpointError)) as caught:
        design = resolve(find_study(str(file)), None)
        if checked:
            check_design(design)
    return str(caught.value).replace(str(file), "F")


def _resolve(place: Path, **changes: str) -> Design:
    return resolve(find_study(str(write_study(place, **changes))), None)  # type: ignore[arg-type]


def test_lists_of_parameters_give_every_combination_under_short_names(place: Path) -> None:
    design = _resolve(place, methods='["full", "bitfit", { method = "lora", rank = [1, 2], dropout = [0.0, 0.1] }]')

    assert [each.name for each in design.variants] == [
        "full",
        "bitfit",
        "lora-r1-dropout-0.0",
        "lora-r1-dropout-0.1",
        "lora-r2-dropout-0.0",
        "lora-r2-dropout-0.1",
    ]


def test_a_rank_of_a_study_keeps_alpha(place: Path) -> None:
    design = _resolve(place, methods='["full", { method = "lora", rank = [1, 2] }]')

    adapters = [each.method.definition.adapter for each in design.variants[1:]]
    assert [(each.rank, each.alpha) for each in adapters] == [(1, 16), (2, 16)]  # type: ignore[union-attr]


def test_defences_stand_behind_the_parameters_and_make_families_of_their_own(place: Path) -> None:
    methods = '["full", "lora", "lora+freelb", { method = "lora+freelb+deepwordbug", rank = [1, 2] }, "full+freelb"]'
    design = _resolve(place, methods=methods)

    found = {each.name: (each.family, each.defence) for each in design.variants}
    both = Defence(is_adversarial=True, recipe="deepwordbug")
    assert found == {
        "full": ("full", Defence()),
        "lora": ("lora", Defence()),
        "lora+freelb": ("lora+freelb", Defence(is_adversarial=True)),
        "lora-r1+deepwordbug+freelb": ("lora+deepwordbug+freelb", both),
        "lora-r2+deepwordbug+freelb": ("lora+deepwordbug+freelb", both),
        "full+freelb": ("full+freelb", Defence(is_adversarial=True)),
    }
    assert [each.name for each in design.checkpoints if each.is_reference] == ["tiny-full-seed0", "tiny-full-seed1"]
    freelb = {each.variant.name: each.settings.adversarial for each in design.checkpoints}
    assert {name for name, settings in freelb.items() if settings == FreeLb()} == set(found) - {"full", "lora"}


def test_a_study_sets_freelb_for_the_methods_that_have_it(place: Path) -> None:
    design = _resolve(
        place,
        methods='["full", "lora+freelb"]',
        training='adversarial = "freelb:radius=0.2,steps=2"\nreport_limit = 8',
    )

    found = {each.variant.name: each.settings for each in design.checkpoints}
    assert found["full"].adversarial is None
    assert found["lora+freelb"].adversarial == FreeLb(steps=2, radius=0.2)
    assert {settings.report_limit for settings in found.values()} == {8}


def test_a_defence_follows_a_methods_file(place: Path) -> None:
    shutil.copy(METHODS_FOLDER / "bitfit.toml", place / "mine.toml")

    design = _resolve(place, methods='["full", "mine.toml+freelb"]')

    assert [each.name for each in design.variants] == ["full", "mine+freelb"]


def test_a_defence_is_part_of_the_protocol_and_leaves_plain_trainings_as_they_are(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def named(methods: str) -> tuple[str, dict[str, str]]:
        graph = build_graph(_resolve(place, methods=methods), FileDigests(tmp_path))
        return graph.protocol_digest, {job.name: job.id for job in graph.jobs if job.kind is Kind.TRAIN}

    plain, ids = named('["full", "lora"]')
    both, all_ids = named('["full", "lora", "lora+freelb", "lora+deepwordbug"]')

    assert plain != both
    assert {name: key for name, key in all_ids.items() if "+" not in name} == ids
    assert len(set(all_ids.values())) == 8
    monkeypatch.setattr("robustness.studies.digests.digest_recipe", lambda _entry: "another recipe")
    other, other_ids = named('["full", "lora", "lora+freelb", "lora+deepwordbug"]')
    assert other != both
    changed = {name for name, key in other_ids.items() if key != all_ids[name]}
    assert changed == {"tiny-lora+deepwordbug-seed0", "tiny-lora+deepwordbug-seed1"}


def test_lists_of_rows_give_groups_of_their_own(place: Path) -> None:
    design = _resolve(place, more="rows = [16, 32]")

    assert [group.label for group in design.groups] == ["tiny-n16", "tiny-n32"]
    assert [run.name for run in design.runs] == ["tiny-n16-best-letters", "tiny-n32-best-letters"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"methods": '["full", { method = "lora", rnk = 2 }]'},
            "F [methods.#2]: unknown key 'rnk'; did you mean 'rank'",
        ),
        ({"methods": '["full", { method = "lora", rank = 0 }]'}, "F [methods.#2]: key 'rank': expected more than 0"),
        ({"methods": '["full", { method = "bitfit", rank = 2 }]'}, "F [methods.#2]: unknown key 'rank'"),
        ({"methods": '[{ method = "full", rank = 2 }]'}, "F [methods.#1]: 'full' has no adapter"),
        ({"methods": '["full", { method = "lora", rank = [] }]'}, "F [methods.#2]: key 'rank': a list without"),
        ({"methods": '["full", "loro"]'}, "F: key 'methods': unknown method 'loro'; did you mean 'lora'?"),
        ({"methods": '["lora"]'}, "F: key 'methods': 'full' is missing"),
        ({"methods": '["full+freelb", "lora"]'}, "F: key 'methods': 'full' is missing"),
        (
            {"methods": '["full", "lora+"]'},
            "F: key 'methods': lora+: expected a method, then at most one recipe and freelb",
        ),
        ({"methods": '["full", "loro+freelb"]'}, "F: key 'methods': unknown method 'loro'; did you mean 'lora'?"),
        (
            {"methods": '["full", "lora+deepwordbugs"]'},
            "F: key 'methods': unknown attack 'deepwordbugs'; did you mean",
        ),
        ({"methods": '["full", "lora+pgd"]'}, "F: key 'methods': pgd: expected a recipe that changes words by rule"),
        (
            {"methods": '["full", "lora+freelb", { method = "lora+freelb", rank = 8 }]'},
            "F: key 'methods': 'lora+freelb' and 'lora-r8+freelb' are one method, trained twice",
        ),
        ({"methods": '["full", "lora", "lora"]'}, "F: key 'methods': 'lora' is given twice"),
        (
            {"methods": '["full", "lora", { method = "lora", rank = 8 }]'},
            "F: key 'methods': 'lora' and 'lora-r8' are one method, trained twice",
        ),
        ({"methods": '["full"]', "seeds": "[0]"}, "F: key 'seeds': one seed of full fine-tuning has nothing"),
        ({"seeds": "[0, 0]"}, "F: key 'seeds': 0 is given twice"),
        ({"seeds": "[-1]"}, "F [seeds]: key 0: expected at least 0"),
        ({"suites": '["lettres.toml"]'}, "lettres.toml: no such file; did you mean 'letters.toml'?"),
        ({"suites": '["smoak"]'}, "F: key 'suites': unknown suite 'smoak'; did you mean 'smoke'?"),
        ({"suites": '["letters.toml", "advsquad"]'}, "F: key 'suites': advsquad has no test set of the task sst2"),
        ({"more": "rowz = [2]"}, "F: unknown key 'rowz'; did you mean 'rows'?"),
        ({"more": 'match = "cleen"'}, "F: key 'match': unknown 'cleen'; did you mean 'clean'?"),
        ({"more": "limit = 0"}, "F: key 'limit': expected more than 0"),
        ({"epochs": "0"}, "F [training]: key 'epochs': expected more than 0; got 0"),
        ({"epochs": "true"}, "F [training]: key 'epochs': expected a whole number; got True"),
        ({"training": "report_limit = 0"}, "F [training]: key 'report_limit': expected more than 0; got 0"),
        (
            {"training": 'adversarial = "freelb:radios=0.2"'},
            "F [training]: adversarial freelb:radios=0.2: unknown key 'radios'; did you mean 'radius'?",
        ),
        ({"training": 'adversarial = "pgd"'}, "F [training]: adversarial pgd: expected freelb"),
        ({"training": 'adversarial = "freelb:steps=0"'}, "F [training]: freelb: steps is 0; expected 1 or more"),
    ],
)
def test_a_file_that_is_no_study_is_refused_with_its_key(place: Path, changes: dict[str, str], said: str) -> None:
    assert said in _refusal(place, **changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"more": "rows = [16, 65]"}, "F: key 'rows': 65 is more than the 64 training rows of tiny; give at most 64"),
        (
            {"methods": '["full", { method = "lora", rank = 33 }]'},
            "lora-r33: rank 33 is above the size of the matrix encoder.layer.0.attention.self.query, 32; give at",
        ),
    ],
)
def test_what_the_base_and_the_rows_tell_is_refused_before_a_training(
    place: Path, changes: dict[str, str], said: str
) -> None:
    assert said in _refusal(place, checked=True, **changes)


def test_a_base_that_is_not_there_or_cannot_serve_a_task_is_refused(place: Path) -> None:
    file = write_study(place)
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('base = "base"', 'base = "bass"'), encoding="utf-8")

    with pytest.raises(CheckpointError, match="key 'base': no folder bass"):
        resolve(find_study(str(file)), None)
    file.write_text(text.replace("tiny.toml", "viggo").replace("letters.toml", "generation"), encoding="utf-8")
    with pytest.raises(
        DefinitionError, match="viggo is answered with responses of a language model, which the base of type 'bert'"
    ):
        check_design(resolve(find_study(str(file)), None))


@pytest.mark.parametrize("name", STUDIES.names())
def test_a_shipped_study_is_valid_and_says_what_alpha_does(name: str) -> None:
    study = STUDIES.find(name).definition

    varied = [each for each in study.methods if "rank" in each.parameters]
    assert study.summary
    assert bool(varied) == any("Alpha stays" in each.what for each in study.deviations)
