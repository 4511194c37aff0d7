-- put_score_mark: the server says that a trace carries the score of a mark.
insert into score_mark (project_id, trace_id, run_id) values (:project_id, :trace_id, :run_id)
on conflict (project_id, trace_id) do update set run_id = excluded.run_id
