# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own pair, in ten cells
#
# This notebook compares two models in memory on rows of a data frame, with an attack of its own. It trains two tiny
# models from scratch, so it needs no network and less than a minute. Put your own models and rows in their place.
#
# With jupytext installed it opens in Jupyter, and `jupytext --to ipynb --execute docs/notebooks/own_pair.py` runs it.

# %%
import numpy as np
import pandas as pd

rng = np.random.default_rng(0)
moods = {
    "positive": ["fine", "lovely", "superb", "warm", "bright", "clever"],
    "negative": ["dull", "awful", "clumsy", "cold", "bleak", "noisy"],
}
things = ["film", "plot", "song", "scene", "meal", "story"]


def write_rows(count: int) -> pd.DataFrame:
    """Returns reviews with two words of one mood each."""
    labels = [str(label) for label in rng.choice(list(moods), size=count)]
    words = [[*rng.choice(moods[label], size=2), *rng.choice(things, size=2)] for label in labels]
    sentences = [f"a {first} {one} and a {second} {other}" for first, second, one, other in words]
    return pd.DataFrame({"sentence": sentences, "label": labels})


train_rows, rows = write_rows(200), write_rows(60)
rows.head(3)

# %% [markdown]
# ## Two models
#
# Both arms start from one base: that is what makes them a pair. Here the base is a BERT of two layers with random
# weights, and a tokenizer that knows the words of the reviews and single letters. Your own models come from
# `AutoModelForSequenceClassification.from_pretrained` and `PeftModel.from_pretrained`.

# %%
import copy

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

letters = "abcdefghijklmnopqrstuvwxyz"
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), "and"]
vocabulary = [*words, *moods["positive"], *moods["negative"], *things]
pieces = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
pieces.normalizer = normalizers.Lowercase()
pieces.pre_tokenizer = pre_tokenizers.Whitespace()
pieces.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
)
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=pieces,
    pad_token="[PAD]",
    unk_token="[UNK]",
    cls_token="[CLS]",
    sep_token="[SEP]",
    model_max_length=64,
)

torch.manual_seed(0)
base = BertForSequenceClassification(
    BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        id2label={0: "negative", 1: "positive"},
        label2id={"negative": 0, "positive": 1},
    )
)


# %%
def fit(model: BertForSequenceClassification | PeftModel, rate: float) -> None:
    """Trains a model on all training rows at once, for 60 steps."""
    batch = tokenizer(list(train_rows["sentence"]), padding=True, return_tensors="pt")
    labels = torch.tensor([base.config.label2id[label] for label in train_rows["label"]])
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=rate)
    model.train()
    for _ in range(60):
        optimizer.zero_grad()
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss.backward()
        optimizer.step()
    model.eval()


full = copy.deepcopy(base)
lora = get_peft_model(
    copy.deepcopy(base), LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules=["query", "value"])
)
fit(full, 3e-3)
fit(lora, 2e-2)

# %% [markdown]
# ## An attack of your own
#
# You write what happens to one example. `yield` asks the model about any number of texts; the answer has one loss for
# each. The engine runs many searches side by side, counts their queries, and judges what they return afresh.

# %%
import robustness
from robustness import Access, Example, Search


class DropLetter:
    """Drops one letter of one word after the other, the most harmful first, until the answer is wrong."""

    access = Access.SCORES

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        for i, word in enumerate(example.words):
            shorter = [word[:j] + word[j + 1 :] for j in range(len(word)) if len(word) > 1]
            candidates = [example.replace_word(i, each) for each in shorter]
            if not candidates:
                continue
            answer = yield candidates  # answer.losses and answer.reached have one entry for each
            example = candidates[int(answer.losses.argmax())]
            if answer.reached.any():
                return candidates[int(answer.reached.argmax())]
        return example


robustness.check(DropLetter)

# %% [markdown]
# ## The comparison
#
# `CheckpointPair` takes models, folders and hub ids alike; the task says what the rows mean. Everything that is in
# memory is written into the run folder, so the same call again resumes the run.

# %%
report = robustness.run(
    "attacks-quick",
    robustness.CheckpointPair(
        reference=(full, tokenizer),
        candidate=(lora, tokenizer),
        task={"kind": "labels", "fields": ["sentence"], "labels": ["negative", "positive"]},
    ),
    "own-pair-run",
    robustness.RunSettings(data=rows, attacks=[DropLetter, "deepwordbug"], limit=40),
)
report

# %% [markdown]
# The whole page is `own-pair-run/report.html`. Every number is in a table, too:

# %%
report.attacks[["checkpoint", "attack", "clean_accuracy", "robust_accuracy", "mean_queries"]]

# %% [markdown]
# ## Figures
#
# `plot_budget` returns a figure of matplotlib: save it by `savefig`, or change its axes.

# %%
report.plot_budget(budget_kind="queries")

# %% [markdown]
# For a figure of your own take a table. `examples` has a row for each example and attack.

# %%
import matplotlib.pyplot as plt

examples = report.tables["examples"]
broken = examples[(examples["attack"] == "DropLetter") & (examples["status"] == "succeeded")]

figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
for checkpoint, color in (("reference", "#0072b2"), ("candidate", "#d55e00")):
    share = broken.loc[broken["checkpoint"] == checkpoint, "modified_share"].astype(float)
    axes.hist(share, bins=10, range=(0, 1), histtype="step", color=color, label=checkpoint)
axes.set(xlabel="share of words changed", ylabel="broken examples")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# Which texts break one model and not the other?

# %%
statuses = examples[examples["attack"] == "DropLetter"].pivot(
    index="example_id", columns="checkpoint", values="status"
)
apart = statuses[(statuses["reference"] == "succeeded") != (statuses["candidate"] == "succeeded")]
texts = broken[broken["example_id"].isin(apart.index)]
texts[["checkpoint", "original_text", "adversarial_text"]].head()
