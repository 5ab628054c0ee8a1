from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import SPECIAL, START, Architecture, answer_plainly, run_plainly, sentences
from transformers import (
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from robustness.definitions.tasks import find_task
from robustness.errors import CheckpointError
from robustness.tasks.gold import GoldSpan
from robustness.tasks.task import Task
from robustness.testsets.example import Example
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.heads.head import Head
from robustness.victims.heads.labels import Victim
from robustness.victims.heads.text_gradients import text_gradients
from robustness.victims.loading import load_checkpoint, place, to_victim
from robustness.victims.lookup import look_up

SST2 = find_task("sst2")
PROMPT = Task(
    "sst2",
    ("sentence",),
    ("negative", "positive"),
    ("sentence",),
    template="film {sentence} is",
    verbalisers=(" not very dull", " not fine"),
)

CLASSIFIERS = [
    *map(Architecture, ("albert", "bert", "convbert", "deberta", "deberta-v2", "distilbert", "electra")),
    *map(Architecture, ("ernie", "flaubert", "fnet", "megatron-bert", "modernbert", "nystromformer")),
    *map(Architecture, ("rembert", "roformer", "squeezebert", "xlm", "yoso")),
    # The padding token is number 0, so positions count from 1 on; MPNet's own is always 1.
    *(Architecture(kind, 63) for kind in ("camembert", "data2vec-text", "esm", "ibert", "longformer", "roberta")),
    *(Architecture(kind, 63) for kind in ("roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl")),
    Architecture("xmod", 63, settings={"default_language": "en_XX"}),
    Architecture("mpnet", 62),
    *(Architecture(kind, frame="end") for kind in ("bart", "led", "mbart", "mvp", "plbart")),
    *(Architecture(kind, None, "end") for kind in ("mt5", "t5", "umt5")),
    Architecture("big_bird", settings={"attention_type": "original_full"}),
    Architecture("bigbird_pegasus", frame="end", settings={"attention_type": "original_full"}),
    Architecture("funnel", None),
    Architecture("xlnet", None, "xlnet"),
    *(Architecture(kind, frame="none") for kind in ("ctrl", "falcon", "gemma", "gpt2", "gpt_bigcode", "gpt_neo")),
    *(Architecture(kind, frame="none") for kind in ("gpt_neox", "gptj", "llama", "mistral", "mixtral", "mpt")),
    *(Architecture(kind, frame="none") for kind in ("openai-gpt", "opt", "phi", "qwen2", "qwen3", "stablelm")),
    Architecture("bloom", None, "none"),
]
CLASSIFIERS = [each for each in CLASSIFIERS if each.kind in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES]
"""Those that the installed transformers has: not all of them are in both lines."""

READERS = [
    *map(Architecture, ("albert", "bert", "convbert", "deberta-v2", "distilbert", "electra", "fnet", "funnel")),
    *map(Architecture, ("longformer", "mpnet", "nystromformer", "roberta", "squeezebert")),
    Architecture("xlnet", None, "xlnet"),
    *(Architecture(kind, frame="end") for kind in ("bart", "led", "mbart", "t5", "umt5")),
    *(Architecture(kind, frame="none") for kind in ("bloom", "gpt2", "gptj", "llama", "opt", "qwen2")),
]


WRITERS = [
    *map(Architecture, ("llama", "mistral", "gpt2", "gptj", "opt")),
    *(Architecture(kind, frame="end") for kind in ("falcon", "gemma2", "gpt_neo", "mpt", "phi")),
    *(Architecture(kind, frame="none") for kind in ("bloom", "ctrl", "openai-gpt", "qwen2")),
]


REVERSIBLE = {"axial_pos_embds": False, "attn_layers": ["local"], "feed_forward_size": 48}


@pytest.mark.parametrize("architecture", CLASSIFIERS, ids=str)
def test_a_batch_is_answered_as_plain_transformers_answers_each_text_unpadded(
    architecture: Architecture, tmp_path: Path
) -> None:
    model = architecture.save(tmp_path, AutoModelForSequenceClassification)
    texts = [*sentences(9, 40), ("fine " * 80,)]
    expected = [answer_plainly(model, tmp_path, text, architecture.longest).logits[0].numpy() for text in texts]

    victim = load(tmp_path)

    scores = victim.scores(texts)
    np.testing.assert_allclose(scores, expected, atol=1e-4 * np.abs(expected).max())
    assert len(victim.truncated) == (architecture.longest is not None)
    assert victim.max_tokens == (architecture.longest or 1_000_000)
    check_embeddings(victim, model, texts[:5])


@pytest.mark.parametrize("architecture", READERS, ids=str)
def test_questions_are_answered_as_plain_transformers_answers_each_unpadded(
    architecture: Architecture, tmp_path: Path
) -> None:
    model = architecture.save(tmp_path, AutoModelForQuestionAnswering)
    texts = [("film plot", context) for (context,) in sentences(6, 40)]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    expected = []
    for text in texts:
        encoded = tokenizer(*text)
        inside = torch.tensor([part == 1 for part in encoded.sequence_ids(0)])
        output = run_plainly(model, encoded)
        expected.append([logits[0][inside].max() for logits in (output.start_logits, output.end_logits)])

    victim = load(tmp_path, find_task("squad"))

    np.testing.assert_allclose(victim.logits(texts), expected, atol=1e-4 * np.abs(expected).max())
    assert victim.predict([("film plot", "fine " * 300)])[0].best.strip().startswith("fine")
    answers = [(GoldSpan(text[1].split()[0], 0),) for text in texts]
    examples = [Example(str(n), text, 0, answers=answers[n], attacked=(1,)) for n, text in enumerate(texts)]
    batch = victim.embed(examples)
    sums = batch.logits(batch.embeddings.requires_grad_())
    (slope,) = torch.autograd.grad(sums[1:].sum(), batch.embeddings)
    assert slope[batch.content].abs().max() > 0


@pytest.mark.parametrize("architecture", WRITERS, ids=str)
def test_a_verbaliser_follows_its_prompt_whatever_the_tokenizer_puts_behind_a_text(
    architecture: Architecture, tmp_path: Path
) -> None:
    model = architecture.save(tmp_path, AutoModelForCausalLM)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    texts, expected = sentences(7, 30), []
    for (text,) in texts:
        start = [START] if architecture.frame == "both" else []
        prompt = [*start, *tokenizer(f"film {text} is", add_special_tokens=False)["input_ids"]]
        scores = []
        for verbaliser in PROMPT.verbalisers:
            said = tokenizer(verbaliser, add_special_tokens=False)["input_ids"]
            logits = run_plainly(model, {"input_ids": prompt + said}).logits[0].log_softmax(dim=1)
            scores.append(np.mean([logits[len(prompt) + k - 1, token] for k, token in enumerate(said)]))
        expected.append(scores)

    victim = load(tmp_path, PROMPT)

    np.testing.assert_allclose(victim.scores(texts), expected, atol=1e-4)
    examples = [Example(str(number), text, 0) for number, text in enumerate(texts)]
    batch = victim.embed(examples)
    np.testing.assert_allclose(batch.logits(batch.embeddings).detach(), expected, atol=1e-4)
    assert all(len(victim.encode(text)) < victim.max_tokens for text in texts)


@pytest.mark.parametrize("kind", ["bert", "xlnet"])
def test_a_language_model_that_reads_what_follows_cannot_be_prompted(kind: str, tmp_path: Path) -> None:
    Architecture(kind).save(tmp_path, AutoModelForCausalLM)

    with pytest.raises(CheckpointError, match="what follows a token changes its answer at it"):
        load(tmp_path, PROMPT)


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        (Architecture("canine"), "it has no table of word embeddings"),  # it hashes characters
        (Architecture("reformer", settings=REVERSIBLE), r"use `model.train\(\)`"),  # it recomputes layers backwards
    ],
    ids=str,
)
def test_a_model_without_gradients_in_evaluation_is_scored_and_says_why_it_has_none(
    architecture: Architecture, reason: str, tmp_path: Path
) -> None:
    model = architecture.save(tmp_path, AutoModelForSequenceClassification)
    texts = sentences(5, 30)[1:]

    victim = load(tmp_path)

    expected = [answer_plainly(model, tmp_path, text, None).logits[0].numpy() for text in texts]
    np.testing.assert_allclose(victim.scores(texts), expected, atol=1e-4 * np.abs(expected).max())
    with pytest.raises((CheckpointError, AssertionError), match=reason):
        text_gradients(victim, [Example("a", texts[0], 0)])


def load(folder: Path, task: Task = SST2) -> Head:
    checkpoint = read_checkpoint("full", str(folder), str(folder))
    return to_victim(load_checkpoint(checkpoint, task), place("cpu"))


def check_embeddings(victim: Victim, model: torch.nn.Module, texts: list[tuple[str, ...]]) -> None:
    """As a function of its embeddings it is the plain model with other rows in its table; gradients are of that."""
    examples = [Example(str(number), text, number % 2) for number, text in enumerate(texts)]
    changed = copy.deepcopy(model)
    with torch.no_grad():
        rows = changed.get_input_embeddings().weight[len(SPECIAL) :]
        rows += torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))

        for (example,) in zip(examples, strict=True):
            batch = victim.embed([example])
            found = batch.logits(look_up(changed, batch.inputs["input_ids"]))
            plain = run_plainly(changed, {name: values[0].tolist() for name, values in batch.inputs.items()})
            np.testing.assert_allclose(found, plain.logits, atol=1e-4 * plain.logits.abs().max())
    assert all(len(each.tokens) and not each.vanished for each in text_gradients(victim, examples))
