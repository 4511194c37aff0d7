"""The query parameters of the lists, checked with the server's words (facts/langfuse.md section 1.1, golden 04, 05)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tallymark.core.clock import parse_time

from .answers import invalid_data, invalid_request
from .filters import COLUMNS, Condition, parse_filter
from .issues import Issue, datetime_issues, invalid_option, wrong_type
from .records import Scope

Pairs = tuple[tuple[str, str], ...]

GROUPS = ("core", "io", "scores", "observations", "metrics")
ALL_GROUPS = frozenset(GROUPS)
LIMIT_MAX = 100
LIMIT_DEFAULT = 50
ORDER_COLUMNS = {
    "id": "id",
    "timestamp": "timestamp_us",
    "name": "name",
    "userId": "user_id",
    "release": "release",
    "version": "version",
    "public": "public",
    "bookmarked": "bookmarked",
    "sessionId": "session_id",
}
_EXACT = ("userId", "name", "sessionId", "version", "release")


@dataclass(frozen=True, slots=True)
class Page:
    """Which page of a list, from 1."""

    number: int
    limit: int

    @property
    def start(self) -> int:
        """The position of its first row."""
        return (self.number - 1) * self.limit

    def meta(self, total_items: int) -> dict[str, int]:
        """The `meta` of a list answer."""
        pages = -(-total_items // self.limit)
        return {"page": self.number, "limit": self.limit, "totalItems": total_items, "totalPages": pages}


@dataclass(frozen=True, slots=True)
class TraceQuery:
    """A checked question to the trace list. Times are microseconds; the window is closed below and open above."""

    page: Page
    groups: frozenset[str]
    from_us: int | None
    to_us: int | None
    conditions: tuple[Condition, ...]
    scope: Scope
    order_field: str
    descending: bool

    @property
    def selection(self) -> tuple[object, ...]:
        """What decides which rows in which order, without page and fields."""
        return (self.from_us, self.to_us, self.conditions, self.scope, self.order_field, self.descending)


class Parameters:
    """Query parameters with a list of what is wrong with them."""

    def __init__(self, pairs: Pairs) -> None:
        self.issues: list[Issue] = []
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def all(self, name: str) -> list[str]:
        """Every value of a parameter."""
        return self._values.get(name, [])

    def one(self, name: str) -> str | None:
        """The value of a parameter that may be given once; an empty one counts as not given."""
        values = self.all(name)
        if len(values) > 1:
            self.issues.append(wrong_type((name,), "string", values))
        return values[0] or None if values else None

    def items(self, name: str) -> list[str]:
        """The values of a parameter that may be repeated or separated by commas."""
        values = self.all(name)
        return values[0].split(",") if len(values) == 1 else values

    def time_us(self, name: str) -> int | None:
        """A moment, ISO-8601 with a zone."""
        text = self.one(name)
        issues = datetime_issues((name,), text) if text else []
        self.issues.extend(issues)
        return parse_time(text) if text and not issues else None

    def page(self) -> Page:
        """`page` and `limit`."""
        number = self._integer("page", 1, _page_issue)
        return Page(number, self.limit(minimum=1, maximum=LIMIT_MAX))

    def limit(self, *, minimum: int, maximum: int) -> int:
        """`limit`, within the bounds of the list."""
        return self._integer("limit", LIMIT_DEFAULT, lambda value: _limit_issue(value, minimum, maximum))

    def refuse_if_wrong(self) -> None:
        """Raises Refusal if anything was wrong so far."""
        if self.issues:
            raise invalid_data(self.issues)

    def _integer(self, name: str, default: int, check: Callable[[int], Issue | None]) -> int:
        text = self.one(name)
        if text is None:
            return default
        value, issue = _read_integer(name, text)
        issue = issue or check(value)
        self.issues.extend([issue] if issue else [])
        return value


def _read_integer(name: str, text: str) -> tuple[int, Issue | None]:
    try:
        number = float(text)
    except ValueError:
        message = "Invalid input: expected number, received NaN"
        start = {"expected": "number", "code": "invalid_type", "received": "NaN"}
        return 0, {**start, "path": [name], "message": message}
    if number.is_integer():
        return int(number), None
    message = "Invalid input: expected int, received number"
    return 0, {"expected": "int", "format": "safeint", "code": "invalid_type", "path": [name], "message": message}


def _page_issue(value: int) -> Issue | None:
    return None if value > 0 else _too_small("page", 0, inclusive=False)


def _limit_issue(value: int, minimum: int, maximum: int) -> Issue | None:
    if value > maximum:
        message = f"Too big: expected number to be <={maximum}"
        start = {"origin": "number", "code": "too_big", "maximum": maximum, "inclusive": True}
        return {**start, "path": ["limit"], "message": message}
    return None if value >= minimum else _too_small("limit", minimum, inclusive=True)


def _too_small(name: str, minimum: int, *, inclusive: bool) -> Issue:
    message = f"Too small: expected number to be >{'=' if inclusive else ''}{minimum}"
    start = {"origin": "number", "code": "too_small", "minimum": minimum, "inclusive": inclusive}
    return {**start, "path": [name], "message": message}


def read_groups(given: list[str], default: frozenset[str] = ALL_GROUPS) -> frozenset[str]:
    """The field groups asked for: unknown names are dropped, none left means all (facts/langfuse.md section 1.3)."""
    if not given:
        return default
    return frozenset(",".join(given).split(",")) & ALL_GROUPS or ALL_GROUPS


def trace_query(
    pairs: Pairs, *, default_groups: frozenset[str], reject_no_date_range: bool, key_must_exist: bool
) -> TraceQuery:
    """Check the parameters of GET /traces. Raises Refusal with the server's 400.

    `key_must_exist`: as `filters.Condition` has it.
    """
    given = Parameters(pairs)
    page = given.page()
    plain = {name: text for name in _EXACT if (text := given.one(name))}
    from_us, to_us = given.time_us("fromTimestamp"), given.time_us("toTimestamp")
    order_field, descending = _order(given)
    filters = [
        one for text in given.all("filter")[:1] for one in parse_filter(text, COLUMNS, key_must_exist=key_must_exist)
    ]
    given.refuse_if_wrong()
    if reject_no_date_range and from_us is None:
        raise invalid_request(
            "fromTimestamp is required. Set the fromTimestamp query parameter to filter traces by date."
        )
    # A filter on a column replaces the plain parameter of that column (facts/langfuse-observed.md item 14).
    replaced = {name for condition in filters for name in COLUMNS[condition.column].replaces}
    if "fromTimestamp" in replaced:
        from_us, to_us = None, None
    conditions = [*_plain_conditions(given, plain, replaced), *filters]
    scope = Scope(_scope_start(from_us, filters), _scope_environments(given, replaced))
    groups = read_groups(given.all("fields"), default_groups)
    return TraceQuery(page, groups, from_us, to_us, tuple(conditions), scope, order_field, descending)


def _order(given: Parameters) -> tuple[str, bool]:
    text = given.one("orderBy")
    if text is None:
        return "timestamp_us", True
    column, _, direction = text.partition(".")
    if direction not in ("asc", "desc"):
        given.issues.append(invalid_option(("orderBy", "order"), ["ASC", "DESC"]))
        return "timestamp_us", True
    if column not in ORDER_COLUMNS:
        given.refuse_if_wrong()
        raise invalid_request(f"Invalid order by column: {column}")
    return ORDER_COLUMNS[column], direction == "desc"


def _plain_conditions(given: Parameters, plain: dict[str, str], replaced: set[str]) -> list[Condition]:
    conditions = [Condition("string", name, "=", text, None) for name, text in plain.items()]
    if given.all("tags"):
        conditions.append(Condition("arrayOptions", "tags", "all of", tuple(given.items("tags")), None))
    if environments := [text for text in given.items("environment") if text]:
        conditions.append(Condition("stringOptions", "environment", "any of", tuple(environments), None))
    return [condition for condition in conditions if condition.column not in replaced]


def _scope_start(from_us: int | None, filters: list[Condition]) -> int | None:
    lower = [one.value for one in filters if one.column == "timestamp" and one.operator in (">", ">=")]
    return from_us if from_us is not None else max(lower, default=None)


def _scope_environments(given: Parameters, replaced: set[str]) -> frozenset[str] | None:
    environments = frozenset(text for text in given.items("environment") if text)
    return environments if environments and "environment" not in replaced else None
