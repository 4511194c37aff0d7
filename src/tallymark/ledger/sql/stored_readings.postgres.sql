-- stored_readings: what was read of traces before, to be merged with what is read now. Its time is the trace's own if the
-- root was there.
select t.project_id, t.trace_id, t.timestamp_us, t.root_seen, t.root_seen as dated_by_trace, t.name, t.user_id, t.session_id, t.release,
       t.version, t.environment, t.public, t.bookmarked, t.tags, t.attributes, t.marked
  from jsonb_array_elements(cast(:keys as jsonb)) as k
  join trace as t on t.project_id = k.value ->> 0 and t.trace_id = k.value ->> 1
