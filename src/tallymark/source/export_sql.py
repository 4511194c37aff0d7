"""What DuckDB is told about an export: tables of the few columns that billing reads, and how a trace is added up.

Every file, whatever its format, becomes a relation with Langfuse's column names; `projection` takes of it what is
needed, by the types that the engine found. Amounts are DECIMAL(38, 12), which holds whatever ClickHouse's
Decimal(18, 12) can, never a double. Times are whole milliseconds, by which both APIs give the same durations.
"""

from __future__ import annotations

from collections.abc import Mapping

from .export_files import ENRICHED, OBSERVATIONS, SCORES, TRACES
from .observations import TOKENS_MAX
from .rows import PENDING_TAG, PROCESSED_TAG
from .scores import PROCESSED, STATUS_NAME
from .sums import METADATA_CHARS_MAX, METADATA_KEYS

TEXT, TIME = "varchar", "bigint"
AMOUNT, AMOUNTS = "decimal(38, 12)", "map(varchar, decimal(38, 12))"
TEXTS, LIST = "map(varchar, varchar)", "varchar[]"
# Langfuse's columns, as what they are taken.
_TEXT_COLUMNS = (
    "id trace_id project_id parent_observation_id name trace_name user_id session_id release version environment "
    "public bookmarked provided_model_name observation_id string_value"
)
_COLUMNS = {
    **dict.fromkeys(_TEXT_COLUMNS.split(), TEXT),
    **dict.fromkeys(("start_time", "end_time", "timestamp", "updated_at"), TIME),
    "total_cost": AMOUNT,
    "cost_details": AMOUNTS,
    "usage_details": AMOUNTS,
    "metadata": TEXTS,
    "tags": LIST,
}
_TEXTUAL = ("varchar", "blob", "json")
_NUMBERS = ("total_cost", "cost_details", "usage_details")
# The years that core/clock.py believes.
_TIME_US_MIN, _TIME_US_MAX = -2_208_988_800_000_000, 221_845_392_000_000_000

# ---- tables

_OF_TRACE = (
    "name varchar, user_id varchar, session_id varchar, release varchar, version varchar, environment varchar, "
    "public boolean, bookmarked boolean, pending boolean, processed boolean, metadata varchar, problem varchar"
)
_OF_OBSERVATION = (
    f"trace_id varchar, id varchar, start_ms bigint, end_ms bigint, updated_us bigint, cost {AMOUNT}, tokens bigint"
)
TABLES = (
    f"create table enriched ({_OF_OBSERVATION}, synthetic boolean, root boolean, model varchar, {_OF_TRACE})",
    f"create table observation ({_OF_OBSERVATION}, problem varchar)",
    f"create table trace (trace_id varchar, timestamp_us bigint, updated_us bigint, {_OF_TRACE})",
    "create table score (trace_id varchar)",
    "create table unreadable (file varchar)",
)
_TRACE_FIELDS = (
    "nullif(user_id, ''), nullif(session_id, ''), nullif(release, ''), nullif(version, ''), nullif(environment, ''), "
    "coalesce(try_cast(public as boolean), false), coalesce(try_cast(bookmarked as boolean), false), "
    f"coalesce(list_contains(tags, '{PENDING_TAG}'), false), coalesce(list_contains(tags, '{PROCESSED_TAG}'), false), "
    "metadata_text, problem"
)
_TOKENS = "coalesce(usage_details['total'], list_sum(map_values(usage_details)), 0)"
_COST = "coalesce(cost_details['total'], list_sum(map_values(cost_details)))"
_OBSERVATION_FIELDS = "trace_id, id, start_time // 1000, end_time // 1000, coalesce(updated_at, 0)"
_IS_MARK = (
    f"name = '{STATUS_NAME}' and string_value = '{PROCESSED}' and nullif(observation_id, '') is null "
    "and trace_id is not null"
)
# By table of the export: the engine's table, which rows it takes, and what of them.
_TAKEN = {
    ENRICHED: (
        "enriched",
        "trace_id is not null and start_time is not null",
        f"{_OBSERVATION_FIELDS}, {_COST}, {_TOKENS}, id = 't-' || trace_id, parent_observation_id is null, "
        f"provided_model_name, trace_name, {_TRACE_FIELDS}",
    ),
    OBSERVATIONS: (
        "observation",
        # One without a trace is on no list of traces either.
        "start_time is not null",
        f"{_OBSERVATION_FIELDS}, total_cost, {_TOKENS}, problem",
    ),
    TRACES: ("trace", "timestamp is not null", f"id, timestamp, coalesce(updated_at, 0), name, {_TRACE_FIELDS}"),
    SCORES: ("score", _IS_MARK, "trace_id"),
}


