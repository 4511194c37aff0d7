"""The `filter` parameter of the lists: JSON conditions on columns (facts/langfuse.md section 1.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tallymark.core.clock import parse_time

from .answers import invalid_data, invalid_request
from .issues import Issue, datetime_issues, invalid_option, no_discriminator, strings_issues, wrong_type
from .prices import cost_details
from .records import Scope, Trace
from .values import stored_text

Predicate = Callable[[Any], bool]
Read = Callable[[Any, Scope], Any]

_STRING_OPERATORS = ["=", "contains", "does not contain", "starts with", "ends with"]
_NUMBER_OPERATORS = ["=", ">", "<", ">=", "<="]
_BOOLEAN_OPERATORS = ["=", "<>"]
OPERATORS = {
    "datetime": [">", "<", ">=", "<="],
    "string": _STRING_OPERATORS,
    "number": _NUMBER_OPERATORS,
    "stringOptions": ["any of", "none of"],
    "arrayOptions": ["any of", "none of", "all of"],
    "categoryOptions": ["any of", "none of"],
    "stringObject": _STRING_OPERATORS,
    "numberObject": _NUMBER_OPERATORS,
    "booleanObject": _BOOLEAN_OPERATORS,
    "boolean": _BOOLEAN_OPERATORS,
    "null": ["is null", "is not null"],
}
_EMPTY_VALUE = (
    "Value array must not be empty unless operator is 'all of' or 'none of' (which represent waiting for selection)"
)


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a filter, checked.

    `key_must_exist`: metadata without the key never matches, as on version 4; on version 3 it counts as "" (facts/
    langfuse-observed.md item 14).
    """

    type: str
    column: str
    operator: str
    value: Any
    key: str | None
    key_must_exist: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A column that may be filtered: the condition types it takes, the parameters it replaces, how to read it."""

    types: tuple[str, ...]
    read: Read
    replaces: tuple[str, ...] = ()


def _attribute(name: str) -> Read:
    return lambda trace, _: getattr(trace, name)


def _tokens(kind: str) -> Read:
    return lambda trace, scope: sum((one.usage or {}).get(kind, 0) for one in scope.observations(trace.children))


def _cost(kind: str) -> Read:
    return lambda trace, scope: float(
        sum(cost_details(one.cost_usd, one.model, one.usage).get(kind, 0) for one in scope.observations(trace.children))
    )


def _categories(trace: Trace, scope: Scope) -> list[str]:
    return [f"{one.name}:{one.string_value}" for one in scope.scores(trace.children) if one.data_type == "CATEGORICAL"]


def _score_numbers(trace: Trace, scope: Scope) -> dict[str, float]:
    return {one.name: one.value for one in scope.scores(trace.children) if one.string_value is None}


def _score_booleans(trace: Trace, scope: Scope) -> dict[str, bool]:
    return {one.name: one.value == 1 for one in scope.scores(trace.children) if one.data_type == "BOOLEAN"}


def _string(name: str, parameter: str) -> Column:
    return Column(("string", "stringOptions", "null"), _attribute(name), (parameter,))


_NAME = Column(("string", "stringOptions", "null"), lambda trace, _: trace.name or "", ("name",))
_ID = _string("id", "")
_TAGS = Column(("arrayOptions",), _attribute("tags"), ("tags",))
_NUMBER = ("number",)
COLUMNS = {
    "id": _ID,
    "traceId": _ID,
    "name": _NAME,
    "traceName": _NAME,
    "timestamp": Column(("datetime",), _attribute("timestamp_us"), ("fromTimestamp", "toTimestamp")),
    "userId": _string("user_id", "userId"),
    "sessionId": _string("session_id", "sessionId"),
    "release": _string("release", "release"),
    "version": _string("version", "version"),
    "environment": _string("environment", "environment"),
    "tags": _TAGS,
    "traceTags": _TAGS,
    "metadata": Column(("stringObject",), _attribute("metadata")),
    "bookmarked": Column(("boolean",), _attribute("bookmarked")),
    "latency": Column(_NUMBER, lambda trace, scope: trace.children.totals(scope).latency_s),
    "totalCost": Column(_NUMBER, lambda trace, scope: trace.children.totals(scope).cost_usd),
    "inputCost": Column(_NUMBER, _cost("input")),
    "outputCost": Column(_NUMBER, _cost("output")),
    "inputTokens": Column(_NUMBER, _tokens("input")),
    "outputTokens": Column(_NUMBER, _tokens("output")),
    "totalTokens": Column(_NUMBER, _tokens("total")),
    "tokens": Column(_NUMBER, _tokens("total")),
    "scores": Column(("numberObject",), _score_numbers),
    "scores_avg": Column(("numberObject",), _score_numbers),
    "score_categories": Column(("categoryOptions",), _categories),
    "score_booleans": Column(("booleanObject",), _score_booleans),
}


def parse_filter(text: str, columns: Mapping[str, Column], *, key_must_exist: bool) -> list[Condition]:
    """The conditions of a `filter` parameter on a list with these columns. Raises Refusal with the server's own 400."""
    try:
        elements = msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise invalid_request("Invalid JSON in filter parameter") from None
    if not isinstance(elements, list):
        raise invalid_data([wrong_type(("filter",), "array", elements)])
    issues = [issue for index, element in enumerate(elements) for issue in _element_issues(index, element)]
    if issues:
        raise invalid_data(issues)
    return [_condition(element, columns, key_must_exist=key_must_exist) for element in elements]


