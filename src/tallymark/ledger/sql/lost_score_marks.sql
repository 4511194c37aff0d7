-- lost_score_marks: marks by score that were written long enough ago to be seen, and that the server did not list. That of a
-- trace that is deleted went with it.
update trace
   set mark_state = 'owed'
 where project_id = :project_id and timestamp_us >= :from_us and timestamp_us < :to_us and mark_state = 'written'
   and mark_written_at_us < :written_before_us and deleted_at_us is null
   and not exists (select 1 from score_mark as s
                    where s.project_id = trace.project_id and s.trace_id = trace.trace_id and s.run_id = :run_id)
