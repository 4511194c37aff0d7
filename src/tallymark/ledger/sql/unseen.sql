-- unseen: billed traces of a range that a run did not meet, and that are not known to be gone for good, by id.
select trace_id
  from trace
 where project_id = :project_id and trace_id > :after_trace_id and timestamp_us >= :from_us and timestamp_us < :to_us
   and outcome = 'billed' and generation = :generation and last_run_id <> :run_id
   and (deleted_at_us is null or reason = 'deleted')
 order by trace_id
 limit :limit
