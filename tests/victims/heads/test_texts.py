from __future__ import annotations

import numpy as np
import pytest
import torch
from architectures import END, WORDS, make_tokenizer
from causal_models import UNCACHED, generate_plainly, tiny_model

from robustness.errors import CheckpointError
from robustness.tasks.abilities import Ability
from robustness.tasks.gold import GoldSpan
from robustness.tasks.task import Task, TaskKind
from robustness.tasks.text.answering import TextAnswer
from robustness.tasks.text.grading import TextRow
from robustness.tasks.text.metrics import TextMetric
from robustness.testsets.example import Example
from robustness.victims.heads.kinds import HeadKind, trained_kind
from robustness.victims.heads.registry import HeadOptions, build_head
from robustness.victims.heads.texts import TextVictim

ANSWER = TextAnswer("whole", TextMetric.TOKEN_F1, max_new_tokens=6)
TASK = Task("copying", ("text",), (), ("text",), kind=TaskKind.TEXT, template="a {text} is", answer=ANSWER)


def victim_of(kind: str = "llama") -> TextVictim:
    return TextVictim(tiny_model(kind), make_tokenizer("none"), TASK)


def examples(count: int, seed: int = 0, identity: str = "") -> list[Example]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        text, gold = (" ".join(rng.choice(WORDS, size=rng.integers(1, 9))) for _ in range(2))
        golds = (GoldSpan("fine film" if identity else gold, 0),)
        made.append(Example(identity or str(number), (text,), 1, answers=golds))
    return made


def answer_plainly(victim: TextVictim, example: Example) -> tuple[float, str]:
    """Loss of the gold text with its end, and response: transformers, one row, the whole text at once."""
    tokenizer = victim.tokenizer
    prompt = tokenizer(f"a {example.texts[0]} is")["input_ids"]
    target = [*tokenizer(example.answers[0].text)["input_ids"], END]
    with torch.inference_mode():
        logits = victim.model(torch.tensor([prompt + target])).logits[0, len(prompt) - 1 : -1].double()
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(target))
    return float(loss), tokenizer.decode(decoded_plainly(victim, example), skip_special_tokens=True)


def decoded_plainly(victim: TextVictim, example: Example) -> list[int]:
    """Tokens of the response."""
    prompt = victim.tokenizer(f"a {example.texts[0]} is")["input_ids"]
    return generate_plainly(victim.causal, prompt, max_new_tokens=6, eos_token_id=END, use_cache=False)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt", *UNCACHED])
@pytest.mark.parametrize("identity", ["", "edited"])
def test_rows_are_what_transformers_gives_each_text_alone(kind: str, identity: str) -> None:
    victim = victim_of(kind)
    asked = examples(15, identity=identity)

    losses = victim.loss_rows(asked[8:])
    rows = np.concatenate(
        [
            victim.rows(asked[:4]),
            victim.rows_along(asked[4:8], [None] * 4),
            victim.rows_along(asked[8:], list(losses)),
        ]
    )

    expected = [answer_plainly(victim, example) for example in asked]
    assert victim.grader.losses(rows, asked) == pytest.approx([loss for loss, _ in expected], abs=1e-4)
    assert [victim.grader.response(row) for row in rows] == [response for _, response in expected]
    assert rows.dtype == np.float32 and rows.shape == (15, victim.grader.width)
    assert np.array_equal(victim.grader.losses(losses, asked[8:]), victim.grader.losses(rows[8:], asked[8:]))


def test_an_unchanged_response_is_read_and_not_decoded() -> None:
    victim = victim_of()
    (example,) = examples(1)
    (first,) = victim.rows([example])

    (again,) = victim.rows_along([example], [None])

    assert np.allclose(first[TextRow.LENGTH :], again[TextRow.LENGTH :])
    assert victim.grader.generated(first) == len(decoded_plainly(victim, example))
    assert victim.grader.generated(again) == 0