# ---- from files to tables


def projection(table: str, relation: str, types: Mapping[str, str]) -> tuple[str, str]:
    """Two statements for a file of one of the export's tables: one takes what billing reads, one counts what it cannot.

    `relation` is how the engine reads the file, `types` are its columns. Both statements take $project_id; the second
    $file.
    """
    if set(types) == {"json"}:
        relation, types = _columns_of_json(relation)
    found = {name: kind.lower() for name, kind in types.items()}
    values = ", ".join(f"{_value(name, found)} as {name}" for name in _COLUMNS)
    named = f"(select {values}, {_problem_of_row(found)} as bad from {relation})"
    with_texts = f"(select *, {_metadata_text()} as metadata_text, {_problem()} as problem from {named})"
    into, wanted, taken = _TAKEN[table]
    own = "id is not null and project_id = $project_id"
    unreadable = f"insert into unreadable select $file from {named} where not coalesce({own} and {wanted}, false)"
    return (
        f"insert into {into} select {taken} from {with_texts} where {own} and {wanted}",
        unreadable if table != SCORES else "",
    )


def _columns_of_json(relation: str) -> tuple[str, dict[str, str]]:
    """JSON objects as columns. Numbers become decimals straight from their text; beside them stands what was told."""
    columns = {name: TEXT if kind == TIME else kind for name, kind in _COLUMNS.items()}
    told = dict.fromkeys(_NUMBERS, "json")
    shown = ", ".join([*(f"taken.{name}" for name in columns), *(f"told.{name} as {name}_told" for name in told)])
    objects = f"select json_transform(json, '{_spec(columns)}') as taken, json_transform(json, '{_spec(told)}') as told"
    return f"(select {shown} from ({objects} from {relation}))", {
        **columns,
        **{f"{name}_told": kind for name, kind in told.items()},
    }


def _spec(columns: Mapping[str, str]) -> str:
    kinds = {name: '["varchar"]' if kind == LIST else f'"{kind}"' for name, kind in columns.items()}
    return "{" + ", ".join(f'"{name}": {kind}' for name, kind in kinds.items()) + "}"


def _value(name: str, types: Mapping[str, str], kind: str = "") -> str:
    """A column as what it is to be; null if the file lacks it, or it cannot be that."""
    kind, told = kind or _COLUMNS[name], types.get(name)
    if told is None:
        return f"cast(null as {kind})"
    if told in _TEXTUAL:
        text = name if told == TEXT else f"cast({name} as varchar)"
        return _from_text(f"nullif({text}, 'null')" if told == "json" else text, kind)
    if kind == TIME:
        return f"epoch_us({name})" if told.startswith("timestamp") else "cast(null as bigint)"
    # To cast a map takes longer than all else; its values will do as they are.
    if told == kind or (kind == AMOUNTS and told.startswith("map(varchar, ") and "double" not in told):
        return name
    return f"try_cast({f'to_json({name})' if told.startswith('struct') else name} as {kind})"


def _from_text(text: str, kind: str) -> str:
    """A time without a zone is UTC, as ClickHouse writes it."""
    if kind == TIME:
        return f"epoch_us(try_cast({text} as timestamptz))"
    text = f"nullif({text}, '')"
    return {TEXT: text, AMOUNT: f"try_cast({text} as {AMOUNT})"}.get(
        kind, f"try_cast(try_cast({text} as json) as {kind})"
    )


def _problem_of_row(types: Mapping[str, str]) -> str:
    """The column of a row that is told and is not what it should be; null if there is none."""
    end = f"when {_value('end_time', types, TEXT)} is not null and {_value('end_time', types)} is null then 'end_time'"
    numbers = [f"when {_is_bad(name, types)} then '{name}'" for name in _NUMBERS if _may_be_bad(name, types)]
    return f"case {' '.join([*numbers, end])} end"


def _may_be_bad(name: str, types: Mapping[str, str]) -> bool:
    """Whether a number was told as text, or as JSON."""
    return types.get(name) in _TEXTUAL or f"{name}_told" in types


