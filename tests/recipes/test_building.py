from __future__ import annotations

import inspect
import pickle
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustness import Access, Example
from robustness.definitions.catalog import ATTACKS
from robustness.engine.attack import Attack, Search
from robustness.engine.named_attack import GradientAttack
from robustness.errors import AttackError, DataError, DefinitionError, UsageError
from robustness.recipes import building
from robustness.recipes.building import digest_recipe, find_attack, find_recipe, name_attack
from robustness.tasks.objective import Objective

SHOUT = '''
from robustness import Access

class Shout:
    """Upper-cases every word."""
    access = Access.SCORES

    def search(self, example, rng):
        for i in range(len(example.words)):
            candidate = example.replace_word(i, example.words[i].upper())
            answer = yield [candidate]
            if answer.reached[0]:
                return candidate
        return example

class NoAccess:
    def search(self, example, rng):
        yield [example]

class NoSearch:
    access = Access.SCORES

class NotAGenerator:
    access = Access.SCORES
    def search(self, example, rng):
        return example

class NeedsArguments:
    access = Access.SCORES
    def __init__(self, size):
        self.size = size
    def search(self, example, rng):
        yield [example]

class identity(Shout):
    pass
'''


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "my_attack.py"
    path.write_text(SHOUT)
    return path


@pytest.mark.parametrize("name", ATTACKS.names())
def test_every_shipped_recipe_can_be_built(name: str) -> None:
    try:
        attack = find_attack(name)
    except DataError as missing:
        pytest.skip(str(missing))

    assert isinstance(attack.attack, Attack | GradientAttack)
    assert len(attack.digest) == 16


def test_a_users_class_is_found_by_file_and_name(mine: Path) -> None:
    attack = find_attack(f"{mine}:Shout")

    assert attack.name == "my_attack.py:Shout"
    assert attack.family == "custom"


DATACLASS = """
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robustness import Access

@dataclass
class Repeat:
    access: ClassVar[Access] = Access.SCORES
    count: int = 2

    def search(self, example, rng):
        yield [example] * self.count
        return example
"""


def test_a_users_file_may_have_dataclasses_with_postponed_annotations(tmp_path: Path) -> None:
    path = tmp_path / "repeat.py"
    path.write_text(DATACLASS)

    attack = find_attack(f"{path}:Repeat").attack

    assert repr(attack) == "Repeat(count=2)"


def test_users_files_of_one_name_are_modules_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And none of one that a file imports."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "custom_repeat.py").write_text("COUNT = 5")
    for name, count in (("one", "COUNT"), ("two", "3")):
        (tmp_path / name).mkdir()
        written = DATACLASS.replace("count: int = 2", f"count: int = {count}")
        written = written.replace(
            "from robustness import Access", "from robustness import Access\nfrom custom_repeat import COUNT"
        )
        (tmp_path / name / "repeat.py").write_text(written)

    one, two = (find_attack(f"{tmp_path / name / 'repeat.py'}:Repeat").attack for name in ("one", "two"))

    assert (one.count, two.count) == (5, 3)
    assert "count: int = COUNT" in inspect.getsource(type(one))
    assert pickle.loads(pickle.dumps(one)) == one


def test_a_file_that_cannot_be_imported_leaves_no_module(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("raise SystemExit")
    before = set(sys.modules)

    with pytest.raises(UsageError, match="cannot be imported: SystemExit"):
        find_attack(f"{path}:Any")
    assert set(sys.modules) == before


def test_an_edited_attack_is_another_attack(mine: Path) -> None:
    before = find_attack(f"{mine}:Shout").digest
    mine.write_text(SHOUT.replace("upper", "title"))

    assert find_attack(f"{mine}:Shout").digest != before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NoAccess", "access"),
        ("NoSearch", "search"),
        ("NotAGenerator", "yields"),
        ("NeedsArguments", "without arguments"),
    ],
)
def test_a_class_that_breaks_the_protocol_is_refused_with_what_is_missing(
    mine: Path, name: str, message: str
) -> None:
    with pytest.raises(AttackError, match=message):
        find_attack(f"{mine}:{name}")


def test_wrong_references_are_refused(mine: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import does_not_exist_anywhere")

    with pytest.raises(UsageError, match="has no Shoot"):
        find_attack(f"{mine}:Shoot")
    with pytest.raises(UsageError, match="no file"):
        find_attack(f"{tmp_path / 'missing.py'}:Shout")
    with pytest.raises(UsageError, match=r"expected file\.py:Name"):
        find_attack(str(mine))
    with pytest.raises(UsageError, match="cannot be imported"):
        find_attack(f"{broken}:Shout")
    with pytest.raises(DefinitionError, match="did you mean 'deepwordbug'"):
        find_attack("deepwordbugs")


def test_a_python_object_may_not_take_a_shipped_name() -> None:
    class Mine:
        access = Access.SCORES

        def search(self, example: Example, rng: np.random.Generator) -> Search:
            yield [example]
            return example

    Mine.__qualname__ = "deepwordbug"
    with pytest.raises(AttackError, match="taken by a shipped attack"):
        name_attack(Mine)


def test_a_users_recipe_file_is_an_attack(tmp_path: Path) -> None:
    recipe = tmp_path / "swaps.toml"
    recipe.write_text(
        'summary = "Only swaps."\nfamily = "character"\naccess = "scores"\n'
        '[search]\nkind = "random-order"\npasses = 1\n'
        '[[transformations]]\nkind = "swap-neighbours"\n[budget]\nmax_queries = 3\n'
    )

    attack = find_attack(str(recipe))

    assert (attack.name, attack.max_queries, attack.family) == ("swaps", 3, "character")


def test_an_installed_package_offers_attacks_through_its_entry_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shouting.py").write_text(SHOUT)
    package = tmp_path / "shouting-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[robustness.attacks]\nshout = shouting:Shout\n")
    monkeypatch.syspath_prepend(tmp_path)

    attack = find_attack("shout")

    assert (attack.name, attack.family) == ("shout", "custom")
    with pytest.raises(DefinitionError, match="unknown attack 'whisper'"):
        find_attack("whisper")