def _element_issues(index: int, element: Any) -> list[Issue]:
    path = ("filter", index)
    if not isinstance(element, Mapping):
        return [wrong_type(path, "object", element)]
    if element.get("type") not in OPERATORS:
        return [no_discriminator((*path, "type"))]
    issues: list[Issue] = []
    if not isinstance(element.get("column"), str):
        issues.append(wrong_type((*path, "column"), "string", element.get("column")))
    if element.get("operator") not in OPERATORS[element["type"]]:
        issues.append(invalid_option((*path, "operator"), OPERATORS[element["type"]]))
    return issues + _value_issues(path, element)


def _value_issues(path: tuple[str, int], element: Mapping[str, Any]) -> list[Issue]:
    kind, value = element["type"], element.get("value")
    if kind == "datetime":
        return datetime_issues((*path, "value"), value)
    if kind in ("arrayOptions", "stringOptions", "categoryOptions"):
        if value == [] and element.get("operator") == "any of":
            return [{"code": "custom", "path": list(path), "message": _EMPTY_VALUE}]
        return strings_issues((*path, "value"), value)
    return _scalar_issues(path, kind, value)


def _scalar_issues(path: tuple[str, int], kind: str, value: Any) -> list[Issue]:
    expected, types = {
        "number": ("number", (int, float)),
        "numberObject": ("number", (int, float)),
        "boolean": ("boolean", (bool,)),
        "booleanObject": ("boolean", (bool,)),
    }.get(kind, ("string", (str,)))
    fits = isinstance(value, types) and (expected == "boolean" or not isinstance(value, bool))
    return [] if fits else [wrong_type((*path, "value"), expected, value)]


def _condition(element: Mapping[str, Any], columns: Mapping[str, Column], *, key_must_exist: bool) -> Condition:
    column = columns.get(element["column"])
    if column is None:
        raise invalid_request(f"Column {element['column']} does not match a UI / CH table mapping.")
    if element["type"] not in column.types:
        expected = "' or '".join(column.types)
        raise invalid_request(
            f"Invalid filter type '{element['type']}' for column '{element['column']}'. "
            f"Expected filter type '{expected}'."
        )
    value = parse_time(element["value"]) if element["type"] == "datetime" else element["value"]
    value = tuple(value) if isinstance(value, list) else value
    key = element.get("key")
    return Condition(element["type"], element["column"], element["operator"], value, key, key_must_exist)


def predicate(condition: Condition, scope: Scope, columns: Mapping[str, Column] = COLUMNS) -> Predicate:
    """A test of one record of the list with these columns; that of the traces, if nothing is said."""
    read, test = columns[condition.column].read, _TESTS[condition.type](condition)
    return lambda record: test(read(record, scope))


Test = Callable[[Any], bool]


def _string_test(condition: Condition) -> Test:
    compare = _STRING_TESTS[condition.operator]
    return lambda text: text is not None and compare(text, condition.value)


def _number_test(condition: Condition) -> Test:
    compare = _NUMBER_TESTS[condition.operator]
    return lambda number: bool(compare(number, condition.value))


def _options_test(condition: Condition) -> Test:
    options, wanted = frozenset(condition.value), condition.operator == "any of"
    return lambda text: text is not None and (text in options) == wanted


def _array_test(condition: Condition) -> Test:
    options = frozenset(condition.value)
    if condition.operator == "all of":
        return options.issubset
    if condition.operator == "any of":
        return lambda items: not options.isdisjoint(items)
    return options.isdisjoint


def _category_test(condition: Condition) -> Test:
    options, wanted = frozenset(f"{condition.key}:{value}" for value in condition.value), condition.operator == "any of"
    return lambda items: options.isdisjoint(items) != wanted


def _metadata_test(condition: Condition) -> Test:
    compare, key = _STRING_TESTS[condition.operator], condition.key or ""
    if condition.key_must_exist:
        return lambda metadata: key in metadata and compare(stored_text(metadata[key]), condition.value)
    return lambda metadata: compare(stored_text(metadata[key]) if key in metadata else "", condition.value)


def _score_number_test(condition: Condition) -> Test:
    compare, key = _NUMBER_TESTS[condition.operator], condition.key or ""
    return lambda scores: key in scores and bool(compare(scores[key], condition.value))


def _score_boolean_test(condition: Condition) -> Test:
    key, wanted = condition.key or "", condition.operator == "="
    return lambda scores: (scores.get(key) == condition.value) == wanted


def _boolean_test(condition: Condition) -> Test:
    wanted = condition.value if condition.operator == "=" else not condition.value
    return lambda flag: flag is wanted


def _null_test(condition: Condition) -> Test:
    wanted = condition.operator == "is null"
    return lambda value: (value is None) == wanted


_STRING_TESTS: dict[str, Callable[[str, str], bool]] = {
    "=": lambda text, value: text == value,
    "contains": lambda text, value: value in text,
    "does not contain": lambda text, value: value not in text,
    "starts with": lambda text, value: text.startswith(value),
    "ends with": lambda text, value: text.endswith(value),
}
_NUMBER_TESTS: dict[str, Callable[[Any, Any], Any]] = {
    "=": lambda number, value: number == value,
    ">": lambda number, value: number > value,
    "<": lambda number, value: number < value,
    ">=": lambda number, value: number >= value,
    "<=": lambda number, value: number <= value,
}
_TESTS: dict[str, Callable[[Condition], Test]] = {
    "datetime": _number_test,
    "string": _string_test,
    "number": _number_test,
    "stringOptions": _options_test,
    "arrayOptions": _array_test,
    "categoryOptions": _category_test,
    "stringObject": _metadata_test,
    "numberObject": _score_number_test,
    "booleanObject": _score_boolean_test,
    "boolean": _boolean_test,
    "null": _null_test,
}
