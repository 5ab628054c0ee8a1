"""Partners of sentences with a meaning representation: what is to stay stays, in sentence and gold."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness import api
from robustness.definitions.catalog import TESTSETS
from robustness.definitions.tasks import find_task
from robustness.definitions.testsets import GeneratedSet
from robustness.errors import DefinitionError
from robustness.tasks.gold import GoldSpan
from robustness.tasks.graders import grader_for
from robustness.tasks.text.meaning import parse_meaning
from robustness.testsets.example import Example
from robustness.testsets.loading import Testset, load_testset
from robustness.testsets.protection import find_protected
from robustness.testsets.text.edits import EDITS, SYNONYMS
from robustness.testsets.text.partners import keeps_values, make_partners

VIGGO = find_task("viggo")
ROWS = [
    ("Is Moon Base by Acme Ltd a good game on PC?", "confirm(name[Moon Base], developer[Acme Ltd], platforms[PC])"),
    ("I recall that Sea Dogs came out in 2003.", "inform(name[Sea Dogs], release_year[2003])"),
    ("Which game did Blue Barn make in 2011?", "request(release_year[2011], developer[Blue Barn])"),
    ("Do you like puzzle games?", "request(genres[puzzle])"),
]


def sentence(text: str, gold: str, key: str = "1") -> Example:
    golds = (GoldSpan(gold, 0),)
    return Example(f"viggo:{key}", (text,), 1, answers=golds, protected=find_protected(VIGGO, (text,), golds))


SENTENCES = [sentence(*row, key=str(number)) for number, row in enumerate(ROWS, start=1)]


def partners(generator: str, seed: int = 0, rows: list[Example] = SENTENCES) -> tuple[Example, ...]:
    made = GeneratedSet.model_validate({"generator": generator, "questions": "viggo", "seed": seed})
    return make_partners(rows, made, "made", VIGGO).examples


@pytest.mark.parametrize("seed", range(5))
def test_an_edited_sentence_keeps_gold_and_values_and_changes_something_else(seed: int) -> None:
    found = partners("edited", seed)

    assert len(found) == len(SENTENCES)
    for original, edited in zip(SENTENCES, found, strict=True):
        assert edited.original == original.texts != edited.texts
        assert edited.answers == original.answers == edited.original_answers
        for value in ("Moon Base", "Acme Ltd", "PC", "Sea Dogs", "2003", "Blue Barn", "2011", "puzzle"):
            assert (value in edited.texts[0]) == (value in original.texts[0])
        assert edited.method in EDITS


@pytest.mark.parametrize("seed", range(5))
def test_a_swapped_value_stands_in_sentence_and_gold_and_the_old_one_in_neither(seed: int) -> None:
    found = partners("counterfactual", seed)

    assert [example.id for example in found] == ["made:1", "made:2", "made:3"]  # the last has nothing to swap
    for original, swapped in zip(SENTENCES, found, strict=False):
        assert (swapped.original, swapped.original_answers) == (original.texts, original.answers)
        before, after = (parse_meaning(e.answers[0].text) for e in (original, swapped))
        assert before is not None and after is not None and before.function == after.function
        (old,), (new,) = set(before.slots) - set(after.slots), set(after.slots) - set(before.slots)
        assert old.name == new.name == swapped.method
        assert swapped.texts[0] == original.texts[0].replace(old.values[0], new.values[0])
        assert new.values[0] in {"name": ("Moon Base", "Sea Dogs"), "developer": ("Acme Ltd", "Blue Barn")}.get(
            old.name, ("2003", "2011")
        )


@pytest.mark.parametrize("generator", ["edited", "counterfactual"])
def test_partners_follow_from_the_seed_and_the_sentence(generator: str) -> None:
    text, gold = "Is {} a game that you remember or think about?", "confirm(name[{}])"
    rows = [sentence(text.format(name), gold.format(name), name) for name in ("Ab", "Cd", "Ef", "Gh", "Ij", "Kl")]

    assert partners(generator, 1, rows) == partners(generator, 1, rows)
    assert partners(generator, 1, rows) != partners(generator, 2, rows)
    assert partners(generator, 1, rows) == tuple(reversed(partners(generator, 1, rows[::-1])))


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        ("It is from 2003, as Sea Dogs 2003 is.", "inform(name[Sea Dogs 2003], release_year[2003])"),
        ("A game by Sea Dogs named Sea Dogs.", "inform(name[Sea Dogs], developer[Sea Dogs])"),
        ("The seadogs are back.", "inform(name[Sea Dogs])"),
        ("It is out.", "inform(name[], release_year[2003])"),
        ("By A and B.", "inform(developer[A, B])"),
    ],
)
def test_a_value_that_cannot_be_exchanged_alone_is_left(text: str, gold: str) -> None:
    rows = [*SENTENCES, sentence(text, gold, "odd")]

    found = [e for seed in range(8) for e in partners("counterfactual", seed, rows) if e.id == "made:odd"]

    for example in found:  # whatever else of it may be swapped
        assert example.method == "name" and "release_year[2003]" in example.answers[0].text
        assert example.texts[0].startswith("It is from 2003, as ") and "Sea Dogs" not in example.texts[0]


_TEXT = "I recall Moon Base game the PC played it, 2003 aaaa ESRB I'm"
WORDS = st.sampled_from([*_TEXT.split(), "Moon Base"])


@given(words=st.lists(WORDS, min_size=1, max_size=9), kind=st.sampled_from(list(EDITS)), seed=st.integers(0, 9))
def test_no_edit_touches_what_is_protected(words: list[str], kind: str, seed: int) -> None:
    example = sentence(" ".join(words), "inform(name[Moon Base], platforms[PC], release_year[2003])")

    edited = EDITS[kind](example, np.random.default_rng(seed))

    if edited is not None:
        assert edited.texts != example.texts
        assert keeps_values(example, edited)
        for value in ("Moon Base", "PC", "2003", *(["ESRB"] if kind == "typos" else [])):
            assert edited.texts[0].split().count(value) == example.texts[0].split().count(value) or " " in value


def test_every_edit_finds_something_to_change_in_a_plain_sentence() -> None:
    example = sentence("I recall that we played Moon Base", "inform(name[Moon Base])")
    rng = np.random.default_rng(0)

    made = {kind: edit(example, rng) for kind, edit in EDITS.items()}

    assert all(edited is not None for edited in made.values())
    texts = {kind: edited.texts[0] for kind, edited in made.items() if edited is not None}
    assert texts["case"] in ("I RECALL THAT WE PLAYED Moon Base", "i recall that we played Moon Base")
    assert texts["spacing"].split() == example.texts[0].split() and "Moon Base" in texts["spacing"]
    assert texts["synonyms"] == "I remember that we played Moon Base"


def test_synonyms_say_the_same_in_both_directions() -> None:
    assert all(SYNONYMS[synonym] == word for word, synonym in SYNONYMS.items() if synonym in SYNONYMS)
    assert not any(word == synonym for word, synonym in SYNONYMS.items())


@pytest.fixture(scope="module")
def made(shared_data: Path) -> dict[str, Testset]:
    return {name: load_testset(TESTSETS.find(f"viggo-{name}"), shared_data) for name in ("edited", "counterfactual")}


def test_partners_of_all_of_viggo_are_right_by_rule(made: dict[str, Testset]) -> None:
    grader = grader_for(VIGGO)

    assert {name: len(testset.examples) for name, testset in made.items()} == {"edited": 1_083, "counterfactual": 930}
    for testset in made.values():
        assert not any(grader.problem(form) for e in testset.examples for form in (e, e.clean_form()))
        assert min(Counter(e.method for e in testset.examples).values()) > 100
    assert all(e.answers == e.original_answers for e in made["edited"].examples)
    assert all(keeps_values(e.clean_form(), e) for e in made["edited"].examples)
    for example in made["counterfactual"].examples:
        after, before = (parse_meaning(g.text) for g in (example.answers[0], example.original_answers[0]))
        assert after is not None and before is not None
        (new,), (old,) = set(after.slots) - set(before.slots), set(before.slots) - set(after.slots)
        assert new.values[0] in example.texts[0] and example.original is not None
        assert example.texts[0].replace(new.values[0], old.values[0]) == example.original[0]


@pytest.mark.parametrize("name", ["edited", "counterfactual"])
def test_a_written_set_is_read_again_as_it_was_made(
    name: str, made: dict[str, Testset], shared_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "viggo").mkdir()
    out = tmp_path / f"viggo/{name}.jsonl"

    count = api.generate(f"viggo-{name}", out, data=shared_data)

    again = load_testset(TESTSETS.find(f"viggo-{name}"), tmp_path)
    assert count == len(again.examples)
    assert again.examples == made[name].examples
    assert (again.provenance, again.digest) == ("generated", made[name].digest)
    assert json.loads(out.read_text(encoding="utf-8").splitlines()[0])["id"] == "1"


@pytest.mark.parametrize(
    ("generator", "task", "reason"),
    [
        ("edited", "gsm8k", "the generator 'edited' is of meaning representations; the task gsm8k is not"),
        ("addansctx", "viggo", "the generator 'addansctx' is of questions; the task viggo is not"),
        ("edit", "viggo", "unknown 'edit'; did you mean 'edited'"),
    ],
)
def test_a_generator_of_another_kind_of_task_is_refused(
    generator: str, task: str, reason: str, tmp_path: Path, shared_data: Path
) -> None:
    text = f'summary = ""\nlicence = ""\ntask = "{task}"\nkind = "adversarial"\n[test.generated]\n'
    (tmp_path / "mine.toml").write_text(f'{text}generator = "{generator}"\nquestions = "{task}"\n')

    with pytest.raises(DefinitionError, match=reason):
        load_testset(TESTSETS.find(str(tmp_path / "mine.toml")), shared_data)