def test_a_response_that_never_ends_is_cut_and_counted() -> None:
    victim = victim_of()
    victim.causal.ends = frozenset()  # type: ignore[misc]

    rows = victim.rows(examples(3))

    assert rows[:, TextRow.CUT].tolist() == [1, 1, 1]


def test_in_lower_precision_every_response_is_decoded() -> None:
    model = tiny_model.__wrapped__("llama").bfloat16()
    victim = TextVictim(model, make_tokenizer("none"), TASK)
    (example,) = examples(1)

    rows = [*victim.rows([example]), *victim.rows_along([example], [None])]

    first, again = (victim.grader.generated(row) for row in rows)
    assert first == again > 0  # type: ignore[operator]


def test_a_prompt_longer_than_the_model_is_an_error_of_its_row() -> None:
    victim = victim_of()

    with pytest.raises(ValueError, match="its prompt has 72 tokens; the model takes 1 to 58 beside a response of 6"):
        victim.rows([Example("long", ("film " * 70,), 1, answers=(GoldSpan("a", 0),))])


def test_a_gold_text_longer_than_the_model_is_an_error_of_its_row() -> None:
    victim = victim_of("gpt2")

    with pytest.raises(ValueError, match="its prompt and gold text have 5 and 61 tokens; the model takes 64"):
        victim.loss_rows([Example("long", ("film film film",), 1, answers=(GoldSpan("film " * 60, 0),))])


def test_a_tokenizer_without_an_end_is_refused() -> None:
    tokenizer = make_tokenizer("none")
    tokenizer.eos_token = None

    with pytest.raises(CheckpointError, match="has no end token, so no response would end"):
        TextVictim(tiny_model("llama"), tokenizer, TASK)


def test_a_tokenizer_that_ends_every_text_lets_the_prompt_go_on() -> None:
    plain, ending = (TextVictim(tiny_model("llama"), make_tokenizer(frame), TASK) for frame in ("none", "end"))
    asked = examples(4)

    assert [ending.encode(each.texts) for each in asked] == [plain.encode(each.texts) for each in asked]
    assert np.array_equal(ending.rows(asked), plain.rows(asked))


def test_logits_are_those_of_the_next_token() -> None:
    victim = victim_of("gpt2")
    texts = [each.texts for each in examples(5)]

    found = victim.logits(texts)

    for text, row in zip(texts, found, strict=True):
        with torch.inference_mode():
            expected = victim.model(torch.tensor([victim.encode(text)])).logits[0, -1]
        assert row == pytest.approx(expected.numpy(), abs=1e-4)


def test_the_registry_builds_it_for_text_tasks_and_it_says_what_it_can() -> None:
    assert trained_kind(TASK) is HeadKind.TEXT
    head = build_head(HeadKind.TEXT, tiny_model("llama"), make_tokenizer("none"), HeadOptions(TASK))

    assert head.can == {Ability.LOSSES, Ability.TEXT_GRADIENTS, Ability.EMBEDDINGS}
    assert head.find_fault() is None


class Peeking(dict):  # type: ignore[type-arg]
    """The output of a model each of whose answers turns with all tokens of its text."""

    def __init__(self, logits: torch.Tensor, ids: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits + ids.sum() * torch.arange(logits.shape[-1])


class Rounded(dict):  # type: ignore[type-arg]
    """The output of a model whose rounding depends on the length of a text, as that of packed weights does."""

    def __init__(self, logits: torch.Tensor, ids: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits * (1 + ids.shape[1] / 50)


def test_rounding_that_depends_on_the_length_is_no_reading_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    victim = victim_of()
    model = victim.model
    assert victim.causal.ends == {END}
    monkeypatch.setattr(victim.causal, "model", lambda **inputs: Rounded(model(**inputs).logits, inputs["input_ids"]))

    assert victim.find_fault() is None


def test_a_model_that_reads_ahead_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    victim = victim_of()
    model = victim.model
    assert victim.causal.ends == {END}
    monkeypatch.setattr(victim.causal, "model", lambda **inputs: Peeking(model(**inputs).logits, inputs["input_ids"]))

    assert "what follows a token changes its answer" in (victim.find_fault() or "")
