-- score_marks: which traces of a batch, named by a JSON list of [project_id, trace_id], carry the score of a mark.
select s.project_id, s.trace_id
  from jsonb_array_elements(cast(:keys as jsonb)) as k
  join score_mark as s on s.project_id = k.value ->> 0 and s.trace_id = k.value ->> 1
