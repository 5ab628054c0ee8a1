"""TextAttack's own searches through our scheduler, beside TextAttack's own run of them; needs NLTK's data."""

from __future__ import annotations

import csv
import gc
import os
import random
import subprocess
import sys
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from greenlet import greenlet

import robustness
from robustness import BudgetExhausted, Example, RobustnessError, RunSettings, Status
from robustness.engine.attack import Answer, ScoreRows
from robustness.engine.named_attack import NamedAttack
from robustness.engine.outcome import Outcome
from robustness.engine.scheduler import Scheduler
from robustness.engine.seeding import example_generator
from robustness.errors import AttackError, DataError, DefinitionError
from robustness.recipes.assets.resources import Resources
from robustness.recipes.building import find_attack
from robustness.recipes.textattack import catalogue as textattack_catalogue
from robustness.recipes.textattack.catalogue import NEEDS, UNFIT, check_recipes, wrap_textattack
from robustness.recipes.textattack.importing import FLAIR_INSTALL, Missing, has_flair
from robustness.testsets.example import Texts

SEED = 3
WORDS = {"SuccessfulAttackResult": "succeeded", "FailedAttackResult": "failed"}

pytestmark = pytest.mark.usefixtures("textattack")


class LetterVictim:
    """A linear model of letter pairs over all segments: every edit moves its scores, and many flip its answer."""

    def __init__(self) -> None:
        self._weights = np.random.default_rng(5).normal(size=(997, 2))

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        return np.stack([self._score("\n".join(text)) for text in texts]).astype(np.float32)

    def _score(self, text: str) -> Any:
        pairs = [(ord(a) * 31 + ord(b)) % 997 for a, b in pairwise(text)]
        return self._weights[pairs].sum(axis=0) / 8  # no probability near 1, which would round


class DirectWrapper:
    """The same victim as TextAttack calls it."""

    model = None

    def __call__(self, texts: list[Any]) -> Any:
        return LetterVictim().scores([(t,) if isinstance(t, str) else t for t in texts])


