"""The kinds of victims."""

from __future__ import annotations

from robustness.victims.answering import AnsweringVictim
from robustness.victims.prompted import PromptedVictim
from robustness.victims.victim import Victim

LabelVictim = Victim | PromptedVictim
"""Answers with a score for each of the task's labels."""
AnyVictim = LabelVictim | AnsweringVictim
