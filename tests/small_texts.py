"""A tiny task of generated text: what a sentence is about and how it is meant, with a model and rows for it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

GOOD = ("fine", "lovely", "superb", "warm")
BAD = ("dull", "awful", "clumsy", "cold")
THINGS = ("film", "plot", "song", "scene", "meal", "story")
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<user>", "<model>")
WORDS = (*SPECIAL, *GOOD, *BAD, *THINGS, "the", "is", "and", "say", ":", "praise", "blame", "brief", "of")
CHAT = (
    "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} </s> {% endfor %}"
    "{% if add_generation_prompt %}<model> {% endif %}"
)

TASK = """kind = "text"
fields = ["sentence"]
template = "{sentence} say :"

[answer]
parser = "whole"
metric = "token-f1"
max_new_tokens = 6
lead = " "
"""
TESTSET = """summary = "What a sentence means."
licence = "none"
task = "meaning.toml"
kind = "clean"

[[test.local]]
reader = "table"
file = "dev.jsonl"
columns = ["sentence"]
answers = "gold"

[[train.local]]
reader = "table"
file = "train.jsonl"
columns = ["sentence"]
answers = "gold"
"""


def tokenizer_of(**settings: object) -> PreTrainedTokenizerFast:
    """Whole words; by default with tokens for padding and end, and nothing put around a text."""
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    usual = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>", "bos_token": "<s>"}
    chosen = {name: value for name, value in {**usual, **settings}.items() if value is not None}
    return PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=64, **chosen)


def write_base(folder: Path, tokenizer: PreTrainedTokenizerFast | None = None, **settings: object) -> Path:
    """A Llama of one layer with random weights."""
    sizes = {
        "vocab_size": len(WORDS),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "pad_token_id": 0,
    }
    with torch.random.fork_rng():
        torch.manual_seed(5)
        LlamaForCausalLM(LlamaConfig(**sizes | settings)).save_pretrained(folder)
    (tokenizer or tokenizer_of()).save_pretrained(folder)
    return folder


def write_rows(folder: Path, train: int = 48, dev: int = 24) -> Path:
    """Sentences of one or two things with one opinion, and what they mean: answers of two lengths."""
    draw = random.Random(4)
    seen: set[str] = set()
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", train), ("dev", dev)):
        rows: list[str] = []
        while len(rows) < count:
            praised, things = draw.random() < 0.5, draw.sample(THINGS, draw.choice((1, 2)))
            text = f"the {' and the '.join(things)} is {draw.choice(GOOD if praised else BAD)}"
            gold = f"{'praise' if praised else 'blame'} of {' and '.join(things)}"
            if text not in seen:
                seen.add(text)
                rows.append(json.dumps({"sentence": text, "gold": gold}))
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def write_testset(folder: Path, task: str = TASK, testset: str = TESTSET) -> str:
    """A test set beside its task's file; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meaning.toml").write_text(task, encoding="utf-8")
    (folder / "meanings.toml").write_text(testset, encoding="utf-8")
    return str(folder / "meanings.toml")


def write_method(folder: Path, name: str, *, lora: bool) -> str:
    """Full training or LoRA at a rate at which the tiny model learns; returns the file's path."""
    adapter = '[adapter]\npeft_type = "lora"\nrank = 16\nalpha = 64\ndropout = 0.0\ntarget_modules = "linear"\n'
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    rate, table = ("4e-3", adapter) if lora else ("2e-2", "")
    path.write_text(f'summary = "{name}"\nlearning_rates = [{rate}]\n{table}', encoding="utf-8")
    return str(path)
