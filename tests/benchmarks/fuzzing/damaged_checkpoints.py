"""Tiny checkpoints, ways to damage their files, and what comes of reading or loading what is damaged.

Whatever is damaged, a checkpoint is refused in one paragraph, or answers as before. A change that leaves a valid
file, such as another layer norm's epsilon, cannot be told from another checkpoint: then it answers as transformers'
and peft's own loading of the same files does.
"""

from __future__ import annotations

import copy
import re
import resource
import shutil
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.fuzzing.damages import damage_bytes, damage_header, damage_json
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from robustness.definitions.tasks import find_task
from robustness.errors import GateError, RobustnessError
from robustness.testsets.example import Example
from robustness.victims.files.bases import digest_weights
from robustness.victims.files.checkpoint import Checkpoint, read_checkpoint
from robustness.victims.files.identity import identify_method
from robustness.victims.files.tensors import stored_dtypes
from robustness.victims.gate import inspect_checkpoint
from robustness.victims.heads.kinds import head_kind, refuse_other_head
from robustness.victims.label_maps import find_columns
from robustness.victims.loading import (
    Placement,
    digest_files,
    load_checkpoint,
    to_victim,
)

TASK = find_task("sst2")
LABELS = {0: "negative", 1: "positive"}
TEXTS = [("a fine film",), ("the plot is dull and the film is cold",)]
CLEAN = [Example(str(i), text, i) for i, text in enumerate(TEXTS)]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (*SPECIAL, "a", "fine", "film", "the", "plot", "is", "dull", "and", "cold")
PLACE = Placement(torch.device("cpu"), torch.float32)
SECONDS = 20
"""Beyond which loading hangs: it takes a twentieth of one."""
GROWTH = 1 << 30
"""Bytes by which a load may raise the process's peak: a tiny model takes a thousandth."""
VIRTUAL = 6 << 30
"""Bytes of address space beyond the present that a load may ask for: what would take all memory fails instead."""
OUT_OF_MEMORY = re.compile(r"MemoryError|allocate memory|[Oo]ut of memory|bad_alloc")
LONGEST = 3_000
"""Characters of a refusal: a paragraph."""
ROUNDING = 1e-4


class End(StrEnum):
    """What came of a damaged checkpoint."""

    REFUSED = "refused"
    READ = "read"
    """Its files were looked at, and nothing was wrong with what was looked at."""
    SAME = "same answers"
    OTHER = "as transformers and peft load it"
    """Other answers than before: the damage made another valid checkpoint."""


@dataclass(frozen=True, slots=True)
class Target:
    """A file of one of the checkpoints."""

    checkpoint: str
    file: str


TARGETS: dict[str, Target] = {
    "config": Target("full", "config.json"),
    "header": Target("full", "model.safetensors"),
    "index": Target("pieces", "model.safetensors.index.json"),
    "adapter-config": Target("lora", "adapter_config.json"),
    "adapter-header": Target("lora", "adapter_model.safetensors"),
    "adapter-labels": Target("lora", "config.json"),
    "tokenizer": Target("full", "tokenizer.json"),
    "tokenizer-config": Target("full", "tokenizer_config.json"),
    "base-config": Target("base", "config.json"),
}


