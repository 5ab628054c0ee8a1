"""TextAttack's recipes by name, and what each of them needs."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from typing import Any

import numpy as np

from robustness.definitions.naming import nearest
from robustness.engine.attack import Answer, Scores
from robustness.engine.named_attack import NamedAttack
from robustness.errors import AttackError, DataError, DefinitionError, RobustnessError, first_line
from robustness.recipes.assets.lexical import locate_asset
from robustness.recipes.assets.registry import ASSETS
from robustness.recipes.assets.resources import Resources
from robustness.recipes.textattack.bridge import TextAttackSearch, keep_global_randomness
from robustness.recipes.textattack.importing import FLAIR_MISSING, INSTALL, has_flair, importing_textattack
from robustness.testsets.example import Example
from robustness.versions import version_of

PREFIX = "textattack:"

UNFIT = {
    "A2TYoo2021": "it ranks words by the model's gradients, and TextAttack's searches are given scores alone",
    "BadCharacters2021": "its goal is an argument of its own; build it with goal_function_type="
    "'targeted_classification' and pass the attack to robustness.recipes.textattack.catalogue.wrap_textattack",
    "HotFlipEbrahimi2017": "it reads the gradients of TextAttack's own LSTM",
    "InputReductionFeng2018": "its search deletes other words than it ranked, and none of its results is a success; "
    "run input-reduction, which has its goal",
    "MorpheusTan2020": "it attacks translation, not classification",
    "Seq2SickCheng2018BlackBox": "it attacks translation, not classification",
}
"""Recipes that cannot be run on a classifier's scores, and why."""

_BUCKET = "from textattack.s3.amazonaws.com"
_VECTORS = f"counter-fitted vectors (word_embeddings/paragramcf, {_BUCKET})"
_HOWNET = f"HowNet's candidates (transformations/hownet, {_BUCKET})"
_ENCODER = "the Universal Sentence Encoder (pip install tensorflow tensorflow_hub; from tfhub.dev)"
_TAGGER = "NLTK's tagger (python -m nltk.downloader averaged_perceptron_tagger_eng universal_tagset)"
_WORDNET = "WordNet (python -m nltk.downloader wordnet)"
_NAMES = "flair's name tagger `ner` (from the Hugging Face hub)"
_PARTS_OF_SPEECH = "flair's tagger `upos-fast` (from the Hugging Face hub)"
_HOMOGLYPHS = (
    "intentional_homoglyphs.txt, which TextAttack's wheel lacks (save "
    "https://www.unicode.org/Public/security/latest/intentional.txt as textattack/shared/intentional_homoglyphs.txt)"
)

NEEDS: dict[str, tuple[str, ...]] = {
    "BAEGarg2019": ("bert-base-uncased (from the Hugging Face hub)", _ENCODER, _TAGGER),
    "BERTAttackLi2020": ("bert-base-uncased (from the Hugging Face hub)", _ENCODER),
    "CLARE2020": ("distilroberta-base (from the Hugging Face hub)", _ENCODER, _PARTS_OF_SPEECH),
    "CheckList2020": (_NAMES,),
    "ChineseRecipe": ("xlm-roberta-base (from the Hugging Face hub)", _HOWNET, "Chinese text"),
    "DeepWordBugGao2018": (),
    "FasterGeneticAlgorithmJia2019": (_VECTORS, f"the language model learning-to-write ({_BUCKET})"),
    "FrenchRecipe": (_WORDNET, "Open Multilingual WordNet (python -m nltk.downloader omw-1.4)", _NAMES),
    "GeneticAlgorithmAlzantot2018": (_VECTORS, f"Google's language model ({_BUCKET}; pip install tensorflow)"),
    "IGAWang2019": (_VECTORS,),
    "Kuleshov2017": (_VECTORS, f"InferSent ({_BUCKET})", "gpt2 (from the Hugging Face hub)"),
    "LEAP2023": (_WORDNET,),
    "PSOZang2020": (_HOWNET, _PARTS_OF_SPEECH),
    "PWWSRen2019": (_WORDNET,),
    "Pruthi2019": (),
    "SpanishRecipe": (_WORDNET, "Open Multilingual WordNet (python -m nltk.downloader omw-1.4)", _NAMES),
    "TextBuggerLi2018": (_HOMOGLYPHS, _VECTORS, _ENCODER),
    "TextFoolerJin2019": (_VECTORS, _TAGGER, _ENCODER),
}
"""Files of a TextAttack 0.3.11 recipe other than NLTK's stop words."""

