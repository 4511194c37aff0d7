-- put_reading: the merged reading of a trace that is not decided yet.
insert into reading (project_id, trace_id, timestamp_us, root_seen, dated_by_trace, complete, name, user_id, session_id,
                     release, version, environment, public, bookmarked, tags, attributes, marked, staged_by)
values (:project_id, :trace_id, :timestamp_us, :root_seen, :dated_by_trace, :complete, :name, :user_id, :session_id,
        :release, :version, :environment, :public, :bookmarked, :tags, :attributes, :marked, :staged_by)
on conflict (project_id, staged_by, trace_id) do update
   set timestamp_us = excluded.timestamp_us, root_seen = excluded.root_seen, dated_by_trace = excluded.dated_by_trace,
       complete = case when excluded.complete = 1 then 1 else reading.complete end, name = excluded.name, user_id = excluded.user_id,
       session_id = excluded.session_id, release = excluded.release, version = excluded.version,
       environment = excluded.environment, public = excluded.public, bookmarked = excluded.bookmarked,
       tags = excluded.tags, attributes = excluded.attributes, marked = excluded.marked
