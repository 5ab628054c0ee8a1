"""Fixtures of the probes' tests: models whose numbers are known, and the tiny arms as subjects."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from robustness.definitions.tasks import find_task
from robustness.sensitivity.probe import Subject
from robustness.testsets.example import Example
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.heads.embedded_batch import EmbeddedBatch
from robustness.victims.heads.labels import Victim
from robustness.victims.loading import load_checkpoint, place, to_victim

Function = Callable[[torch.Tensor], torch.Tensor]


@pytest.fixture(scope="session")
def as_batch() -> Callable[..., EmbeddedBatch]:
    """A batch of given points (n, tokens, dim) whose model is a function of them, labelled as it answers."""

    def make(function: Function, points: torch.Tensor, labels: Sequence[int] | None = None) -> EmbeddedBatch:
        with torch.no_grad():
            given = function(points).argmax(dim=1) if labels is None else torch.tensor(labels)
        inputs = {"attention_mask": torch.ones(points.shape[:2], dtype=torch.long)}
        return EmbeddedBatch(
            points, torch.ones(points.shape[:2], dtype=torch.bool), given, 1.0, inputs, lambda e, _: function(e)
        )

    return make


@pytest.fixture(scope="session")
def linear() -> tuple[Function, torch.Tensor]:
    """z = W x + b in double precision, W of shape (3, 40)."""
    rng = np.random.default_rng(3)
    weights, bias = torch.from_numpy(rng.normal(size=(3, 40))), torch.from_numpy(rng.normal(size=3))
    return (lambda points: points.flatten(1).to(weights.dtype) @ weights.T + bias), weights


@pytest.fixture(scope="session")
def points() -> torch.Tensor:
    """Thirty texts of five tokens of eight numbers, in double precision."""
    return torch.from_numpy(np.random.default_rng(4).normal(size=(30, 5, 8)))


@pytest.fixture(scope="session")
def examples(tiny: Any) -> list[Example]:
    return [Example(str(number), (text,), label) for number, (text, label) in enumerate(tiny.dev)]


@pytest.fixture(scope="session")
def victims(tiny: Any) -> Callable[[Path], Victim]:
    """A folder of the tiny world as a merged victim, loaded once."""

    @cache
    def load(folder: Path) -> Victim:
        loaded = load_checkpoint(read_checkpoint(folder.name, str(folder), str(tiny.base)), find_task("sst2"))
        return to_victim(loaded, place("cpu"))

    return load


@pytest.fixture(scope="session")
def subject_of(tiny: Any, victims: Any, examples: list[Example]) -> Callable[..., Subject]:
    """A folder of the tiny world as a probe sees it."""

    def make(folder: Path, count: int = 6, victim: Victim | None = None, chosen: Sequence[Example] = ()) -> Subject:
        return Subject(
            checkpoint=read_checkpoint(folder.name, str(folder), str(tiny.base)),
            examples=chosen or examples[:count],
            seed=0,
            digest="digest",
            load_victim=lambda: victim or victims(folder),
            load_unmerged=lambda checkpoint: load_checkpoint(checkpoint, find_task("sst2")).unmerged,
        )

    return make


@pytest.fixture(scope="session")
def by_example() -> Callable[..., Any]:
    """Readings to the values of one quantity and norm by example id."""

    def collect(readings: Any, quantity: str, norm: str | None = None) -> dict[str, float]:
        return {
            reading.example.id: reading.measurement.value
            for reading in readings
            if reading.example is not None
            and reading.measurement.quantity.name == quantity
            and (norm is None or reading.measurement.norm == norm)
        }

    return collect


class Scaled(torch.nn.Module):
    """A classifier whose logits are another's, multiplied."""

    def __init__(self, model: Any, factor: float) -> None:
        super().__init__()
        self.inner, self.factor, self.config = model, factor, model.config

    def get_input_embeddings(self) -> Any:
        return self.inner.get_input_embeddings()

    def forward(self, **inputs: Any) -> Any:
        return SimpleNamespace(logits=self.inner(**inputs).logits * self.factor)


@pytest.fixture(scope="session")
def scaled(tiny: Any, victims: Any) -> Victim:
    """The LoRA arm with ten times its logits."""
    victim = victims(tiny.peft)
    return Victim(Scaled(victim.model, 10.0), victim.tokenizer, victim._columns)