_REHEARSAL = Example("rehearsal", ("John doesn't like the 3 good films from London .",), label=1)
_REHEARSAL_QUESTIONS = 16
_REHEARSAL_LABELS = 16
"""More labels than any task has, so that every target exists."""


def find_textattack_attack(reference: str, resources: Resources) -> NamedAttack:
    """Returns the attack of `textattack:NAME`, NAME being a class of textattack.attack_recipes.

    Raises:
        DefinitionError: TextAttack has no such recipe.
        AttackError: TextAttack is not installed, or the recipe is not one for a classifier's scores.
        DataError: a file of the recipe is not available; the message says what it needs.
    """
    name = reference.removeprefix(PREFIX)
    recipes = _load_recipes(resources)
    if name not in recipes:
        raise DefinitionError(f"{reference}: TextAttack has no recipe {name!r}{nearest(name, recipes)}")
    return wrap_textattack(recipes[name], resources)


def wrap_textattack(made: object, resources: Resources, *, name: str = "") -> NamedAttack:
    """Returns a user's `textattack.Attack`, or a subclass of AttackRecipe, as an attack of this engine.

    The digest covers the name, TextAttack's version and the attack's repr. The attack is first rehearsed on one
    sentence, so that missing files are found now and not in a run.

    Args:
        made: the model that an Attack was built with is not used.
        resources: the data folders.
        name: default: that of the class, with `textattack:` before it.

    Raises:
        AttackError: it is neither, TextAttack is not installed, or it asks for more than a classifier's scores.
        DataError: a file that it reads is not available.
    """
    textattack = load_textattack(resources)
    is_recipe = isinstance(made, type) and issubclass(made, textattack.attack_recipes.AttackRecipe)
    if not is_recipe and not isinstance(made, textattack.Attack):
        raise AttackError(f"{name or made!r}: expected a textattack.Attack or a subclass of AttackRecipe")
    kind = made if isinstance(made, type) else type(made)
    shipped = kind.__name__ if is_recipe and kind.__module__.startswith("textattack.") else ""
    name = PREFIX + (name.removeprefix(PREFIX) or kind.__name__)
    if shipped in UNFIT:
        raise AttackError(f"{name} cannot be run: {UNFIT[shipped]}")
    needs = NEEDS.get(shipped, ())
    attack, problem = (None, FLAIR_MISSING) if _lacks_flair(shipped) else _prepare(made, textattack)
    if problem:
        advice = f"; the recipe needs {'; '.join(needs)}" if needs else ""
        raise DataError(f"{name} cannot be run here: {problem}{advice}")
    _refuse_unfit(attack, name, textattack)
    return NamedAttack(name, _digest(name, attack), TextAttackSearch(attack), family="textattack")


def load_textattack(resources: Resources) -> Any:
    """Imports TextAttack, which reads NLTK's stop words at once, with or without flair.

    Raises:
        AttackError: it is not installed, or cannot be imported.
        DataError: NLTK's stop words are nowhere.
    """
    if importlib.util.find_spec("textattack") is None:
        raise AttackError(f"TextAttack is not installed; run: {INSTALL}")
    try:
        _extend_nltk_path(resources)
        importlib.import_module("nltk.corpus").stopwords.ensure_loaded()
        with keep_global_randomness(), importing_textattack():
            return importlib.import_module("textattack")
    except LookupError as error:
        resource = re.search(r"Resource '?\S*?(\w+)'?\S* not found", str(error))
        name = resource[1] if resource else "stopwords"
        raise DataError(
            f"TextAttack needs NLTK's {name} to be imported; set NLTK_DATA, give a data folder with nltk_data/ in it "
            f"(--data or ROBUSTNESS_DATA), or run: python -m nltk.downloader {name}"
        ) from None
    except ImportError as error:
        raise AttackError(f"TextAttack cannot be imported: {error}; run: {INSTALL}") from error


def check_recipes(resources: Resources) -> Iterator[tuple[str, str]]:
    """Yields every recipe's name with the reason why it cannot run, or nothing if it is ready.

    Does not try a recipe with files from the network, because trying would download them.

    Raises:
        RobustnessError: TextAttack, or what it needs to be imported, is missing.
    """
    for name in sorted(_load_recipes(resources)):
        remote = [need for need in NEEDS.get(name, ()) if need not in (_WORDNET, _TAGGER)]
        if remote and not _lacks_flair(name):
            yield name, f"needs {'; '.join(remote)} (not tried)"
            continue
        try:
            find_textattack_attack(PREFIX + name, resources)
        except RobustnessError as error:
            yield name, str(error)
        else:
            yield name, ""


