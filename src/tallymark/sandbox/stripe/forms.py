"""Stripe's form encoding, `payload[value]=5`, and reading typed parameters out of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from .errors import invalid, missing_param

Form = dict[str, "str | Form"]
"""Nested parameters; lists (`expand[]`) become a Form too, with the keys that were sent."""

_KEY_PART = re.compile(r"\[([^\]]*)\]")


def parse_form(pairs: Iterable[tuple[str, str]]) -> Form:
    """Nest decoded key-value pairs. Raises Refusal (400) where one key is both a value and a hash."""
    form: Form = {}
    for key, value in pairs:
        head, bracket, rest = key.partition("[")
        if bracket:
            _nest(form, [head, *_KEY_PART.findall("[" + rest)], value)
        else:
            form[key] = value
    return form


def _nest(form: Form, path: list[str], value: str) -> None:
    place = form
    for part in path[:-1]:
        inner = place.setdefault(part, {})
        if isinstance(inner, str):
            raise invalid(f"Invalid hash: {part}", part)
        place = inner
    place[path[-1]] = value


def flatten(form: Mapping[str, str | Form], within: str = "") -> Iterator[tuple[str, str]]:
    """The key-value pairs that `parse_form` makes this form of."""
    for key, value in form.items():
        name = f"{within}[{key}]" if within else key
        if isinstance(value, str):
            yield name, value
        else:
            yield from flatten(value, name)


def refuse_unknown(form: Form, allowed: frozenset[str]) -> None:
    """Raise Refusal (400) for a top-level key that this request does not take."""
    for key in form:
        if key not in allowed:
            raise invalid(f"Received unknown parameter: {key}", key, "parameter_unknown")


def optional_text(form: Form, name: str, length_max: int = 5000) -> str | None:
    """A text parameter, or None. Raises Refusal (400) for a hash, an empty or an overlong text."""
    value = form.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise invalid(f"Invalid string: {name}", name)
    if not value:
        raise invalid(f"You passed an empty string for '{name}'.", name, "parameter_invalid_empty")
    if len(value) > length_max:
        raise invalid(f"Invalid string: {name} must be at most {length_max} characters", name)
    return value


def required_text(form: Form, name: str, length_max: int = 5000) -> str:
    """A text parameter that must be there. Raises Refusal (400)."""
    value = optional_text(form, name, length_max)
    if value is None:
        raise missing_param(name)
    return value


def optional_integer(form: Form, name: str) -> int | None:
    """A whole number, or None. Raises Refusal (400) for anything else."""
    text = optional_text(form, name)
    if text is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise invalid(f"Invalid integer: {text}", name, "parameter_invalid_integer")
    return int(text)


def required_integer(form: Form, name: str) -> int:
    """A whole number that must be there. Raises Refusal (400)."""
    value = optional_integer(form, name)
    if value is None:
        raise missing_param(name)
    return value


def optional_choice(form: Form, name: str, choices: tuple[str, ...]) -> str | None:
    """One of some words, or None. Raises Refusal (400) for another word."""
    value = optional_text(form, name)
    if value is not None and value not in choices:
        raise invalid(f"Invalid {name}: must be one of {', '.join(choices)}", name)
    return value


def optional_hash(form: Form, name: str) -> Mapping[str, str | Form]:
    """A nested parameter; empty when absent. Raises Refusal (400) for a plain value."""
    value = form.get(name, {})
    if isinstance(value, str):
        raise invalid(f"Invalid hash: {name}", name)
    return value


def text_within(form: Form, name: str, inner_name: str, default: str) -> str:
    """`name[inner_name]` of at most 100 characters, or the default. Raises Refusal (400)."""
    inner = dict(optional_hash(form, name))
    return optional_text(inner, inner_name, 100) or default
