-- mark_written: the server took the mark. A mark that is no longer owed is left alone.
update trace
   set mark_state = 'written', mark_written_at_us = :now_us, mark_problem = null
 where project_id = :project_id and trace_id = :trace_id and mark_state = 'owed'
