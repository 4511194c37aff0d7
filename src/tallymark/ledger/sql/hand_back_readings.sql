-- hand_back_readings: what a plan's parts staged and left is for the next reader to decide.
update reading
   set staged_by = ''
 where staged_by >= :plan_id || '/' and staged_by < :plan_id || '0'
   and not exists (select 1 from reading as other
                    where other.project_id = reading.project_id and other.trace_id = reading.trace_id
                      and (other.staged_by = '' or other.staged_by > reading.staged_by
                                                   and other.staged_by < :plan_id || '0'))
