"""White-box attacks on a language model that is asked by prompts, held against plain transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from goldens.tiny import make_prompted
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from robustness import RunSettings, api
from robustness.engine.named_attack import NamedAttack
from robustness.engine.outcome import Outcome, Status
from robustness.recipes.building import find_attack
from robustness.recipes.embedding.attack import judge_embeddings, seeded_generators
from robustness.recipes.embedding.recipe import EmbeddingRecipe
from robustness.reports.tables.columns import Table
from robustness.runs.executors.executor import find_outcomes
from robustness.tasks.task import Task
from robustness.testsets.example import Example
from robustness.victims.heads.verbalisers import PromptedVictim
from robustness.victims.toy_models import word_pieces

WORDS = (
    *("the", "film", "is", "plot", "a", "was", "story", "and", "song", "so", "it", "yes", "no", "well"),
    *("fine", "dull", "warm", "cold", "bright", "bleak", "lovely", "awful", "clever", "stupid"),
)
SENTENCES = (
    "the film is fine",
    "a dull story and song",
    "the plot was warm and bright",
    "a cold song",
    "it was so bleak",
)
TASK = Task(
    "toy",
    ("sentence",),
    ("negative", "positive"),
    ("sentence",),
    template="so the {sentence} and it is",
    verbalisers=(" no", " yes well"),
)
TEXT_ATTACKS = ("hotflip-vocabulary", "gbda")


@pytest.fixture(scope="module")
def victim() -> PromptedVictim:
    tokenizer = word_pieces(WORDS)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        config = GPT2Config(
            vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=48, initializer_range=0.4
        )
        return PromptedVictim(GPT2LMHeadModel(config).eval(), tokenizer, TASK)


def prompt_ids(victim: PromptedVictim, sentence: str) -> list[int]:
    return list(victim.tokenizer(TASK.template.format(sentence=sentence))["input_ids"][:-1])


@torch.no_grad()
def plain_scores(victim: PromptedVictim, sentence: str, shift: torch.Tensor | None = None) -> np.ndarray:
    """Mean log-probabilities of the verbalisers, text by text, by the model's own forward pass.

    Args:
        victim: whose model and tokenizer are used.
        sentence: of the prompt.
        shift: added to the embeddings of the prompt's tokens.
    """
    ids = prompt_ids(victim, sentence)
    scores = []
    for word in TASK.verbalisers:
        said = victim.tokenizer(word, add_special_tokens=False)["input_ids"]
        rows = victim.model.transformer.wte(torch.tensor([*ids, *said]))
        if shift is not None:
            rows = rows + torch.cat([shift, torch.zeros(len(said), shift.shape[1])])
        logits = victim.model(inputs_embeds=rows[None]).logits[0, len(ids) - 1 : -1].log_softmax(dim=1)
        scores.append(float(logits[range(len(said)), said].mean()))
    return np.array(scores, dtype=np.float32)


def answered(victim: PromptedVictim) -> list[Example]:
    """Labelled as plain transformers answer, so that each can be attacked."""
    return [Example(str(n), (text,), int(plain_scores(victim, text).argmax())) for n, text in enumerate(SENTENCES)]


def attack(victim: PromptedVictim, named: NamedAttack, examples: Sequence[Example]) -> dict[str, Outcome]:
    return {outcome.example_id: outcome for outcome in find_outcomes(victim, None, named, examples, seed=0)}


@pytest.mark.parametrize("name", ["pgd", "pgd-linf", "ddn", "fgsm"])
def test_what_an_embedding_attack_finds_changes_the_answer_of_plain_transformers(
    name: str, victim: PromptedVictim
) -> None:
    named, examples = find_attack(name), answered(victim)
    assert isinstance(named.attack, EmbeddingRecipe)
    generator_of = seeded_generators(0, named.digest)

    result = named.attack.method.perturb(victim, examples, [generator_of(each) for each in examples])
    outcomes = attack(victim, named, examples)

    batch = victim.embed(examples)
    judged = judge_embeddings(batch, result.delta).logits.numpy()
    for row, example in enumerate(examples):
        length = len(prompt_ids(victim, example.texts[0]))
        shift = result.delta[row, :length]
        expected = plain_scores(victim, example.texts[0], shift)
        np.testing.assert_allclose(judged[row], expected, rtol=1e-4, atol=1e-5)
        assert not result.delta[row, length:].any()
        wrong = int(expected.argmax()) != example.label
        assert outcomes[example.id].status is (Status.SUCCEEDED if wrong else Status.FAILED)
        assert outcomes[example.id].clean_correct
    assert {outcome.status for outcome in outcomes.values()} >= {Status.SUCCEEDED}


def test_only_the_users_tokens_are_moved(victim: PromptedVictim) -> None:
    (example,) = answered(victim)[:1]
    before, behind = (victim.tokenizer(part)["input_ids"] for part in TASK.template.split("{sentence}"))

    content = victim.embed([example]).content[0].tolist()

    outside = [[False] * count for count in (len(before) - 1, len(behind) - 2)]  # without [CLS] and [SEP]
    assert content == [*outside[0], *[True] * len(example.words), *outside[1]]


@pytest.mark.parametrize("name", TEXT_ATTACKS)
def test_texts_found_by_gradient_change_the_answer_of_plain_transformers(name: str, victim: PromptedVictim) -> None:
    examples = answered(victim)

    outcomes = attack(victim, find_attack(name), examples)

    found = [outcome for outcome in outcomes.values() if outcome.status is Status.SUCCEEDED]
    assert len(found) >= 2
    for example in examples:
        outcome = outcomes[example.id]
        assert outcome.status in {Status.SUCCEEDED, Status.FAILED}, outcome.error
        (text,) = outcome.adversarial_text or example.texts
        wrong = int(plain_scores(victim, text).argmax()) != example.label
        assert wrong == (outcome.status is Status.SUCCEEDED)


def test_a_run_attacks_a_prompted_pair_by_its_embeddings_and_gradients(tmp_path: Path) -> None:
    world = make_prompted(tmp_path / "world")
    _train_a_little(world.base, world.folder / "full")

    report = api.run(
        "smoke",
        world.write_pairs(),
        tmp_path / "run",
        RunSettings(
            data=world.folder,
            testsets=[str(world.locate_testset(name)) for name in world.testsets],
            attacks=["pgd", "ddn", "hotflip-vocabulary"],
            limit=4,
        ),
    )

    attacks = report.tables[Table.ATTACKS]
    assert report.n_errored == 0
    assert (attacks.groupby("attack")["n"].sum() > 0).all()
    assert attacks["attack_success_rate"].max() > 0


def _train_a_little(base: Path, folder: Path) -> None:
    """Writes a full arm that is a step of its base's weights away, as fine-tuning leaves it."""
    model = LlamaForCausalLM.from_pretrained(base)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(7)
        for parameter in model.parameters():
            parameter += 0.02 * parameter.std() * torch.randn_like(parameter)
    model.save_pretrained(folder)
