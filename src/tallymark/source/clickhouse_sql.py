"""What a ClickHouse of Langfuse is asked: whole traces, added up by it, one row each as TraceSums names them.

Facts: facts/langfuse.md sections 10.2 to 10.4. A row that was written twice stands there twice until it is merged, so
the newest version of each is taken first, and what is deleted is left out after. Values are bound by the server
(`{name:Type}`), times are microseconds, amounts leave as text.
"""

from __future__ import annotations

from .observations import TOKENS_MAX
from .rows import PENDING_TAG, PROCESSED_TAG
from .scores import PROCESSED, STATUS_NAME
from .sums import METADATA_KEYS

IN_WINDOW = (
    "{column} >= fromUnixTimestamp64Micro({{from_us:Int64}}) and {column} < fromUnixTimestamp64Micro({{to_us:Int64}})"
)
IN_REACH = (
    "and start_time >= fromUnixTimestamp64Micro({from_us:Int64} - {reach_us:Int64}) "
    "and start_time < fromUnixTimestamp64Micro({to_us:Int64} + {reach_us:Int64})"
)
CHANGED = "greatest(updated_at, event_ts) >= fromUnixTimestamp64Micro({since_us:Int64})"
NAMED = "has({{ids:Array(String)}}, {id})"
_KEYS = ", ".join(f"'{key}'" for key in METADATA_KEYS)
_IS_ROOT = "(parent_span_id = '' or span_id = concat('t-', trace_id))"
_NO_MODELS = "cast([] as Array(Tuple(String, Int64)))"
_PROBLEM = (
    f"multiIf(cost < 0, 'the cost is negative', tokens > {TOKENS_MAX}, 'the token count is too large to be true', null)"
)
_DURATION = "max(greatest(start_ms, ifNull(end_ms, start_ms))) - min(least(start_ms, ifNull(end_ms, start_ms)))"
_MARKED_BY_SCORE = f"""
    select trace_id
      from (select trace_id, observation_id, name, string_value, is_deleted
              from scores
             where project_id = {{project_id:String}} and name = '{STATUS_NAME}'
             order by event_ts desc
             limit 1 by id)
     where is_deleted = 0 and string_value = '{PROCESSED}' and ifNull(observation_id, '') = ''
       and trace_id is not null"""


def _metadata(pairs: str) -> str:
    """The billing keys of pairs of texts as JSON."""
    return f"toJSONString(cast(arrayFilter(pair -> pair.1 in ({_KEYS}), {pairs}) as Map(String, String)))"


# ---- the events tables


def _said(column: str) -> str:
    """The root's word is first, of several the one that started last, as the API gives them (core/readings.py)."""
    return f"nullIf(argMaxIf({column}, (is_root, start_ms, span_id), {column} != ''), '')"


def events(table: str, chosen: str, bounds: str, *, by_model: bool) -> str:
    """The traces of an events table of which one row is `chosen`, added up over all their rows within `bounds`.

    `table` is events_full or events_core; takes {project_id}, and what `chosen` and `bounds` take.
    """
    models = "arrayZip(mapKeys(by_model), mapValues(by_model))" if by_model else _NO_MODELS
    return f"""
select {{project_id:String}}, trace_id, 1000 * at_ms, toString(cost_usd), duration_ms, tokens_used,
       {models}, is_unpriced, any_problem, is_rooted, the_name, the_user, the_session, the_release, the_version,
       the_environment, false, false, is_pending, is_processed, trace_id in ({_MARKED_BY_SCORE}), texts
  from (
select trace_id, if(countIf(synthetic) > 0, minIf(start_ms, synthetic),
                    if(countIf(is_root) > 0, minIf(start_ms, is_root), min(start_ms))) as at_ms,
       sumIf(cost, not synthetic) as cost_usd,
       if(countIf(not synthetic) = 0, 0,
          maxIf(greatest(start_ms, ifNull(end_ms, start_ms)), not synthetic)
          - minIf(least(start_ms, ifNull(end_ms, start_ms)), not synthetic)) as duration_ms,
       toInt64(sumIf(tokens, not synthetic)) as tokens_used,
       sumMapIf(map(model, toInt64(tokens)), tokens > 0 and not synthetic) as by_model,
       countIf(tokens > 0 and cost = 0 and not synthetic) > 0 as is_unpriced, any({_PROBLEM}) as any_problem,
       max(is_root) as is_rooted, {_said("trace_name")} as the_name, {_said("user_id")} as the_user,
       {_said("session_id")} as the_session, {_said("release")} as the_release, {_said("version")} as the_version,
       {_said("environment")} as the_environment, max(has(tags, '{PENDING_TAG}')) as is_pending,
       max(has(tags, '{PROCESSED_TAG}')) as is_processed,
       arraySort(groupUniqArrayIf(metadata, metadata != '{{}}')) as texts
  from (select trace_id, span_id, toUnixTimestamp64Milli(start_time) as start_ms,
               toUnixTimestamp64Milli(end_time) as end_ms, span_id = concat('t-', trace_id) as synthetic,
               {_IS_ROOT} as is_root, trace_name, user_id, session_id, release, version, environment, tags, is_deleted,
               provided_model_name as model,
               if(mapContains(cost_details, 'total'), toDecimal128(cost_details['total'], 12),
                  arraySum(arrayMap(each -> toDecimal128(each, 12), mapValues(cost_details)))) as cost,
               if(mapContains(usage_details, 'total'), usage_details['total'],
                  arraySum(mapValues(usage_details))) as tokens,
               {_metadata("arrayZip(metadata_names, metadata_values)")} as metadata
          from {table}
         where project_id = {{project_id:String}} {bounds}
           and trace_id in (select trace_id from {table} where project_id = {{project_id:String}} and {chosen})
         order by event_ts desc
         limit 1 by trace_id, span_id)
 where is_deleted = 0
 group by trace_id)
 order by at_ms, trace_id"""


