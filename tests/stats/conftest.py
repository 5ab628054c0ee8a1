from __future__ import annotations

from hypothesis import settings

# A busy machine or a first import is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
