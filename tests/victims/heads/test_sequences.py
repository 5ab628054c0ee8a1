"""Margins and losses of responses, against plain transformers, one text at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from architectures import END, WORDS, make_tokenizer
from causal_models import generate_plainly, tiny_model

from robustness.errors import UsageError
from robustness.tasks.gold import GoldSpan
from robustness.tasks.task import Task, TaskKind
from robustness.tasks.text.answering import TextAnswer
from robustness.tasks.text.metrics import TextMetric
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import frozen, margins
from robustness.victims.heads.sequences.decoding import decode_perturbed
from robustness.victims.heads.sequences.targets import find_targets, limits_of, own_responses
from robustness.victims.heads.texts import TextVictim
from robustness.victims.inputs import Company

ANSWER = TextAnswer("whole", TextMetric.EXACT, max_new_tokens=6)
TASK = Task(
    "copying", ("title", "text"), (), ("text",), kind=TaskKind.TEXT, template="a {title} {text} is", answer=ANSWER
)
KINDS = ("llama", "gpt2", "mamba")
WRONG = 4
"""Every fourth example has another gold text than what is answered."""


def victim_of(kind: str = "llama", side: str = "right", frame: str = "none") -> TextVictim:
    tokenizer = make_tokenizer(frame)
    tokenizer.padding_side = side
    return TextVictim(tiny_model(kind), tokenizer, TASK)


def examples_of(victim: TextVictim, count: int = 9) -> list[Example]:
    """Texts of many lengths, most of them answered rightly."""
    rng = np.random.default_rng(0)
    texts = [("fine film", " ".join(rng.choice(WORDS, size=1 + number))) for number in range(count)]
    asked = [
        Example(str(number), text, 1, attacked=(1,), answers=(GoldSpan("plot is dull", 0),))
        for number, text in enumerate(texts)
    ]
    responses = own_responses(victim, asked)
    found = []
    for number, (example, response) in enumerate(zip(asked, responses, strict=True)):
        is_kept = number % WRONG == 3 or not response.text.strip()  # nothing is read in an empty response
        found.append(example if is_kept else replace(example, answers=(GoldSpan(response.text, 0),)))
    return found


def read_plainly(victim: TextVictim, example: Example, *, gold: bool = False) -> tuple[Any, Any, Any, list[int]]:
    """Leaf of the text's embeddings, logits at the target's places, and the target: transformers, one row."""
    tokenizer = victim.tokenizer
    text = tokenizer(example.texts[1])["input_ids"]
    prompt = [*tokenizer("a fine film")["input_ids"], *text, *tokenizer("is")["input_ids"]]
    target = generate_plainly(victim.causal, prompt, max_new_tokens=6, eos_token_id=END, use_cache=False)
    if gold or tokenizer.decode(target, skip_special_tokens=True) != example.answers[0].text:
        target = [*tokenizer(example.answers[0].text)["input_ids"], END]
    table = victim.model.get_input_embeddings().weight.detach()
    leaf = table[text].clone().requires_grad_()
    row = torch.cat([table[prompt[:3]], leaf, table[[prompt[-1], *target[:-1]]]])
    logits = victim.model(inputs_embeds=row[None]).logits[0, len(prompt) - 1 :]
    return leaf, logits, torch.tensor(target), text


def margin_plainly(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    values = []
    for row, token in zip(logits, target, strict=True):
        others = torch.cat([row[:token], row[token + 1 :]])
        values.append(row[token] - others.max())
    return torch.stack(values).min()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_sequence_margin_and_its_gradient_are_those_of_each_text_alone(kind: str, side: str) -> None:
    victim = victim_of(kind, side)
    examples = examples_of(victim)

    with frozen(victim):
        batch = victim.embed(examples)
        point = batch.embeddings.clone().requires_grad_()
        found = margins(batch.logits(point), batch.labels)
        (slopes,) = torch.autograd.grad(found.sum(), point)

    for row, example in enumerate(examples):
        leaf, logits, target, text = read_plainly(victim, example)
        expected = margin_plainly(logits, target)
        (slope,) = torch.autograd.grad(expected, leaf)
        assert found[row].item() == pytest.approx(expected.item(), abs=1e-5)
        assert batch.inputs["input_ids"][row, batch.content[row]].tolist() == text
        np.testing.assert_allclose(slopes[row, batch.content[row]].numpy(), slope.numpy(), rtol=1e-4, atol=1e-5)
    right = victim.grader.correct(victim.rows(examples), examples)
    assert (found > 0).tolist() == right.tolist() and 0 < right.sum() < len(examples)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_at_a_text_is_that_of_its_gold_responses_loss(kind: str, side: str) -> None:
    victim = victim_of(kind, side)
    examples = examples_of(victim)

    together = victim.text_gradients(examples)

    for example, found in zip(examples, together, strict=True):
        leaf, logits, target, text = read_plainly(victim, example, gold=True)
        loss = torch.nn.functional.cross_entropy(logits, target)
        (slope,) = torch.autograd.grad(loss, leaf)
        assert found.loss == pytest.approx(loss.item(), rel=1e-5)
        assert found.tokens.tolist() == text
        assert [example.texts[s][a:b] for s, a, b in found.places] == example.texts[1].split()
        np.testing.assert_allclose(found.gradient, slope.numpy(), rtol=1e-4, atol=1e-5)
        assert found.reached == (not victim.grader.correct(victim.rows([example]), [example])[0])


def test_prompts_that_may_not_be_padded_share_a_batch_with_their_own_length_alone() -> None:
    padded, alone = victim_of(), TextVictim(tiny_model("llama"), make_tokenizer("none"), TASK, padded=False)
    examples = examples_of(padded, 12)

    batches = alone.gradient_batches(examples)

    assert alone.company == Company(padded=False)
    assert all(bool(alone.embed(batch).attended.all()) for batch in batches)
    assert len(padded.gradient_batches(examples)) < len(batches)
    assert sorted(each.id for batch in batches for each in batch) == sorted(each.id for each in examples)


def test_a_row_selected_from_a_batch_has_its_own_margin_and_grades() -> None:
    victim = victim_of()
    examples = examples_of(victim)
    with frozen(victim), torch.no_grad():
        batch = victim.embed(examples)
        whole, grades = batch.logits(batch.embeddings), batch.grades(batch.embeddings)
        rows = torch.tensor([5, 2, 5])
        part = batch.select(rows)
        found, graded = part.logits(part.embeddings), part.grades(part.embeddings)

    assert grades is not None and graded is not None
    torch.testing.assert_close(found, whole[rows])
    assert graded == [grades[5], grades[2], grades[5]]
    assert batch.chance == 0.0


def test_the_templates_tokens_the_targets_and_what_is_protected_are_no_content() -> None:
    victim = victim_of(frame="end")
    (example,) = examples_of(victim_of(), 1)
    example = replace(example, texts=("fine film", "warm plot b"), protected=((1, 5, 9),))

    batch = victim.embed([example])

    words = victim.tokenizer.convert_ids_to_tokens(batch.inputs["input_ids"][0, batch.content[0]].tolist())
    assert words == ["warm", "b"]
    assert [victim.tokenizer.convert_ids_to_tokens(each.tokens.tolist()) for each in victim.locate([example])] == [
        ["warm", "plot", "b"]
    ]


@pytest.mark.parametrize("kind", [*KINDS, "bloom"])
def test_a_perturbed_prompt_is_decoded_as_transformers_does_from_its_embeddings(kind: str) -> None:
    victim = victim_of(kind)
    examples = examples_of(victim)
    table = victim.model.get_input_embeddings().weight.detach()
    changed = 0
    for target in find_targets(victim, examples):
        generator = torch.Generator().manual_seed(len(target.prompt))
        point = table[list(target.prompt)]
        point = point + 2 * torch.randn(point.shape, generator=generator)
        expected: list[int] = []
        while len(expected) < 6 and END not in expected:
            row = torch.cat([point, table[expected]])[None]
            with torch.no_grad():
                expected.append(int(victim.model(inputs_embeds=row).logits[0, -1].argmax()))

        found = decode_perturbed(victim.causal, target.prompt, point, limits_of(victim))
        later = decode_perturbed(victim.causal, target.prompt, point, limits_of(victim), expected[:1])

        assert list(found.tokens) == list(later.tokens) == expected
        changed += found.tokens != target.response.tokens
    assert changed
    again = own_responses(TextVictim(victim.model, victim.tokenizer, TASK), examples)
    assert again == own_responses(victim, examples)  # nothing is left of the perturbed lookup


def test_a_prompt_of_one_token_is_replaced_once() -> None:
    task = replace(TASK, fields=("text",), template="{text}")
    victim = TextVictim(tiny_model("llama"), make_tokenizer("none"), task)
    table = victim.model.get_input_embeddings().weight.detach()
    token = victim.encode(("film",))[0]
    point = table[[WORDS.index("song") + 5]]

    found = decode_perturbed(victim.causal, (token,), point, limits_of(victim))

    expected: list[int] = []
    while len(expected) < 6 and END not in expected:
        with torch.no_grad():
            row = torch.cat([point, table[expected]])[None]
            expected.append(int(victim.model(inputs_embeds=row).logits[0, -1].argmax()))
    assert list(found.tokens) == expected


def test_grades_are_those_of_what_is_decoded_and_unchanged_responses_are_not_decoded() -> None:
    victim = victim_of()
    asked = examples_of(victim)
    examples = [each for each, target in zip(asked, find_targets(victim, asked), strict=True) if target.is_right]
    with frozen(victim):
        batch = victim.embed(examples)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(batch.embeddings.shape, generator=generator) * batch.content[:, :, None]
        for size, unchanged in ((1e-6, True), (3.0, False)):
            point = batch.embeddings + size * noise
            before = victim.forwards
            grades = batch.grades(point)
            assert grades is not None
            spent = victim.forwards - before

            for row, (target, grade) in enumerate(zip(find_targets(victim, examples), grades, strict=True)):
                decoded = decode_perturbed(
                    victim.causal, target.prompt, point[row, : len(target.prompt)], limits_of(victim)
                )
                assert grade.response == decoded.text
                assert grade.correct == (decoded.text == examples[row].answers[0].text)
            assert (spent == len(examples)) == unchanged
            assert all(grade.correct for grade in grades) == unchanged


def test_texts_without_a_margin_say_why() -> None:
    victim = victim_of()
    (good,) = examples_of(victim, 1)
    long = replace(good, id="long", texts=("fine film", "film " * 70))
    begun = " ".join(victim.tokenizer.convert_ids_to_tokens(list(own_responses(victim, [good])[0].tokens)))
    cut, wordy = (
        replace(good, id=name, answers=(GoldSpan(f"{text} film film", 0),))
        for name, text in (("cut", begun), ("wordy", "a b c d e a b"))
    )
    empty = replace(good, id="empty", answers=())

    found = victim.find_unfit([good, long, cut, wordy, empty])

    assert set(found) == {"long", "cut", "empty"}
    assert "its prompt has" in found["long"] and "no gold text" in found["empty"]
    assert found["cut"] == "its response begins like its gold text, and is cut before the gold text ends"
    (target,) = find_targets(victim, [wordy])
    assert len(target.tokens) == 6 and not target.is_right
    with pytest.raises(UsageError, match="expected at least one example"):
        victim.embed([])


def test_in_lower_precision_a_response_has_no_margin() -> None:
    victim = TextVictim(tiny_model.__wrapped__("llama").bfloat16(), make_tokenizer("none"), TASK)
    (example,) = examples_of(victim_of(), 1)

    assert "in bfloat16 a response depends on the batch" in victim.find_unfit([example])[example.id]
