"""What every page is made with: the templates, and the style and script that stand in the page itself."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from robustness.reports.summaries.wording import bind
from robustness.reports.visible import visible


@cache
def environment() -> Environment:
    """Returns the templates, which escape everything and show what is invisible."""
    found = Environment(
        loader=PackageLoader("robustness.reports.page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
    )
    found.filters["bind"] = bind
    return found


def _finalize(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def asset(name: str) -> str:
    """Returns a file of the templates' folder, such as a style sheet."""
    return (files("robustness.reports.page") / "templates" / name).read_text(encoding="utf-8")


def script_digest(script: str) -> str:
    """Returns what a page's policy names the one script by that may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
