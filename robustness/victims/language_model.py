"""A causal language model with the victim's own tokens."""

from __future__ import annotations

from typing import Any, final

import torch
from transformers import AutoModelForCausalLM

from robustness.errors import CheckpointError
from robustness.victims.files.pickles import without_pickles
from robustness.victims.files.reasons import loading_reason
from robustness.victims.files.tokenizers import read_tokenizer
from robustness.victims.heads.head import Head
from robustness.victims.inputs import name_outputs


@final
class SameVocabularyModel:
    """Scores soft texts: mean embeddings in, log-probabilities of the next token out.

    Args:
        source: folder or hub id.
        victim: the victim with the same tokens.

    Raises:
        CheckpointError: it cannot be loaded, or its vocabulary differs.
    """

    def __init__(self, source: str, victim: Head) -> None:
        try:
            tokenizer = read_tokenizer(source)
            own, theirs = victim.tokenizer.get_vocab(), tokenizer.get_vocab()
            model: Any = None
            if own == theirs:
                with without_pickles():
                    model = AutoModelForCausalLM.from_pretrained(
                        source, trust_remote_code=False, use_safetensors=True
                    )
        except Exception as error:  # transformers, tokenizers and safetensors raise errors of many classes
            reason = loading_reason(source, error)
            raise CheckpointError(f"language model {source}: cannot be loaded: {reason}") from error
        if model is None:
            raise CheckpointError(
                f"language model {source}: its vocabulary of {len(tokenizer)} tokens is not the victim's of "
                f"{len(victim.tokenizer)}; gradients pass from one to the other only through the same tokens: "
                "give a causal model with the victim's tokenizer, or set perplexity_weight to 0"
            )
        name_outputs(model)
        self._model = model.eval().requires_grad_(False).to(victim.device)
        self.embeddings: torch.Tensor = self._model.get_input_embeddings().weight.detach().float()
        """Shape (tokens, dim)."""

    def log_probabilities(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Returns log p(next token), shape (texts, tokens, vocabulary), of embeddings (texts, tokens, dim)."""
        logits: torch.Tensor = self._model(inputs_embeds=embeddings.to(self._model.dtype)).logits
        return logits.float().log_softmax(dim=2)
