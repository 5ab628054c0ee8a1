"""What recipe files may say of embedding attacks, beyond what the shipped ones do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from robustness import Example
from robustness.definitions.attacks import AttackDefinition
from robustness.definitions.reading import read_definition
from robustness.engine.outcome import Status
from robustness.errors import AttackError, DefinitionError
from robustness.recipes.assets.resources import Resources
from robustness.recipes.building import find_recipe
from robustness.recipes.embedding.attack import Smallest, WithinRadii
from robustness.recipes.embedding.ball_attacks import Apgd, Fgsm, Pgd
from robustness.recipes.embedding.balls import Norm
from robustness.recipes.embedding.minimal_norm import Ddn, Fmn
from robustness.recipes.embedding.recipe import EmbeddingRecipe
from robustness.recipes.embedding.trial import Loss
from robustness.recipes.parts import build_attack, check_parts
from robustness.victims.toy_models import toy_victims

BALL = 'kind = "embedding-ball"\nnorm = "l2"\nradii = [0.5]\nsteps = 4\n'
MINIMAL = 'kind = "embedding-minimal"\nnorm = "l2"\nsteps = 4\n'


def read(folder: Path, search: str) -> AttackDefinition:
    """Reads a recipe and checks its parts."""
    path = folder / "mine.toml"
    head = 'summary = "Mine."\nfamily = "embedding"\naccess = "gradients"\n[search]\n'
    path.write_text(head + search, encoding="utf-8")
    return check_parts(read_definition(path, AttackDefinition), str(path))


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        (BALL + 'method = "fgsm"\nloss = "cross-entropy"', Fgsm(Norm.L2, Loss.CROSS_ENTROPY)),
        (
            BALL + 'method = "pgd"\nrestarts = 3\nstep_size = 0.1\nrandom_start = false\nloss = "dlr"',
            Pgd(Norm.L2, steps=4, step_size=0.1, restarts=3, random_start=False, loss=Loss.DLR),
        ),
        (BALL + 'method = "pgd"', Pgd(Norm.L2, steps=4)),
        (BALL + 'method = "apgd"\nrestarts = 2\nloss = "dlr"', Apgd(Norm.L2, steps=4, restarts=2, loss=Loss.DLR)),
        (
            MINIMAL + 'method = "ddn"\ngamma = 0.1\ninitial_radius = 1.0\nbisections = 0\nloss = "cross-entropy"',
            Ddn(steps=4, gamma=0.1, initial_radius=1.0, bisections=0, loss=Loss.CROSS_ENTROPY),
        ),
        (
            MINIMAL + 'method = "fmn"\ngamma = 0.1\nstep_size = 1.0\nbisections = 0',
            Fmn(Norm.L2, steps=4, gamma=0.1, step_size=1.0, bisections=0),
        ),
    ],
)
def test_options_reach_the_attack(tmp_path: Path, search: str, expected: Any) -> None:
    attack = build_attack(read(tmp_path, search), Resources())

    assert isinstance(attack, EmbeddingRecipe)
    assert isinstance(attack.method, WithinRadii | Smallest)
    assert attack.method.method == expected


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (BALL + 'method = "fgsm"\nrestarts = 2', "restarts is an option of .*pgd.*, not of fgsm"),
        (BALL + 'method = "apgd"\nstep_size = 0.1', "step_size is an option of pgd, not of apgd"),
        (BALL + 'method = "pgd"\nrestarts = 0', "restarts"),
        (BALL + 'method = "pgd"\nloss = "ce"', "loss"),
        (MINIMAL + 'method = "fmn"\nloss = "dlr"', "loss is an option of ddn, not of fmn"),
        (MINIMAL + 'method = "ddn"\nstep_size = 0.1', "step_size is an option of fmn, not of ddn"),
        (MINIMAL + 'method = "ddn"\ngamma = 1.5', "gamma"),
        (BALL.replace("[0.5]", "[0.5, 0.5]") + 'method = "pgd"', r"\[search\]: radii must grow"),
    ],
)
def test_an_option_that_does_not_apply_is_refused(tmp_path: Path, search: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        build_attack(read(tmp_path, search), Resources())


def test_an_option_left_out_is_no_part_of_a_digest(tmp_path: Path) -> None:
    """The digest seeds every search: options that came later leave the shipped recipes' outcomes as they were."""
    plain = read(tmp_path, BALL + 'method = "pgd"').behaviour_digest()

    assert read(tmp_path, BALL + 'method = "pgd"\nrestarts = 2').behaviour_digest() != plain
    given = find_recipe("pgd").definition.search.model_dump()
    assert given == {
        "kind": "embedding-ball",
        "method": "pgd",
        "norm": "l2",
        "radii": (0.05, 0.1, 0.2, 0.4, 0.8),
        "steps": 20,
    }


def test_dlr_with_two_labels_errs_with_what_to_do_and_runs_with_three(tmp_path: Path) -> None:
    attack = build_attack(read(tmp_path, BALL + 'method = "apgd"\nloss = "dlr"'), Resources())
    two, three = toy_victims(0)
    statuses = []
    for victim in (two, three):
        label = int(victim.scores([("the film is good",)])[0].argmax())
        (outcome,) = attack.run(victim, [Example("0", ("the film is good",), label)], seed=0, digest="x")  # type: ignore[union-attr]
        statuses.append((outcome.status, outcome.error))

    assert statuses[0] == (
        Status.ERRORED,
        "loss dlr: needs at least 3 labels, the task has 2; use loss margin",
    )
    assert statuses[1][0] in (Status.SUCCEEDED, Status.FAILED) and statuses[1][1] is None


def test_a_query_budget_that_nothing_would_keep_is_refused(tmp_path: Path) -> None:
    definition = read(tmp_path, BALL + 'method = "pgd"\n[budget]\nmax_queries = 5')

    with pytest.raises(AttackError, match=r"\[budget\].*its steps are its budget"):
        build_attack(definition, Resources())