WORDS = (
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fine", "lovely", "dull", "awful", "good", "bad", "film", "plot",
    "song", "the", "is", "a", ".",
)  # fmt: skip
TEXTS = ("the film is fine .", "a dull plot", "the song is lovely . good", "the plot is awful . bad film")
SIZES: dict[str, dict[str, Any]] = {
    "albert": {"hidden_size": 16, "embedding_size": 8, "num_hidden_layers": 3, "intermediate_size": 24},
    "bart": {
        "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "decoder_start_token_id": 3,
    },
    "bert": {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24},
    "funnel": {"d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 24, "block_sizes": [2, 2]},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_inner": 24, "n_positions": 40},
    "llama": {
        "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24, "num_key_value_heads": 1, "head_dim": 8,
    },
    "mpnet": {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24},
    "one-block": {"hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 12},
    "openai-gpt": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40},
    "mistral": {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24, "num_key_value_heads": 1},
    "large": {"hidden_size": 160, "num_hidden_layers": 6, "intermediate_size": 320},
    "roberta": {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24},
    "squeezebert": {
        "hidden_size": 16, "embedding_size": 16, "num_hidden_layers": 2, "intermediate_size": 32, "q_groups": 2,
        "k_groups": 2, "v_groups": 2, "post_attention_groups": 1, "intermediate_groups": 2, "output_groups": 2,
    },
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0},
    "xlnet": {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 24},
    "xlm": {"emb_dim": 16, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 40},
}  # fmt: skip
"""What is not a default, of the smallest models of some architectures."""
SHARED_SIZES = {"vocab_size": len(WORDS), "pad_token_id": 0, "max_position_embeddings": 40, "num_attention_heads": 2}
NAMES = {"num_labels": 2, "id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}


def config_of(kind: str) -> Any:
    """The smallest configuration of an architecture."""
    sizes, kind = SIZES[kind], "bert" if kind in ("one-block", "large") else kind
    empty = AutoConfig.for_model(kind)
    shared = {name: value for name, value in SHARED_SIZES.items() if (getattr(empty, name, None) or 0) > 0}
    ends = {"bos_token_id": 2, "eos_token_id": 3, "vocab_size": len(WORDS), "pad_token_id": 0}
    return AutoConfig.for_model(kind, **{**shared, **ends, **sizes, **NAMES})


class Architecture:
    """A base of random weights, a full checkpoint that differs from it in every number, and adapters on it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.folder, self.base, self.full = folder, folder / "base", folder / "full"
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = AutoModelForSequenceClassification.from_config(config_of(kind)).eval()
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    torch.nn.init.normal_(parameter, std=0.3)
            model.base_model.save_pretrained(self.base)
            for parameter in model.parameters():
                parameter.data += 0.02 * torch.randn_like(parameter)
            model.save_pretrained(self.full)
        for place_ in (self.base, self.full):
            self._save_tokenizer(place_)

    def adapter(self, config: Any, name: str = "adapter", std: float = 0.3) -> Path:
        """The folder of an adapter of random numbers, as plain peft saves it."""
        folder = self.folder / name
        if folder.exists():
            return folder
        with torch.random.fork_rng():
            torch.manual_seed(3)
            model = AutoModelForSequenceClassification.from_pretrained(self.full)
            model.base_model.load_state_dict(AutoModel.from_pretrained(self.base).state_dict())
            adapted = get_peft_model(model, config)
            for name_, parameter in adapted.named_parameters():
                if parameter.requires_grad and "modules_to_save" not in name_:  # the head is the full checkpoint's
                    torch.nn.init.normal_(parameter, mean=std / 3, std=std)
        config.base_model_name_or_path = str(self.base)
        adapted.save_pretrained(folder)
        own = json.loads((self.base / "config.json").read_text()) | NAMES
        (folder / "config.json").write_text(json.dumps(own))
        self._save_tokenizer(folder)
        return folder

    def victim(self, folder: Path) -> Victim:
        """A checkpoint, with its adapter merged where it can be."""
        checkpoint = read_checkpoint(folder.name, str(folder), str(self.base))
        return to_victim(load_checkpoint(checkpoint, find_task("sst2")), place("cpu"))

    def subject(self, folder: Path, *partners: Path, victim: Victim | None = None) -> Subject:
        """A checkpoint as a probe sees it, whose texts it answers rightly."""
        victim = victim or self.victim(folder)
        answers = victim.scores([(text,) for text in TEXTS]).argmax(axis=1)
        examples = [
            Example(str(n), (text,), int(label)) for n, (text, label) in enumerate(zip(TEXTS, answers, strict=True))
        ]
        read = {each: read_checkpoint(each.name, str(each), str(self.base)) for each in (folder, *partners)}
        return Subject(
            checkpoint=read[folder],
            examples=examples[:3],
            seed=0,
            digest="digest",
            load_victim=lambda: victim,
            partners=[read[each] for each in partners],
            load_partner=lambda each: self.victim(each.folder),
            load_unmerged=lambda each: load_checkpoint(each, find_task("sst2")).unmerged,
        )

    def _save_tokenizer(self, folder: Path) -> None:
        core = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
        core.pre_tokenizer = Whitespace()
        ends = [("[CLS]", 2), ("[SEP]", 3)]
        core.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
        PreTrainedTokenizerFast(
            tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
            mask_token="[MASK]", model_max_length=32, model_input_names=["input_ids", "attention_mask"],
        ).save_pretrained(folder)  # fmt: skip


@pytest.fixture(scope="session")
def architecture(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Architecture]:
    """Tiny checkpoints of an architecture, made once."""
    return cache(lambda kind: Architecture(kind, tmp_path_factory.mktemp(kind)))
