"""The kinds of victims."""

from __future__ import annotations

from robustness.victims.heads.labels import Victim
from robustness.victims.heads.spans import AnsweringVictim
from robustness.victims.heads.verbalisers import PromptedVictim

LabelVictim = Victim | PromptedVictim
"""Answers with a score for each of the task's labels."""
AnyVictim = LabelVictim | AnsweringVictim