def _is_bad(name: str, types: Mapping[str, str]) -> str:
    """Whether something stands where a number should, and more than the engine could read."""
    told = f"{name}_told" if f"{name}_told" in types else name
    if _COLUMNS[name] == AMOUNT:
        return f"{_value(told, types, TEXT)} is not null and {_value(name, types)} is null"
    pair = [
        f"coalesce(list_count(map_values({each})), 0)" for each in (_value(told, types, TEXTS), _value(name, types))
    ]
    no_map = f"{_value(told, types, TEXT)} is not null and {_value(told, types, TEXTS)} is null"
    return f"({' <> '.join(pair)} or {no_map})"


def _metadata_text() -> str:
    """The billing keys as one JSON object of texts; null if there are none."""
    values = [f"metadata['{key}']" for key in METADATA_KEYS]
    fitting = ", ".join(
        f"'{key}', case when length({value}) <= {METADATA_CHARS_MAX} then {value} end"
        for key, value in zip(METADATA_KEYS, values, strict=True)
    )
    return f"case when coalesce({', '.join(values)}) is not null then cast(json_object({fitting}) as varchar) end"


def _problem() -> str:
    """What is wrong with the numbers of a row, in words; null if nothing is."""
    return (
        "case when bad is not null then 'the row is not as Langfuse writes it: ' || bad "
        f"when {_COST} < 0 or total_cost < 0 then 'the cost is negative' "
        f"when {_TOKENS} not between 0 and {TOKENS_MAX} then 'the token count is negative, or too large to be true' "
        f"when end_time not between {_TIME_US_MIN} and {_TIME_US_MAX} "
        f"or start_time not between {_TIME_US_MIN} and {_TIME_US_MAX} then 'its time is too far off to be true' end"
    )


# ---- from tables to traces
#
# What is kept of each trace while it is added up has a fixed size, so that the engine can put it on the disk: numbers,
# and of texts the number of the row that says it. Texts are fetched afterwards, for traces and not for observations.


def _drop_older(table: str) -> str:
    """A row that was written again comes twice, as does one on the edge of two files: the newest counts.

    They are rare and found by a hash of their key; what shares a hash by chance is looked at too, and is no repetition.
    """
    key = "trace_id, id"
    twice = f"select hash({key}) from {table} group by 1 having count(*) > 1"
    place = f"row_number() over (partition by {key} order by updated_us desc, rowid)"
    return (
        f"delete from {table} where rowid in (select found from (select rowid as found, {place} as place from {table} "
        f"where hash({key}) in ({twice})) where place > 1)"
    )


_REAL = "filter (not synthetic)"
_DURATION = "coalesce(max(greatest(start_ms, end_ms)) {real} - min(least(start_ms, end_ms)) {real}, 0)"
_IN_RANGE = "bool_or(start_ms * 1000 >= $from_us and start_ms * 1000 < $to_us)"


def _row_of(column: str) -> str:
    """The row that has the say: a root's first, of several the one that started last, as in core/readings.py."""
    # An id breaks ties, so that the same files always say the same.
    rank = "row(root or synthetic, start_ms, hash(id))"
    return f"arg_max(rowid, {rank}) filter ({column} is not null)"


_ENRICHED_SUMS = f"""
create table enriched_sums as
select trace_id,
       1000 * coalesce(min(start_ms) filter (synthetic), min(start_ms) filter (root), min(start_ms)) as timestamp_us,
       coalesce(sum(cost) {_REAL}, 0) as cost, {_DURATION.format(real=_REAL)} as duration_ms,
       coalesce(sum(tokens) {_REAL}, 0) as tokens,
       coalesce(bool_or(tokens > 0 and coalesce(cost, 0) = 0) {_REAL}, false) as unpriced,
       min(rowid) filter (problem is not null) as problem_row, bool_or(root or synthetic) as root_seen,
       {_row_of("trace_id")} as first_row, {_row_of("name")} as name_row, {_row_of("user_id")} as user_row,
       {_row_of("session_id")} as session_row, {_row_of("metadata")} as metadata_row,
       bool_or(public) as public, bool_or(bookmarked) as bookmarked,
       bool_or(pending) as pending, bool_or(processed) as processed,
       coalesce(min(hash(metadata)) <> max(hash(metadata)), false) as differs
  from enriched
 group by trace_id
having {_IN_RANGE}"""

_OTHER_ROWS = ("problem_row", "name_row", "user_row", "session_row", "metadata_row")
_SAID = """
create table said as
select rowid as row, name, user_id, session_id, release, version, environment, metadata, problem
  from enriched
 where rowid in (select first_row from enriched_sums)"""
