-- touch_trace: a billed trace was read again and nothing about it changed; it is not gone.
update trace
   set last_run_id = :run_id, result = :result, read_at_us = :now_us, marked = :marked, mark_state = :mark_state,
       reason = '', deleted_at_us = null
 where project_id = :project_id and trace_id = :trace_id
