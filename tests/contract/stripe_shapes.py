"""Checks an answer against the part of Stripe's OpenAPI in tests/golden/stripe: keys, types, enums and lengths."""

import json
from pathlib import Path

DOCUMENT = json.loads((Path(__file__).parents[1] / "golden" / "stripe" / "meters-openapi.json").read_text())
KINDS = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}


def problems(route, content):
    """What is wrong with the JSON of a 200 answer of "METHOD /template" ("error": of a refusal), as sentences."""
    return list(_check(DOCUMENT["responses"][route], content, "answer"))


def _check(schema, value, place):
    if "$ref" in schema:
        schema = DOCUMENT["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in schema:
        yield from _check_any(schema, value, place)
    elif value is None:
        if not schema.get("nullable"):
            yield f"{place} is null"
    else:
        yield from _check_value(schema, value, place)


def _check_any(schema, value, place):
    if value is None and schema.get("nullable"):
        return
    if all(list(_check(option, value, place)) for option in schema["anyOf"]):
        yield f"{place} fits none of its schemas"


def _check_value(schema, value, place):
    kind = KINDS[schema["type"]]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        yield f"{place} is {value!r}, not {schema['type']}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place} is {value!r}, not one of {schema['enum']}"
    if len(value if isinstance(value, str) else "") > schema.get("maxLength", 10**9):
        yield f"{place} is too long"
    if isinstance(value, dict):
        yield from _check_object(schema, value, place)
    if isinstance(value, list):
        for position, item in enumerate(value):
            yield from _check(schema["items"], item, f"{place}[{position}]")


def _check_object(schema, value, place):
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{place}.{name} is missing"
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name, inner in value.items():
        if name in known:
            yield from _check(known[name], inner, f"{place}.{name}")
        elif isinstance(others, dict):
            yield from _check(others, inner, f"{place}.{name}")
        elif known:
            yield f"{place}.{name} is not in Stripe's schema"
