-- waive_trace: a held trace is not billed, by a decision.
update trace
   set outcome = 'skipped', reason = 'waived', result = 'waived', detail = :detail
 where project_id = :project_id and trace_id = :trace_id and outcome = 'held'
