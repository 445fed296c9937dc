"""Makes self-contained HTML pages: a template of `phiplug/data` with its style sheet inside; nothing is fetched."""

from __future__ import annotations

from importlib.resources import files

import jinja2
from markupsafe import Markup


def rendered(name: str, values: dict[str, object]) -> str:
    """Return a template of `phiplug/data` with these values, all of which are escaped but `Markup`."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    style = Markup(_data("report.css"))  # noqa: S704  ours
    return environment.from_string(_data(name)).render(values, style=style)


def _data(name: str) -> str:
    return files("phiplug").joinpath("data", name).read_text(encoding="utf-8")
