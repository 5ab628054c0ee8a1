"""Worlds of models of two layers and of this project's own sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
    BertTokenizerFast,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from goldens.weights import Labelled, add_lora, draw_weights, fit_classifier, fit_ridge, fit_spans, sign_targets
from goldens.worlds import (
    Run,
    World,
    recipes_for,
    write_few_queries,
    write_questions,
    write_rows,
    write_small_distractors,
)
from robustness.definitions.tasks import find_task

SENTENCES = (
    ("the film is fine and the actor is charming .", 1),
    ("a dull story with awful music", 0),
    ("this plot is not bleak , it is warm and clever", 1),
    ("the scene was tedious and the song was cold", 0),
    ("a lovely meal , a superb story", 1),
    ("the noisy film is a clumsy story of a stupid actor", 0),
    ("bright music .", 1),
    ("the actor is never fine", 0),
)
MORE_SENTENCES = (
    ("the story is superb and warm .", 1),
    ("the film was awful , it was cold", 0),
    ("a charming scene of a clever actor", 1),
    ("the plot is tedious and dull .", 0),
    ("the music is lovely , the song is bright", 1),
    ("a stupid film with noisy music", 0),
    ("this meal was fine", 1),
    ("a bleak and clumsy scene", 0),
)
"""Heads are fitted on these too."""

PREMISES = (
    ("the film is fine and warm .", "the film is warm", 0),
    ("a clever actor sings a song", "the actor is in a film", 1),
    ("the meal was cold .", "the meal was not cold", 2),
    ("the story is dull and the music is noisy", "the music is noisy", 0),
    ("anna works in oslo .", "anna has a lovely meal in oslo", 1),
    ("the plot is never bleak", "the plot is bleak and tedious", 2),
    ("boris lives in lima .", "boris lives in lima with anna", 1),
    ("the scene was lovely", "this scene was awful", 2),
    ("a bright and charming story", "the story is charming", 0),
)
ROWS = {"sst2": SENTENCES, "mnli": PREMISES}

PARAGRAPHS = (
    ("anna lives in rome . boris works in oslo .", "where does anna live ?", "rome"),
    ("clara lives in lima . david works in cairo .", "where does david work ?", "cairo"),
    ("elena works in quito and frank lives in delhi .", "where does frank live ?", "delhi"),
    ("greta lives in paris . hugo works in tokyo with a clever actor .", "where does hugo work ?", "tokyo"),
    ("the film is fine . anna works in lima . boris lives in rome .", "where does boris live ?", "rome"),
    ("clara works in oslo , but david lives in quito .", "where does clara work ?", "oslo"),
)
ADDED = ("hugo lives in cairo .", "anna works in lima and clara lives in tokyo .")
"""Behind each paragraph, one after the other: the altered rows."""

CITIES = ("rome", "oslo", "lima", "cairo", "quito", "delhi", "paris", "tokyo")
PEOPLE = ("anna", "boris", "clara", "david", "elena", "frank", "greta", "hugo")
WORDS = (
    *("fine", "lovely", "superb", "warm", "bright", "clever", "charming", "dull", "awful", "clumsy", "cold", "bleak"),
    *("stupid", "noisy", "tedious", "film", "plot", "song", "scene", "meal", "story", "actor", "music", "the", "is"),
    *("and", "with", "this", "was", "not", "it", "never", "of", "lives", "works", "live", "work", "in", "where"),
    *("does", "has", "sings", "but", "review", "sentiment", "negative", "positive", ".", ",", "?", ":"),
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = (*SPECIAL, *WORDS, *CITIES, *PEOPLE, *LETTERS, *(f"##{letter}" for letter in LETTERS))
SHAPE = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
LARGEST = 150
"""Thousandths in a matrix of LoRA."""


def make_encoders(folder: Path, task: str) -> World:
    """A pair that classifies sentences (sst2) or pairs of them (mnli), and the rows it is attacked on."""
    name = f"tiny-{task}"
    rows: list[Labelled] = [(str(n), row[:-1], row[-1]) for n, row in enumerate(ROWS[task])]
    more: list[Labelled] = [("", row[:-1], row[-1]) for row in MORE_SENTENCES] if task == "sst2" else []
    labels = dict(enumerate(find_task(task).labels))
    base, tokenizer = _write_base(folder)
    for arm, source in (("full", _write_other(folder)), ("lora", base)):
        model = BertForSequenceClassification.from_pretrained(source, id2label=labels, num_labels=len(labels))
        adapted = _adapt(model, "classifier") if arm == "lora" else model.eval()
        fit_classifier(adapted, tokenizer, [*rows, *more])
        _save(adapted, model, tokenizer, folder / arm)
    write_rows(folder, name, task, rows)
    return World(folder, task, base, (name,))


def make_answering(folder: Path) -> World:
    """A pair that answers questions, their paragraphs as they are and with a sentence added."""
    base, tokenizer = _write_base(folder)
    questions = [(question, context, context.index(answer), answer) for context, question, answer in PARAGRAPHS]
    for arm, source in (("full", _write_other(folder)), ("lora", base)):
        model = BertForQuestionAnswering.from_pretrained(source)
        adapted = _adapt(model, "qa_outputs") if arm == "lora" else model.eval()
        fit_spans(adapted, tokenizer, questions)
        _save(adapted, model, tokenizer, folder / arm)
    clean = [_paragraph(f"q{n}", *question) for n, question in enumerate(questions)]
    altered = [
        _paragraph(f"q{n}-high-conf-turk{k}", question, f"{context} {added}", start, answer)
        for n, (question, context, start, answer) in enumerate(questions)
        for k, added in enumerate(ADDED)
    ]
    write_questions(folder, "tiny-squad", "clean", clean)
    write_questions(folder, "tiny-addsent", "adversarial", [*clean, *altered])
    return World(folder, "squad", base, ("tiny-squad", "tiny-addsent"))


def make_prompted(folder: Path) -> World:
    """A pair of causal language models that classify sentences by the word they go on with."""
    words = Tokenizer(WordPiece({word: n for n, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    words.normalizer, words.pre_tokenizer = Lowercase(), BertPreTokenizer()
    special = dict(zip(("pad_token", "unk_token", "bos_token", "eos_token"), SPECIAL, strict=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=64, **special)
    rows: list[Labelled] = [(str(n), row[:-1], row[-1]) for n, row in enumerate(SENTENCES)]
    for arm, seed in (("full", 5), ("base", 4)):
        model = LlamaForCausalLM(LlamaConfig(**SHAPE, pad_token_id=0, bos_token_id=2, eos_token_id=3)).eval()
        draw_weights(model, seed)
        _fit_verbalisers(model, tokenizer, [*rows, *(("", row[:-1], row[-1]) for row in MORE_SENTENCES)])
        _save(model, model, tokenizer, folder / arm)
    model = LlamaForCausalLM.from_pretrained(folder / "base")
    adapted = add_lora(model, seed=6, targets=("q_proj", "v_proj"), head=None, largest=LARGEST // 3)
    _save(adapted, model, tokenizer, folder / "lora")
    write_rows(folder, "tiny-prompts", "sst2", rows)
    return World(folder, "sst2", folder / "base", ("tiny-prompts",))


def _write_base(folder: Path) -> tuple[Path, Any]:
    base = _write_encoder(folder / "base", seed=1)
    (base / "vocab.txt").write_text("\n".join(VOCABULARY), encoding="utf-8")
    tokenizer = BertTokenizerFast.from_pretrained(base, model_max_length=64)
    tokenizer.save_pretrained(base)
    return base, tokenizer


def _write_other(folder: Path) -> Path:
    """The encoder of the full arm, as if it had been trained far from its base."""
    return _write_encoder(folder / "other", seed=2)


def _write_encoder(folder: Path, seed: int) -> Path:
    model = BertModel(BertConfig(**SHAPE))
    draw_weights(model, seed)
    model.save_pretrained(folder)
    return folder


def _adapt(model: Any, head: str) -> Any:
    return add_lora(model, seed=3, targets=("query", "value"), head=head, largest=LARGEST)


def _save(adapted: Any, model: Any, tokenizer: Any, folder: Path) -> None:
    """Writes what is loaded later; an adapter's labels stand in the config beside it."""
    adapted.save_pretrained(folder)
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _paragraph(key: str, question: str, context: str, start: int, answer: str) -> dict[str, object]:
    gold = {"text": answer, "answer_start": start}
    return {"context": context, "qas": [{"id": key, "question": question, "answers": [gold]}]}


