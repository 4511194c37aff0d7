-- deleted_in: billed traces of a range that wait because they are gone, by id.
select trace_id
  from trace
 where project_id = :project_id and trace_id > :after_trace_id and timestamp_us >= :from_us and timestamp_us < :to_us
   and outcome = 'billed' and generation = :generation and reason = 'deleted'
 order by trace_id
 limit :limit
