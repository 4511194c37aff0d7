"""Pages: where their templates are, how numbers and times are written in them, and what every page is given."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.response import Template
from litestar.template.config import TemplateConfig

from .. import __version__
from ..core.clock import Clock, format_time
from ..core.credits import format_micros
from .access import Caller
from .links import quoted

HERE = Path(__file__).parent
STATIC = HERE / "static"
# Each page with its name in the navigation.
NAVIGATION = [
    ("/", "Overview"),
    ("/runs", "Runs"),
    ("/traces", "Traces"),
    ("/customers", "Customers"),
    ("/held", "Held"),
    ("/meter-events", "Meter events"),
    ("/reconciliation", "Reconciliation"),
    ("/rates", "Rates"),
    ("/decisions", "Decisions"),
    ("/settings", "Settings"),
]


def charts_folder() -> Path:
    """Where the package that ships the chart library keeps it."""
    spec = importlib.util.find_spec("chartkick")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "django" / "static" / "chartkick"


def template_config(clock: Clock) -> TemplateConfig[JinjaTemplateEngine]:
    """The templates, with everything escaped and nothing undefined."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(amount=amount, moment=moment, count=count, quoted=quoted)
    environment.globals.update(navigation=NAVIGATION, pages=dict(NAVIGATION), version=__version__, now_us=clock.now_us)
    return TemplateConfig(instance=JinjaTemplateEngine.from_environment(environment))


def page(
    name: str,
    caller: Caller | None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **context: Any,
) -> Template:
    """A page for a caller, which nobody keeps."""
    return Template(
        f"{name}.html",
        context={"user": caller, **context},
        status_code=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def amount(text: str | int) -> str:
    """An exact amount, given as text or as micro-credits, with its digits in groups of three."""
    exact = format_micros(text) if isinstance(text, int) else text
    whole, point, decimals = exact.partition(".")
    sign, digits = ("−", whole[1:]) if whole.startswith("-") else ("", whole)
    return f"{sign}{int(digits):,}{point}{decimals}"


def moment(text: str | int | None) -> str:
    """A time as people read it, to the second in UTC; a dash for none."""
    if text is None:
        return "–"
    exact = format_time(text) if isinstance(text, int) else text
    return exact[:19].replace("T", " ")


def count(number: int) -> str:
    """A count with its digits in groups of three."""
    return f"{number:,}"