@pytest.fixture(scope="module")
def examples(shared_data: Path) -> list[Example]:
    with (shared_data / "glue/SST-2/dev.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    sentences = [row["sentence"].strip() for row in rows]
    return label([(s,) for s in sentences if len(s) < 120][:40])


def label(texts: Sequence[Texts], attacked: tuple[int, ...] = (0,)) -> list[Example]:
    """Examples that the victim gets right."""
    predictions = LetterVictim().scores(texts).argmax(axis=1)
    return [
        Example(str(i), text, int(y), attacked=attacked)
        for i, (text, y) in enumerate(zip(texts, predictions, strict=True))
    ]


def run(attack: NamedAttack, examples: Sequence[Example], *, width: int = 256) -> dict[str, Outcome]:
    return {o.example_id: o for o in Scheduler(attack, LetterVictim(), seed=SEED, width=width).run(examples)}


def build_own(recipe: str) -> Any:
    import textattack

    return getattr(textattack.attack_recipes, recipe).build(DirectWrapper())


def run_textattack(own: Any, attack: NamedAttack, example: Example) -> Any:
    """TextAttack's own run, from the random numbers that our engine gives the example."""
    seed = int(example_generator(SEED, attack.digest, example.id).integers(2**32))
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    text: Any = example.texts[0]
    if len(example.texts) == 2:
        text = OrderedDict(zip(("premise", "hypothesis"), example.texts, strict=True))
    return own.attack(text, example.label)


@pytest.mark.parametrize(
    ("recipe", "count", "longest"),
    [("DeepWordBugGao2018", 40, 120), ("PWWSRen2019", 40, 120), ("Pruthi2019", 30, 60), ("LEAP2023", 5, 40)],
)
def test_outcomes_are_those_of_textattacks_own_run(
    examples: list[Example], recipe: str, count: int, longest: int
) -> None:
    chosen = [example for example in examples if len(example.texts[0]) < longest][:count]
    attack = find_attack(f"textattack:{recipe}")

    outcomes = run(attack, chosen)

    assert len(chosen) >= min(count, 5)
    for example in chosen:
        theirs = run_textattack(build_own(recipe), attack, example)
        outcome = outcomes[example.id]
        assert outcome.error is None
        assert outcome.adversarial_text == (theirs.perturbed_result.attacked_text.text,), example.texts
        assert outcome.status == WORDS[type(theirs).__name__], example.texts
        assert outcome.queries <= theirs.num_queries - 1  # theirs counts the clean text
    assert "succeeded" in {outcome.status for outcome in outcomes.values()}


def test_queries_are_textattacks_but_for_the_clean_text(examples: list[Example]) -> None:
    attack = find_attack("textattack:PWWSRen2019")

    outcomes = run(attack, examples[:10])

    for example in examples[:10]:
        assert (
            outcomes[example.id].queries == run_textattack(build_own("PWWSRen2019"), attack, example).num_queries - 1
        )


@pytest.mark.parametrize("recipe", ["DeepWordBugGao2018", "PWWSRen2019"])
def test_outcomes_depend_neither_on_width_nor_on_order(examples: list[Example], recipe: str) -> None:
    attack = find_attack(f"textattack:{recipe}")

    alone, few, many = (run(attack, examples[:20], width=width) for width in (1, 7, 256))
    backwards = run(attack, examples[19::-1], width=7)

    def essence(outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
        return {name: replace(outcome, seconds=0.0) for name, outcome in outcomes.items()}

    assert essence(alone) == essence(few) == essence(many) == essence(backwards)


def test_the_global_generators_are_left_as_they_were(examples: list[Example]) -> None:
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    expected = (random.random(), np.random.rand(), torch.rand(1).item())
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)

    outcomes = run(find_attack("textattack:DeepWordBugGao2018"), examples[:5], width=2)
    search = find_attack("textattack:DeepWordBugGao2018").attack.search(examples[0], np.random.default_rng(0))
    next(search)
    search.close()

    assert len(outcomes) == 5
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


@pytest.mark.parametrize("recipe", ["DeepWordBugGao2018", "PWWSRen2019"])
def test_a_closed_premise_stays_as_it_is(examples: list[Example], recipe: str) -> None:
    """PWWS has no rule about premises, so there its own run is no reference."""
    texts = [(a.texts[0], b.texts[0]) for a, b in pairwise(examples[:12])]
    pairs = label(texts, attacked=(1,))
    attack = find_attack(f"textattack:{recipe}")

    outcomes = run(attack, pairs)

    for pair in pairs:
        adversarial = outcomes[pair.id].adversarial_text
        assert adversarial is not None
        assert adversarial[0] == pair.texts[0]
        assert outcomes[pair.id].error is None
    assert Status.SUCCEEDED in {outcome.status for outcome in outcomes.values()}


def test_pairs_go_as_textattacks_own_where_it_has_a_rule(examples: list[Example]) -> None:
    import textattack

    def build() -> Any:
        attack = build_own("PWWSRen2019")
        rule = textattack.constraints.pre_transformation.InputColumnModification(
            ["premise", "hypothesis"], {"premise"}
        )
        attack.pre_transformation_constraints.append(rule)
        return attack

    pairs = label([(a.texts[0], b.texts[0]) for a, b in pairwise(examples[:10])], attacked=(1,))
    attack = wrap_textattack(build(), Resources.of(), name="pairs")
    outcomes = run(attack, pairs)
    for pair in pairs:
        theirs = run_textattack(build(), attack, pair)

        assert outcomes[pair.id].adversarial_text == theirs.perturbed_result.attacked_text.tokenizer_input


def test_an_open_premise_and_a_closed_second_segment_are_respected(examples: list[Example]) -> None:
    texts = [(a.texts[0], b.texts[0]) for a, b in pairwise(examples[:8])]
    attack = find_attack("textattack:PWWSRen2019")

    first_open = run(attack, label(texts, attacked=(0,)))
    both_open = run(attack, label(texts, attacked=(0, 1)))

    assert all(
        o.adversarial_text is not None and o.adversarial_text[1] == t[1] for o, t in zip_by_id(first_open, texts)
    )
    changed = {
        i
        for o, t in zip_by_id(both_open, texts)
        for i in (0, 1)
        if o.adversarial_text and o.adversarial_text[i] != t[i]
    }
    assert changed == {0, 1}


def zip_by_id(outcomes: dict[str, Outcome], texts: Sequence[Texts]) -> list[tuple[Outcome, Texts]]:
    return [(outcomes[str(number)], text) for number, text in enumerate(texts)]


def test_a_spent_budget_ends_at_the_best_real_candidate(examples: list[Example]) -> None:
    """Never at a text with hidden words, which TextAttack asks about only to rank them."""
    attack = find_attack("textattack:PWWSRen2019")
    free = run(attack, examples[:20])

    for budget in (0, 5, 20, 40):
        limited = run(replace(attack, max_queries=budget), examples[:20])
        for outcome in limited.values():
            assert outcome.error is None
            assert outcome.queries <= budget
            assert outcome.adversarial_text is not None and "[UNK]" not in outcome.adversarial_text[0]
            if free[outcome.example_id].queries <= budget:
                assert replace(outcome, seconds=0) == replace(free[outcome.example_id], seconds=0)
        if budget == 0:
            assert all(o.adversarial_text == o.original_text for o in limited.values())
        if budget == 40:
            assert any(o.adversarial_text != o.original_text for o in limited.values())


def count_greenlets() -> int:
    gc.collect()
    return sum(isinstance(item, greenlet) and bool(item) for item in gc.get_objects())


@pytest.mark.parametrize("end", ["close", "budget"])
def test_a_search_that_ends_early_leaves_no_greenlet(examples: list[Example], end: str) -> None:
    attack = find_attack("textattack:DeepWordBugGao2018").attack
    before = count_greenlets()
    search: Any = attack.search(examples[0], np.random.default_rng(0))
    rows = LetterVictim().scores([candidate.texts for candidate in next(search).candidates])
    search.send(Answer(np.zeros(len(rows)), known_scores=rows))
    assert count_greenlets() == before + 1

    if end == "close":
        search.close()
    else:
        with pytest.raises(StopIteration):
            search.throw(BudgetExhausted())

    assert count_greenlets() == before


def test_an_abandoned_search_is_collected(examples: list[Example]) -> None:
    attack = find_attack("textattack:DeepWordBugGao2018").attack
    before = count_greenlets()
    search = attack.search(examples[0], np.random.default_rng(0))
    next(search)
    gone = weakref.ref(search)

    del search

    assert gone() is None
    assert count_greenlets() == before


def test_an_error_inside_textattack_is_the_examples_error(examples: list[Example]) -> None:
    import textattack

    class Breaking(textattack.transformations.WordSwap):  # type: ignore[misc, name-defined]
        def _get_replacement_words(self, word: str) -> list[str]:
            if word == "poison":
                raise ZeroDivisionError("this word")
            return [word.upper()]

    own = textattack.attack_recipes.PWWSRen2019.build(DirectWrapper())
    own.transformation = Breaking()
    poisoned = label([*(e.texts for e in examples[:4]), ("a poison for all .",)])

    outcomes = run(wrap_textattack(own, Resources.of(), name="breaking"), poisoned, width=3)

    assert [outcomes[e.id].status == Status.ERRORED for e in poisoned] == [False] * 4 + [True]
    assert outcomes["4"].error == "ZeroDivisionError: this word"


def test_a_users_attack_runs_as_it_was_built(examples: list[Example]) -> None:
    import textattack

    own = textattack.attack_recipes.Pruthi2019.build(DirectWrapper(), 2)
    before = dict(own.goal_function.__dict__)
    attack = wrap_textattack(own, Resources.of(), name="two-swaps")

    outcomes = run(attack, examples[:5])

    assert (attack.name, attack.family) == ("textattack:two-swaps", "textattack")
    for example in examples[:5]:
        theirs = run_textattack(own, attack, example)
        assert outcomes[example.id].adversarial_text == (theirs.perturbed_result.attacked_text.text,)
    assert own.goal_function.model is before["model"]


def test_a_digest_is_that_of_the_recipe_and_its_parameters() -> None:
    import textattack

    pruthi = textattack.attack_recipes.Pruthi2019
    mine = Resources.of()
    one, two = (wrap_textattack(pruthi.build(DirectWrapper(), count), mine, name="p").digest for count in (1, 2))

    assert one == wrap_textattack(pruthi.build(DirectWrapper(), 1), mine, name="p").digest != two
    assert find_attack("textattack:Pruthi2019").digest == wrap_textattack(pruthi, Resources.of()).digest


def test_an_edited_file_with_a_textattack_recipe_is_another_attack(tmp_path: Path) -> None:
    """What a recipe prints as says nothing of its code."""
    file = tmp_path / "mine.py"
    lines = "from textattack.attack_recipes import DeepWordBugGao2018\n\nclass Mine(DeepWordBugGao2018):\n    pass\n"
    file.write_text(lines)
    before, again = find_attack(f"{file}:Mine"), find_attack(f"{file}:Mine")

    file.write_text(f"{lines}    # edited\n")
    after = find_attack(f"{file}:Mine")

    assert before.digest == again.digest != after.digest


def test_building_a_recipe_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """WordSwapWordNet tries a download that it can do without."""
    import nltk

    download = nltk.download

    find_attack("textattack:PWWSRen2019")

    assert capfd.readouterr() == ("", "")
    assert nltk.download is download


@pytest.mark.parametrize("recipe", ["DeepWordBugGao2018", "PWWSRen2019", "Pruthi2019"])
@pytest.mark.parametrize("text", ["", "film", "!?!", "\u0634\u0643\u0631\u0627 e\u0301", "the of and"])
def test_texts_with_little_to_change_end_as_textattacks_own_run_does(recipe: str, text: str) -> None:
    attack = find_attack(f"textattack:{recipe}")
    example = Example("odd", (text,), label=1)

    class Sure:
        def scores(self, texts: Sequence[Texts]) -> ScoreRows:
            return np.tile(np.float32([0, 1]), (len(texts), 1))

    (outcome,) = Scheduler(attack, Sure(), seed=SEED).run([example])

    own = build_own(recipe)
    own.goal_function.model = lambda texts: Sure().scores(texts)
    try:
        theirs = run_textattack(own, attack, example)
    except Exception as error:
        assert outcome.error == f"{type(error).__name__}: {error}"
    else:
        assert outcome.adversarial_text == (theirs.perturbed_result.attacked_text.text,)


def test_every_recipe_is_ready_or_says_what_is_missing() -> None:
    import textattack

    found = dict(check_recipes(Resources.of()))

    kinds = [getattr(textattack.attack_recipes, name) for name in dir(textattack.attack_recipes)]
    names = {k.__name__ for k in kinds if isinstance(k, type) and issubclass(k, textattack.Attack)}
    assert set(found) == {*UNFIT, *NEEDS} == names - {"AttackRecipe", "Attack"}
    ready = {name for name, problem in found.items() if not problem}
    assert ready == {"DeepWordBugGao2018", "LEAP2023", "PWWSRen2019", "Pruthi2019"}
    for name in set(found) - ready:
        if name in UNFIT:
            assert found[name].startswith(f"textattack:{name} cannot be run: ")
        elif name in ASK_FLAIR and not has_flair():
            assert found[name].startswith(f"textattack:{name} cannot be run here: flair")
        else:
            assert found[name].startswith("needs ") and found[name].endswith("(not tried)")
        assert "\n" not in found[name]


ASK_FLAIR = ("CLARE2020", "CheckList2020", "FrenchRecipe", "PSOZang2020", "SpanishRecipe")


@pytest.fixture
def no_flair(monkeypatch: pytest.MonkeyPatch) -> None:
    """TextAttack as it is imported where flair is not installed, with the names that its import left."""
    from textattack.constraints.grammaticality import part_of_speech
    from textattack.shared import attacked_text

    monkeypatch.setattr(textattack_catalogue, "has_flair", lambda: False)
    monkeypatch.setattr(attacked_text, "Sentence", Missing)
    monkeypatch.setattr(part_of_speech, "SequenceTagger", Missing)


@pytest.mark.parametrize("recipe", ASK_FLAIR)
def test_without_flair_the_recipes_that_ask_its_taggers_are_refused_with_the_way_to_install_it(
    no_flair: None, recipe: str
) -> None:
    with pytest.raises(DataError, match=r"flair.*is not installed; run: pip install 'peft-robustness\[flair\]'"):
        find_attack(f"textattack:{recipe}")

    assert FLAIR_INSTALL in dict(check_recipes(Resources.of()))[recipe]


def test_without_flair_an_attack_of_ones_own_that_asks_its_tagger_is_refused_before_a_run(no_flair: None) -> None:
    import textattack

    own = textattack.attack_recipes.DeepWordBugGao2018.build(DirectWrapper())
    own.transformation = textattack.transformations.WordSwapInflections()

    with pytest.raises(DataError, match=r"textattack:mine cannot be run here: flair.*\[flair\]"):
        wrap_textattack(own, Resources.of(), name="mine")
    with pytest.raises(AttackError, match=r"flair.*\[flair\]"):
        textattack.constraints.grammaticality.PartOfSpeech(tagger_type="flair")


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("textattack:PWWSRen2018", DefinitionError, "did you mean 'PWWSRen2019'"),
        ("textattack:", DefinitionError, "known: A2TYoo2021"),
        ("textattack:AttackRecipe", DefinitionError, "has no recipe"),
        ("textattack:Seq2SickCheng2018BlackBox", AttackError, "translation"),
        ("textattack:MorpheusTan2020", AttackError, "translation"),
        ("textattack:InputReductionFeng2018", AttackError, "run input-reduction"),
        ("textattack:HotFlipEbrahimi2017", AttackError, "gradients"),
        ("textattack:A2TYoo2021", AttackError, "gradients"),
        ("textattack:BadCharacters2021", AttackError, "goal_function_type"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(reference: str, error: type[RobustnessError], message: str) -> None:
    with pytest.raises(error, match=message):
        find_attack(reference)


def test_own_attacks_that_need_more_than_scores_are_refused() -> None:
    import textattack

    reducing = textattack.attack_recipes.InputReductionFeng2018.build(DirectWrapper())
    translating = textattack.attack_recipes.MorpheusTan2020.build(DirectWrapper())
    seeing = textattack.attack_recipes.PWWSRen2019.build(DirectWrapper())
    seeing.is_black_box = False

    for attack, message in ((reducing, "InputReduction"), (translating, "MinimizeBleu"), (seeing, "gradients")):
        with pytest.raises(AttackError, match=message):
            wrap_textattack(attack, Resources.of(), name="mine")
    with pytest.raises(AttackError, match=r"expected a textattack\.Attack"):
        wrap_textattack(object(), Resources.of())


def test_what_a_search_loads_late_is_missed_before_the_run() -> None:
    import textattack

    class Late(textattack.constraints.Constraint):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__(compare_against_original=True)

        def _check_constraint(self, transformed_text: Any, reference_text: Any) -> bool:
            raise ModuleNotFoundError("No module named 'tensorflow_hub'")

    own = textattack.attack_recipes.DeepWordBugGao2018.build(DirectWrapper())
    own.constraints.append(Late())

    with pytest.raises(DataError, match=r"textattack:late cannot be run here: ModuleNotFoundError.*tensorflow_hub"):
        wrap_textattack(own, Resources.of(), name="late")


def test_without_textattack_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textattack_catalogue.importlib.util, "find_spec", lambda _: None)

    with pytest.raises(AttackError, match=r"pip install 'peft-robustness\[textattack\]'"):
        find_attack("textattack:PWWSRen2019")


def test_without_what_textattack_imports_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nltk.data", None)

    with pytest.raises(AttackError, match=r"cannot be imported: .*nltk.*; run: pip install 'peft-robustness"):
        find_attack("textattack:PWWSRen2019")


SCRIPT = """
import logging
import sys
from robustness.errors import RobustnessError
from robustness.recipes.assets.resources import Resources
from robustness.recipes.building import find_attack
from robustness.recipes.textattack.importing import has_flair
assert not {"textattack", "nltk", "torch"} & set(sys.modules)
anyone = logging.getLogger("anyone")
try:
    print(find_attack("textattack:DeepWordBugGao2018").name)
except RobustnessError as error:
    print(type(error).__name__, error)
assert not anyone.disabled
assert ("flair" in sys.modules) <= has_flair()
"""


@pytest.fixture
def bare_environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    environment = {k: v for k, v in os.environ.items() if k not in ("NLTK_DATA", "ROBUSTNESS_DATA")}
    (tmp_path / "post_install_check_3").touch()  # no download at import
    yield environment | {"HOME": str(tmp_path), "TA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("has_data", [False, True])
def test_stop_words_are_found_in_the_data_folder_or_asked_for(
    bare_environment: dict[str, str], shared_data: Path, has_data: bool
) -> None:
    environment = bare_environment | ({"ROBUSTNESS_DATA": str(shared_data)} if has_data else {})

    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment)

    assert done.returncode == 0, done.stderr
    if has_data:
        assert done.stdout.strip() == "textattack:DeepWordBugGao2018"
    else:
        assert done.stdout.startswith("DataError TextAttack needs NLTK's stopwords")
        assert "python -m nltk.downloader stopwords" in done.stdout


def test_a_run_takes_a_textattack_recipe(tiny: Any, tmp_path: Path) -> None:
    report = robustness.run(
        "attacks-quick",
        tiny.pairs,
        tmp_path / "run",
        RunSettings(
            data=tiny.data,
            testsets=[str(tiny.testset)],
            attacks=["textattack:DeepWordBugGao2018"],
            limit=6,
            device="cpu",
        ),
    )

    table = report.tables["attacks"]
    rows = table[table["attack"] == "textattack:DeepWordBugGao2018"]
    assert len(rows) == 2
    assert (rows["n_errored"] == 0).all()
