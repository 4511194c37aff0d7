-- score_marks: which traces of a batch, named by a JSON list of [project_id, trace_id], carry the score of a mark.
select s.project_id, s.trace_id
  from json_each(:keys) as k
  join score_mark as s on s.project_id = json_extract(k.value, '$[0]') and s.trace_id = json_extract(k.value, '$[1]')
