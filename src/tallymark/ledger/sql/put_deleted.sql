-- put_deleted: a billed trace is gone in Langfuse; with reason 'deleted' it waits for a person. It gets no mark any more, which
-- would make a new trace of its id; and should it come back, its usage is compared anew.
update trace
   set deleted_at_us = :now_us, reason = :reason, worth_micros = :billed_micros, billed_micros = :billed_micros,
       cost_usd = null, duration_s = null,
       mark_state = case mark_state when 'waiting' then '' when 'owed' then 'written' else mark_state end
 where project_id = :project_id and trace_id = :trace_id
