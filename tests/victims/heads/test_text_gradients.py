"""Gradients at prompted texts and at questions, against autograd through plain transformers, and differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from frames import Spilling
from small_questions import WORDS, answering_head, question, read_windows
from transformers import GPT2Config, GPT2LMHeadModel

from robustness.tasks.answer_scores import normalised_tokens
from robustness.tasks.task import Task
from robustness.testsets.example import Example
from robustness.victims.heads import text_gradients
from robustness.victims.heads.spans.answering import AnsweringVictim
from robustness.victims.heads.text_gradients import TextGradient
from robustness.victims.heads.verbalisers import PromptedVictim
from robustness.victims.toy_models import word_pieces

TASK = Task(
    "toy",
    ("premise", "hypothesis"),
    ("true", "false"),
    ("hypothesis",),
    template="the {premise} and {hypothesis} of",
    verbalisers=(" yes", " no rome"),
)
STEP = 1e-4


@pytest.fixture(scope="module")
def prompted() -> PromptedVictim:
    tokenizer = word_pieces(WORDS)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        config = GPT2Config(
            vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.3
        )
        return PromptedVictim(GPT2LMHeadModel(config).double().eval(), tokenizer, TASK)


@pytest.fixture(scope="module")
def answering() -> AnsweringVictim:
    return answering_head(48)


def differences(loss: Callable[[torch.Tensor], torch.Tensor], point: torch.Tensor) -> np.ndarray:
    """Central differences of a function of embeddings (tokens, dim), entry by entry."""
    slopes = torch.zeros_like(point)
    with torch.no_grad():
        for index in np.ndindex(*point.shape):
            step = torch.zeros_like(point)
            step[index] = STEP
            slopes[index] = (loss(point + step) - loss(point - step)) / (2 * STEP)
    return slopes.numpy()


def slope_by_autograd(loss: Callable[[torch.Tensor], torch.Tensor], point: torch.Tensor) -> np.ndarray:
    leaf = point.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(leaf), leaf)
    return slope.numpy()


def test_the_gradient_at_a_prompted_text_is_that_of_the_labels_scores_at_the_users_tokens(
    prompted: PromptedVictim,
) -> None:
    example = Example("1", ("denver city", "broncos won rome"), label=1, attacked=(1,))
    tokenizer, model = prompted.tokenizer, prompted.model
    table = model.get_input_embeddings().weight.detach()
    text = tokenizer(example.texts[1], add_special_tokens=False)["input_ids"]
    whole = tokenizer("the denver city and broncos won rome of")["input_ids"][:-1]  # without what ends a text
    start = len(whole) - 1 - len(text)

    def loss(point: torch.Tensor) -> torch.Tensor:
        """Minus the margin of the gold label's mean log-probability, each label's words read along."""
        scores = []
        for said in (tokenizer(word, add_special_tokens=False)["input_ids"] for word in TASK.verbalisers):
            rows = table[[*whole, *said]].clone()
            rows[start : start + len(text)] = point
            logits = model(inputs_embeds=rows[None]).logits[0, -len(said) - 1 : -1].log_softmax(dim=1)
            scores.append(logits[range(len(said)), said].mean())
        return scores[0] - scores[1]

    (found,) = prompted.text_gradients([example])

    assert [example.texts[1][a:b] for _, a, b in found.places] == ["broncos", "won", "rome"]
    assert {segment for segment, _, _ in found.places} == {1}
    assert found.tokens.tolist() == text
    np.testing.assert_allclose(found.gradient, slope_by_autograd(loss, table[text]), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.gradient, differences(loss, table[text]), rtol=1e-3, atol=1e-5)
    row = prompted.rows([example])
    assert found.loss == pytest.approx(float(prompted.grader.losses(row, [example])[0]), rel=1e-5)
    assert found.reached != bool(prompted.grader.correct(row, [example])[0])


def test_gradients_of_prompts_and_questions_do_not_depend_on_what_is_asked_beside_them(
    prompted: PromptedVictim, answering: AnsweringVictim
) -> None:
    texts = ["rome won", "the city of rome played in denver " * 6, "denver and rome"]
    asked = [question(text, "rome", number=number) for number, text in enumerate(texts)]

    for victim, chosen in ((prompted, asked[::2]), (answering, asked)):
        together = victim.text_gradients(chosen)

        for example, gradient in zip(chosen, together, strict=True):
            (alone,) = victim.text_gradients([example])
            np.testing.assert_allclose(gradient.gradient, alone.gradient, rtol=1e-4, atol=1e-6)
            assert gradient.places == alone.places


@pytest.mark.parametrize("attacked", [(0,), (1,), (0, 1)])
def test_the_gradient_at_a_question_is_that_of_its_loss_over_all_windows(
    answering: AnsweringVictim, attacked: tuple[int, ...]
) -> None:
    paragraph = "and the city of rome played in denver " * 12 + ". the denver broncos won"
    example = question(paragraph, "Denver Broncos", attacked=attacked)
    model = answering.model
    table = model.get_input_embeddings().weight.detach()
    encoded = read_windows(answering, paragraph)
    parts = [encoded.sequence_ids(window) for window in range(len(encoded["input_ids"]))]
    places: dict[tuple[int, int, int], int] = {}
    for part, offsets in zip(parts, encoded["offset_mapping"], strict=True):
        for segment, (start, end) in zip(part, offsets, strict=True):
            if segment in attacked:
                places.setdefault((segment, start, end), len(places))
    ids = dict.fromkeys(places, 0)
    for part, offsets, tokens in zip(parts, encoded["offset_mapping"], encoded["input_ids"], strict=True):
        ids |= {(s, *o): t for s, o, t in zip(part, offsets, tokens, strict=True) if s in attacked}

    def loss(point: torch.Tensor) -> torch.Tensor:
        starts, ends, right = [], [], []
        for window, (part, offsets) in enumerate(zip(parts, encoded["offset_mapping"], strict=True)):
            rows = [
                point[places[segment, *offset]] if segment in attacked else table[token]
                for segment, offset, token in zip(part, offsets, encoded["input_ids"][window], strict=True)
            ]
            others = [name for name in answering.tokenizer.model_input_names if name != "input_ids"]
            inputs = {name: torch.tensor([encoded[name][window]]) for name in others}
            output = model(inputs_embeds=torch.stack(rows)[None], **inputs)
            own = [place for place, segment in enumerate(part) if segment == 1]
            starts += [output.start_logits[0, place] for place in own]
            ends += [output.end_logits[0, place] for place in own]
            right += [
                output.start_logits[0, a] + output.end_logits[0, b]
                for a in own
                for b in own
                if a <= b < a + 30
                and normalised_tokens(paragraph[offsets[a][0] : offsets[b][1]]) == ("denver", "broncos")
            ]
        return torch.stack(starts).logsumexp(0) + torch.stack(ends).logsumexp(0) - torch.stack(right).logsumexp(0)

    (found,) = answering.text_gradients([example])

    assert len(parts) > 2 and found.places == tuple(places)
    assert found.tokens.tolist() == list(ids.values())
    point = table[list(ids.values())]
    np.testing.assert_allclose(found.gradient, slope_by_autograd(loss, point), rtol=1e-4, atol=1e-6)
    assert found.loss == pytest.approx(float(loss(point)), rel=1e-6)
    assert found.reached != bool(answering.grader.correct(answering.rows([example]), [example])[0])


def test_a_question_without_a_gold_span_has_no_gradient(answering: AnsweringVictim) -> None:
    gradients = answering.text_gradients([question("the city", "rome"), question("rome won", "rome", number=2)])

    assert [gradient.vanished for gradient in gradients] == [True, False]
    assert answering.text_gradients([]) == []


def test_memory_is_freed_once_no_frame_of_a_batch_that_does_not_fit_holds_a_tensor(
    prompted: PromptedVictim, monkeypatch: pytest.MonkeyPatch
) -> None:
    spilling = Spilling()
    monkeypatch.setattr(text_gradients, "recover_memory", spilling.recover)
    examples = [Example(str(number), ("denver", "rome"), 1, attacked=(1,)) for number in range(4)]

    def differentiate(batch: Sequence[Example]) -> list[TextGradient]:
        if len(batch) > 1:
            spilling()
        return prompted.text_gradients(batch)

    found = text_gradients.differentiate_batches(prompted, examples, [examples], differentiate)

    assert spilling.held == [0, 0, 0]  # four, then both halves
    assert len(found) == 4