_ELSEWHERE = " union all ".join(f"select {row} from enriched_sums where {row} <> first_row" for row in _OTHER_ROWS)
_SAID_ELSEWHERE = f"""
create table said_elsewhere as
select rowid as row, name, user_id, session_id, metadata, problem
  from enriched
 where rowid in ({_ELSEWHERE})"""
_DIFFERING = """
create table differing as
select trace_id, list(metadata order by metadata) as metadata
  from (select distinct trace_id, metadata from enriched
         where metadata is not null and trace_id in (select trace_id from enriched_sums where differs))
 group by trace_id"""
_MODELS = """
create table models as
select trace_id, list([model, cast(tokens as varchar)] order by model) as models
  from (select trace_id, model, sum(tokens) as tokens from enriched
         where tokens > 0 and not synthetic and $by_model group by trace_id, model)
 group by trace_id"""


def _text(column: str, row: str) -> str:
    return f"coalesce(first.{column}, {row}.{column})"


_ENRICHED_TRACES = f"""
select s.trace_id, s.timestamp_us, cast(s.cost as varchar), s.duration_ms, s.tokens, m.models, s.unpriced,
       {_text("problem", "problem_row")}, s.root_seen, {_text("name", "name_row")}, {_text("user_id", "user_row")},
       {_text("session_id", "session_row")}, first.release, first.version, first.environment, s.public, s.bookmarked,
       s.pending, s.processed, coalesce(d.metadata, [{_text("metadata", "metadata_row")}])
  from enriched_sums as s
  join said as first on first.row = s.first_row
  {" ".join(f"left join said_elsewhere as {row} on {row}.row = s.{row}" for row in _OTHER_ROWS)}
  left join differing as d on d.trace_id = s.trace_id
  left join models as m on m.trace_id = s.trace_id"""

_OBSERVATION_SUMS = f"""
create table observation_sums as
select trace_id, sum(cost) as cost, {_DURATION.format(real="")} as duration_ms, sum(tokens) as tokens,
       min(rowid) filter (problem is not null) as problem_row, {_IN_RANGE} as in_range
  from observation
 where trace_id is not null
 group by trace_id"""

# Two rows of one id on two dates are one trace, the earlier (flows/collect.py).
_TRACE_SUMS = """
create table trace_sums as
select trace_id, min(timestamp_us) as timestamp_us, arg_max(rowid, row(updated_us, timestamp_us)) as first_row,
       bool_or(pending) as pending, bool_or(processed) as processed
  from trace
 group by trace_id"""

_LEGACY_TRACES = """
select t.trace_id, t.timestamp_us, cast(coalesce(o.cost, 0) as varchar), coalesce(o.duration_ms, 0), null, null,
       coalesce(o.cost, 0) = 0 and coalesce(o.tokens, 0) > 0, p.problem, true,
       r.name, r.user_id, r.session_id, r.release, r.version, r.environment, r.public, r.bookmarked,
       t.pending, t.processed, [r.metadata]
  from trace_sums as t
  join trace as r on r.rowid = t.first_row
  left join observation_sums as o on o.trace_id = t.trace_id
  left join (select rowid as row, problem from observation where problem is not null) as p on p.row = o.problem_row
 where coalesce(o.in_range, false) or (t.timestamp_us >= $from_us and t.timestamp_us < $to_us)"""

ADD_UP = (
    _drop_older("enriched"),
    _drop_older("observation"),
    _ENRICHED_SUMS,
    _SAID,
    _SAID_ELSEWHERE,
    _DIFFERING,
    _MODELS,
    _OBSERVATION_SUMS,
    _TRACE_SUMS,
)
"""What is done, one after the other, before traces can be given. They take $from_us, $to_us and $by_model."""

_FIELDS = (
    "trace_id, timestamp_us, cost_usd, duration_ms, tokens, models, unpriced, problem, root_seen, name, user_id, "
    "session_id, release, version, environment, public, bookmarked, pending, processed, metadata"
)
SUMS = f"""
select $project_id, * exclude (metadata), trace_id in (select trace_id from score), metadata
  from (({_ENRICHED_TRACES}) union all ({_LEGACY_TRACES})) as t({_FIELDS})
 order by timestamp_us, trace_id"""
"""Each trace, as TraceSums names its fields; takes $project_id, $from_us and $to_us."""

ORPHANS = "select count(distinct trace_id) from observation where trace_id not in (select trace_id from trace)"
"""Traces of which only observations are known, where they need a row of their own."""
