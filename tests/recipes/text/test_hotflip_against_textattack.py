"""HotFlip's ranking of flips beside TextAttack's, given the same gradient at the same tokens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from robustness import Example
from robustness.recipes.text.gradients.flips import TokenFlips
from robustness.victims.heads.text_gradients import text_gradients
from robustness.victims.toy_models import CORPUS, bag_victim, word_pieces

WORDS = tuple(dict.fromkeys(" ".join(CORPUS).replace(",", "").split()))


@pytest.mark.parametrize("text", ["the film is good and warm", "a dull plot", "great acting"])
def test_flips_are_ranked_as_textattack_ranks_them(textattack: Any, text: str) -> None:
    from textattack.models.wrappers import ModelWrapper
    from textattack.shared import AttackedText
    from textattack.transformations.word_swaps import word_swap_gradient_based as theirs

    victim = bag_victim(word_pieces(WORDS), seed=11, labels=3)
    example = Example("0", (text,), int(victim.scores([(text,)])[0].argmax()))
    (gradient,) = text_gradients(victim, [example])
    assert len(gradient.tokens) == len(example.words)

    class Wrapper(ModelWrapper):  # type: ignore[misc]
        """Hands out our gradient without the row of [CLS], which TextAttack takes for the first word's."""

        def __init__(self) -> None:
            self.model = victim.model
            self.tokenizer = SimpleNamespace(
                pad_token_id=victim.tokenizer.pad_token_id,
                convert_id_to_word=victim.tokenizer.convert_ids_to_tokens,
            )

        def __call__(self, texts: Any, **_: Any) -> Any:
            raise AssertionError("the ranking asks for no scores")

        def get_grad(self, _: Any) -> dict[str, Any]:
            return {"ids": gradient.tokens, "gradient": gradient.gradient}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs, "validate_model_gradient_word_swap_compatibility", lambda _: None)
        swap = theirs.WordSwapGradientBased(Wrapper(), top_n=40)
    indices = range(len(example.words))
    ranked = swap._get_replacement_words_by_grad(AttackedText(text), indices)
    survivors = [example.replace_word(i, w).texts for w, i in ranked if w in WORDS and w != example.words[i]]

    found = TokenFlips().best(example, example, gradient, 40, np.random.default_rng(0))

    ours = [each.texts for each in found if set(each.words) <= set(WORDS)]
    assert len(survivors) >= 5
    assert ours[: len(survivors)] == survivors
