-- await_marks: traces of a meter event whose money is no longer accepted wait for it again (G5). A mark that is written
-- stays on the trace; it is written again when the money is accepted again.
update trace
   set mark_state = 'waiting'
 where (project_id, trace_id) in (select project_id, trace_id from entry where meter_event_id = :meter_event_id)
   and mark_state in ('owed', 'written')