@torch.no_grad()
def _fit_verbalisers(model: Any, tokenizer: Any, rows: list[Labelled]) -> None:
    """Fits what the last layer says of each label's word, on what stands at the end of the prompts."""
    task = find_task("sst2")
    prompts = [task.template.format(sentence=texts[0]) for _, texts, _ in rows]
    states = [model.model(**_encode(tokenizer, prompt)).last_hidden_state[0, -1].double() for prompt in prompts]
    features, targets = torch.stack(states).numpy(), sign_targets([label for _, _, label in rows], len(task.labels))
    # The layer has no bias: with every row there in both signs none is fitted.
    weights, _ = fit_ridge(np.concatenate([features, -features]), np.concatenate([targets, -targets]))
    words = [tokenizer.convert_tokens_to_ids(word.strip()) for word in task.verbalisers]
    model.lm_head.weight[words] = torch.from_numpy(weights).float()


def _encode(tokenizer: Any, prompt: str) -> dict[str, torch.Tensor]:
    return {"input_ids": tokenizer(prompt, return_tensors="pt")["input_ids"]}


def make_runs(folder: Path) -> list[Run]:
    """Writes all worlds below a folder; returns what is run on them."""
    made = {name: _make_folder(folder / name) for name in ("sst2", "mnli", "squad", "prompted")}
    encoders = [make_encoders(made[task], task) for task in ("sst2", "mnli")]
    answering, prompted = make_answering(made["squad"]), make_prompted(made["prompted"])
    runs = []
    for world in (*encoders, prompted):
        recipes, left_out = recipes_for(world)
        few = write_few_queries(world.folder)
        runs.append(Run(world.testsets[0], world, world.testsets, (*recipes, few), left_out))
    recipes, left_out = recipes_for(answering)
    small = write_small_distractors(answering.folder)
    return [*runs, Run("tiny-squad", answering, answering.testsets, (*recipes, small), left_out)]


def _make_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
