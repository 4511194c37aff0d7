-- waive: what a trace was billed otherwise, or not at all.
update trace
   set waived_micros = waived_micros + :amount_micros
 where project_id = :project_id and trace_id = :trace_id
