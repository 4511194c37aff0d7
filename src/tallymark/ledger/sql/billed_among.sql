-- billed_among: which of a batch of traces are billed; named by a JSON list of [project_id, trace_id].
select t.project_id, t.trace_id
  from json_each(:keys) as k
  join trace as t on t.project_id = json_extract(k.value, '$[0]') and t.trace_id = json_extract(k.value, '$[1]')
 where t.outcome = 'billed'