def test_a_white_box_class_needs_a_norm_and_perturb() -> None:
    class Mine:
        access = Access.GRADIENTS
        norm = "l2"

        def perturb(self, victim: Any, examples: Any, generators: Any) -> Any:
            return None

    class NoNorm(Mine):
        norm = "l7"

    class NoMethod:
        access = Access.GRADIENTS
        norm = "l2"

    assert name_attack(Mine).attack.access is Access.GRADIENTS
    with pytest.raises(AttackError, match="set norm = 'l2'"):
        name_attack(NoNorm)
    with pytest.raises(AttackError, match="perturb"):
        name_attack(NoMethod)


@dataclass(frozen=True, slots=True)
class Repeat:
    count: int
    words: frozenset[str] = frozenset({"film", "plot", "song"})
    access: Access = Access.SCORES

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        yield [example] * self.count
        return example


def test_instances_with_other_parameters_are_other_attacks() -> None:
    two, again, three = (name_attack(Repeat(count)).digest for count in (2, 2, 3))

    assert two == again != three


def test_what_an_attacks_own_code_raises_while_it_is_made_is_told(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine.write_text(SHOUT + "\nclass Broken(Shout):\n    def __init__(self):\n        open('no/such/list')\n")
    plugin = EntryPoint("broken-plugin", "no_such_package:Attack", "robustness.attacks")
    monkeypatch.setattr(building, "entry_points", lambda group, name: [plugin])

    with pytest.raises(AttackError, match="could not be made without arguments: FileNotFoundError"):
        find_attack(f"{mine}:Broken")
    with pytest.raises(AttackError, match="plug-in no_such_package:Attack cannot be imported: ModuleNotFoundError"):
        find_attack("broken-plugin")


def test_the_weights_of_a_model_of_ones_own_are_part_of_the_digest(tmp_path: Path) -> None:
    recipe, weights = tmp_path / "mine.toml", tmp_path / "model" / "model.safetensors"
    recipe.write_text(
        'summary = "Replaces words by what a model of mine puts there."\npaper = "none"\nfamily = "word"\n'
        'access = "scores"\n[search]\nkind = "greedy-deletion-ranking"\n[[transformations]]\n'
        f'kind = "masked-replacements"\nmodel = "{weights.parent}"\ncount = 5\ncontext = "clean"\n'
    )
    entry = find_recipe(str(recipe))
    assert digest_recipe(entry) == entry.digest
    weights.parent.mkdir()
    digests = []
    for content in (b"one", b"another"):
        weights.write_bytes(content)
        digests.append(digest_recipe(entry))

    assert len({entry.digest, *digests}) == 3


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("embedding-ball", 'method = "fgsm"\nnorm = "l2"\nradii = [1.0]\n'),
        ("embedding-minimal", 'method = "ddn"\nnorm = "l2"\nsteps = 1\n'),
        (
            "token-distributions",
            "steps = 1\nsamples = 1\ndraws = 1\nstep_size = 1.0\ntemperature = 1.0\nmargin = 1.0\nstart = 1.0\n",
        ),
    ],
)
def test_a_kept_prediction_is_refused_where_the_search_ignores_it(kind: str, keys: str, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    head, search = (
        'summary = "s"\nfamily = "embedding"\naccess = "gradients"\n',
        f'[search]\nkind = "{kind}"\n{keys}',
    )
    recipe.write_text(f"{head}{search}")
    assert find_attack(str(recipe)).objective == Objective()
    recipe.write_text(f'{head}goal = "keep-prediction"\nwords_left = 1\n{search}')

    with pytest.raises(DefinitionError) as refused:
        find_attack(str(recipe))

    assert str(refused.value) == f"{recipe} [search]: kind {kind} ignores goal and words_left; leave them out"


def test_a_mistyped_key_of_a_part_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an asset was looked for")

    monkeypatch.setattr("robustness.recipes.parts.find_asset", refuse)
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'summary = "s"\nfamily = "word"\naccess = "scores"\n[search]\nkind = "random-order"\npasses = 1\n'
        '[[transformations]]\nkind = "nearest-neighbours"\ncounts = 3\n'
    )

    with pytest.raises(DefinitionError) as refused:
        find_attack(str(recipe))

    assert str(refused.value) == (
        f"{recipe} [transformations.#1.nearest-neighbours]: unknown key 'counts'; did you mean 'count'?"
    )