class Checkpoints:
    """A base, a full checkpoint whole and in pieces, and a LoRA adapter, with a copy of each that is damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._write()
        self._answers = {name: self.answer(self.checkpoint(name)) for name in ("full", "pieces", "lora")}

    def checkpoint(self, name: str) -> Checkpoint:
        """Looks at a checkpoint as a run does before it loads anything."""
        return read_checkpoint(name, str(self.folder / name), str(self.folder / "base"))

    def original(self, target: str) -> bytes:
        """The undamaged file."""
        return (self.folder / "originals" / target).read_bytes()

    def try_out(self, target: str, content: bytes, *, load: bool) -> tuple[End, str]:
        """Puts content in a file's place, and returns what came of the checkpoint, with the reason of a refusal.

        Raises:
            AssertionError: anything but a refusal, or answers that are right.
        """
        path = self.folder / TARGETS[target].checkpoint / TARGETS[target].file
        path.write_bytes(content)
        try:
            with limited():
                return self._try("lora" if target == "base-config" else TARGETS[target].checkpoint, load=load)
        finally:
            path.write_bytes(self.original(target))

    def _try(self, name: str, *, load: bool) -> tuple[End, str]:
        try:
            checkpoint = self.checkpoint(name)
            look_at(checkpoint)
            if not load:
                return End.READ, ""
            facts = inspect_checkpoint(checkpoint, TASK, PLACE, CLEAN)
            failures = [each for each in facts.failures if not each.startswith("clean-accuracy")]
            if failures:
                raise GateError(f"checkpoint {name}: {failures[0]}")
            scores = self.answer(checkpoint)
        except RobustnessError as error:
            reason = str(error)
            assert "\n" not in reason, f"more than one paragraph: {reason}"
            assert not OUT_OF_MEMORY.search(reason), f"would have taken all memory: {reason}"
            assert len(reason) <= LONGEST, f"{len(reason)} characters: {reason[:400]} ..."
            assert str(self.folder) in reason or f"checkpoint {name}" in reason, f"does not say where: {reason}"
            return End.REFUSED, reason
        if np.allclose(scores, self._answers[name], atol=ROUNDING):
            return End.SAME, ""
        expected = self._plainly(name)
        assert np.allclose(scores, expected, atol=ROUNDING, equal_nan=True), (
            f"answers {scores.tolist()}; plainly loaded {expected.tolist()}, before {self._answers[name].tolist()}"
        )
        return End.OTHER, ""

    def answer(self, checkpoint: Checkpoint) -> NDArray[np.float32]:
        """Scores of the texts, through the package."""
        return np.asarray(to_victim(load_checkpoint(checkpoint, TASK), PLACE).scores(TEXTS))

    def _plainly(self, name: str) -> NDArray[np.float32]:
        """Scores of the texts by the libraries alone, text by text, labels in the task's order.

        A text is cut where the files say: at model_max_length, where that is a limit.
        """
        folder, base = self.folder / name, self.folder / "base"
        columns = find_columns(self.checkpoint(name), TASK)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        reading = {"truncation": (tokenizer.model_max_length or 0) > 0, "return_tensors": "pt"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole, labels = (base, {"num_labels": len(LABELS)}) if name == "lora" else (folder, {})
            model = AutoModelForSequenceClassification.from_pretrained(whole, dtype=torch.float32, **labels)
            model = PeftModel.from_pretrained(model, str(folder)) if name == "lora" else model
        with torch.no_grad():
            rows = [model.eval()(**tokenizer(text, **reading)).logits[0, list(columns)] for (text,) in TEXTS]
        return np.asarray(torch.stack(rows).numpy())

    def _write(self) -> None:
        tokenizer = make_tokenizer()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            config = BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=32,
                id2label=LABELS,
                label2id={label: index for index, label in LABELS.items()},
                initializer_range=0.5,
            )
            full = BertForSequenceClassification(config).eval()
            base = copy.deepcopy(full.bert)
            for parameter in full.bert.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)
            lora = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])
            adapted = get_peft_model(BertForSequenceClassification(config), lora)
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(parameter)
        adapted.peft_config["default"].base_model_name_or_path = str(self.folder / "base")
        base.save_pretrained(self.folder / "base")
        full.save_pretrained(self.folder / "full")
        full.save_pretrained(self.folder / "pieces", max_shard_size="4KB")
        adapted.save_pretrained(self.folder / "lora")
        full.config.save_pretrained(self.folder / "lora")
        for name in ("base", "full", "pieces", "lora"):
            tokenizer.save_pretrained(self.folder / name)
        (self.folder / "originals").mkdir()
        for name, target in TARGETS.items():
            shutil.copy(self.folder / target.checkpoint / target.file, self.folder / "originals" / name)


def look_at(checkpoint: Checkpoint) -> None:
    """Everything that a run reads of a checkpoint before it loads a weight."""
    kind = head_kind(checkpoint, TASK)
    if kind.traits.sized_by_labels:
        find_columns(checkpoint, TASK)
    refuse_other_head(checkpoint, TASK, kind)
    stored_dtypes(checkpoint.folder, checkpoint.base)
    digest_files(checkpoint.folder, checkpoint.base)
    identify_method(checkpoint, TASK.name, digest_weights(checkpoint.base))


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A few whole words, and letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = dict.fromkeys([*WORDS, *letters, *(f"##{letter}" for letter in letters)])
    core = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=32,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


class HangError(BaseException):
    """A load that takes too long; no Exception, which a refusal would be made of."""


@contextmanager
def limited() -> Iterator[None]:
    """Fails where the code within it hangs, or where the process's memory grows by more than a tiny model takes."""

    def stop(signum: int, frame: object) -> None:
        raise HangError(f"took more than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + VIRTUAL, hard))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
    assert grown < GROWTH, f"took {grown / 2**30:.1f} GiB more than before"


@contextmanager
def quiet() -> Iterator[None]:
    """Silences what the libraries say of damaged files."""
    before = logging.get_verbosity()
    logging.set_verbosity(60)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)


def damaged(target: str, whole: bytes, rng: np.random.Generator) -> bytes:
    """One damaged form of a target's file."""
    if rng.random() < 0.02:
        return rng.bytes(int(rng.integers(0, 200)))
    if target.endswith("header"):
        return damage_header(whole, rng)
    return damage_json(whole, rng) if rng.random() < 0.7 else damage_bytes(whole, rng)


def soak(checkpoints: Checkpoints, count: int, load_every: int, targets: Sequence[str] = tuple(TARGETS)) -> Any:
    """Damages files, one after the other, and returns how many of each target ended how."""
    counts = {target: dict.fromkeys(End, 0) for target in targets}
    with quiet():
        for number in range(count):
            target = targets[number % len(targets)]
            content = damaged(target, checkpoints.original(target), np.random.default_rng([21, number]))
            try:
                end, _ = checkpoints.try_out(target, content, load=number // len(targets) % load_every == 0)
            except BaseException as error:
                raise AssertionError(f"damage {number} of {target}: {type(error).__name__}: {error}") from error
            counts[target][end] += 1
    return counts
