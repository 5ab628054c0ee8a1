from __future__ import annotations

import pytest
from pydantic import ValidationError

from robustness.definitions.attacks import AttackDefinition, Budget, Deviation
from robustness.definitions.catalog import ATTACKS, TESTSETS


@pytest.fixture
def attack() -> AttackDefinition:
    return ATTACKS.find("deepwordbug").definition


def test_prose_leaves_the_digest_as_it_is(attack: AttackDefinition) -> None:
    prose = attack.model_copy(
        update={
            "summary": "Other words.",
            "paper": None,
            "deviations": (Deviation(against="a", what="b", why="c"),),
        }
    )

    assert prose.behaviour_digest() == attack.behaviour_digest()


def test_a_test_sets_licence_is_prose() -> None:
    definition = TESTSETS.find("sst2").definition

    assert definition.model_copy(update={"licence": "?"}).behaviour_digest() == definition.behaviour_digest()


def test_a_parameter_changes_the_digest(attack: AttackDefinition) -> None:
    changes = [
        {"budget": Budget(max_queries=5)},
        {"budget": Budget(max_queries=6)},
        {"constraints": attack.constraints[:1]},
        {"constraints": (attack.constraints[0], attack.constraints[1].model_copy(update={"characters": 31}))},
        {"transformations": attack.transformations[::-1]},
        {"search": attack.search.model_copy(update={"unknown_token": "<unk>"})},
    ]

    digests = {attack.model_copy(update=change).behaviour_digest() for change in changes}

    assert len(digests | {attack.behaviour_digest()}) == len(changes) + 1


def test_a_digest_is_sixteen_hex_digits(attack: AttackDefinition) -> None:
    digest = attack.behaviour_digest()

    assert len(digest) == 16
    assert int(digest, 16) >= 0


def test_a_definition_cannot_be_changed(attack: AttackDefinition) -> None:
    with pytest.raises(ValidationError):
        attack.summary = "Other words."  # type: ignore[misc]