def _lacks_flair(name: str) -> bool:
    return bool({_NAMES, _PARTS_OF_SPEECH}.intersection(NEEDS.get(name, ()))) and not has_flair()


class _NoModel:
    """Replaces the model while a recipe is built; scores come from the engine."""

    model = None

    def __call__(self, _: object) -> object:
        raise AttackError("the recipe asks its model while it is built")


def _prepare(made: Any, textattack: Any) -> tuple[Any, str]:
    """Builds and rehearses; returns the attack and what went wrong."""
    with keep_global_randomness(), _quiet():
        try:
            attack = made if isinstance(made, textattack.Attack) else made.build(_NoModel())
            if _is_fit(attack, textattack):
                _rehearse(attack)
        except Exception as error:  # any error of a recipe's libraries about missing files
            traceback.clear_frames(error.__traceback__)  # they hold the locks of TextAttack's downloads
            if isinstance(error, RobustnessError):
                return None, str(error)
            return None, f"{type(error).__name__}: {first_line(error)}"
    return attack, ""


def _rehearse(attack: object) -> None:
    search = TextAttackSearch(attack).search(_REHEARSAL, np.random.default_rng(0))
    row = np.zeros((1, _REHEARSAL_LABELS), dtype=np.float32)
    row[0, _REHEARSAL.label] = 1.0
    try:
        asked = next(search)
        for _ in range(_REHEARSAL_QUESTIONS):
            assert isinstance(asked, Scores), "TextAttack's searches ask for scores alone"
            rows = row.repeat(len(asked.candidates), axis=0)
            asked = search.send(Answer(np.zeros(len(rows)), known_scores=rows))
    except StopIteration:
        pass
    finally:
        search.close()


def _is_fit(attack: Any, textattack: Any) -> bool:
    goals = textattack.goal_functions
    is_classification = isinstance(attack.goal_function, goals.ClassificationGoalFunction)
    return bool(
        attack.is_black_box and is_classification and not isinstance(attack.goal_function, goals.InputReduction)
    )


def _refuse_unfit(attack: Any, name: str, textattack: Any) -> None:
    if _is_fit(attack, textattack):
        return
    if not attack.is_black_box:
        raise AttackError(f"{name} cannot be run: it asks for the model's gradients; expected scores alone")
    goal = type(attack.goal_function).__name__
    raise AttackError(
        f"{name} cannot be run: its goal is {goal}; expected a classification goal that ends at a wrong answer, "
        "such as UntargetedClassification"
    )


def _digest(name: str, attack: Any) -> str:
    """The repr of sets has no order and that of functions has an address; both are normalised."""
    lines = re.sub(r" at 0x[0-9a-f]+", "", repr(attack)).splitlines()
    words = [" ".join(sorted(re.findall(r"[\w.]+", line))) for line in lines]
    material = "\n".join([name, version_of("textattack"), *words])
    return hashlib.sha256(material.encode()).hexdigest()[:16]


def _load_recipes(resources: Resources) -> dict[str, type]:
    recipes = load_textattack(resources).attack_recipes
    base = recipes.AttackRecipe
    found = {name: getattr(recipes, name) for name in dir(recipes)}
    return {
        n: kind for n, kind in found.items() if isinstance(kind, type) and issubclass(kind, base) and kind != base
    }


def _extend_nltk_path(resources: Resources) -> None:
    """Lets NLTK, hence TextAttack, read the data folder's nltk_data too; what NLTK_DATA names goes first."""
    path: list[str] = importlib.import_module("nltk.data").path
    for asset in ASSETS.values():
        found = locate_asset(asset.name, resources) if asset.is_nltk else None
        if found is not None and str(found.parents[1]) not in path:
            path.append(str(found.parents[1]))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences building a recipe, which prints unnecessary failed downloads and warns of unknown models."""
    nltk = importlib.import_module("nltk")
    download = nltk.download
    logger = logging.getLogger("textattack.shared.utils.install")
    level = logger.level
    logger.setLevel(logging.ERROR)
    sink = io.StringIO()
    vars(nltk)["download"] = partial(download, quiet=True, print_error_to=sink)  # it binds stderr when imported
    try:
        with redirect_stdout(sink), redirect_stderr(sink):
            yield
    finally:
        vars(nltk)["download"] = download
        logger.setLevel(level)