# ---- the tables of before


def legacy(chosen_traces: str, chosen_observations: str, bounds: str) -> str:
    """The traces of the tables `traces` and `observations` of which one row is chosen, as the trace list tells them.

    Takes {project_id}, and what the conditions take; `bounds` narrows the observations.
    """
    ids = f"""
    select id from traces where project_id = {{project_id:String}} and {chosen_traces}
     union distinct
    select trace_id from observations
     where project_id = {{project_id:String}} and trace_id is not null and {chosen_observations}"""
    return f"""
select {{project_id:String}}, t.id, 1000 * t.at_ms, toString(o.cost_usd), o.duration_ms, null, {_NO_MODELS},
       o.cost_usd = 0 and o.tokens_used > 0, o.any_problem, true, t.the_name, t.the_user, t.the_session, t.the_release,
       t.the_version, t.the_environment, t.is_public, t.is_bookmarked, t.is_pending, t.is_processed,
       t.id in ({_MARKED_BY_SCORE}), [t.text]
  from (
    select id, min(toUnixTimestamp64Milli(timestamp)) as at_ms, argMax(name, event_ts) as the_name,
           argMax(ifNull(user_id, ''), event_ts) as the_user, argMax(ifNull(session_id, ''), event_ts) as the_session,
           argMax(ifNull(release, ''), event_ts) as the_release, argMax(ifNull(version, ''), event_ts) as the_version,
           argMax(environment, event_ts) as the_environment, argMax(public, event_ts) as is_public,
           argMax(bookmarked, event_ts) as is_bookmarked, argMax(has(tags, '{PENDING_TAG}'), event_ts) as is_pending,
           argMax(has(tags, '{PROCESSED_TAG}'), event_ts) as is_processed,
           argMax({_metadata("arrayZip(mapKeys(metadata), mapValues(metadata))")}, event_ts) as text
      from traces
     where project_id = {{project_id:String}} and id in ({ids})
     group by id
    having argMax(is_deleted, event_ts) = 0) as t
  left join (
    select trace_id, sum(ifNull(cost, toDecimal128(0, 12))) as cost_usd, {_DURATION} as duration_ms,
           sum(tokens) as tokens_used, any({_PROBLEM}) as any_problem
      from (select trace_id, toUnixTimestamp64Milli(start_time) as start_ms, toUnixTimestamp64Milli(end_time) as end_ms,
                   toDecimal128(total_cost, 12) as cost, is_deleted,
                   if(mapContains(usage_details, 'total'), usage_details['total'],
                      arraySum(mapValues(usage_details))) as tokens
              from observations
             where project_id = {{project_id:String}} and trace_id in ({ids}) {bounds}
             order by event_ts desc
             limit 1 by id)
     where is_deleted = 0
     group by trace_id) as o on o.trace_id = t.id
 order by t.at_ms, t.id"""
