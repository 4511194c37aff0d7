-- kept_and_deleted: how many billed traces of a range are there, and how many wait because they are gone; the oldest of each.
select count(case when reason = '' then 1 end) as kept, min(case when reason = '' then timestamp_us end) as oldest_kept_us,
       count(case when reason = 'deleted' then 1 end) as deleted,
       min(case when reason = 'deleted' then timestamp_us end) as oldest_deleted_us
  from trace
 where project_id = :project_id and timestamp_us >= :from_us and timestamp_us < :to_us
   and outcome = 'billed' and generation = :generation and (deleted_at_us is null or reason = 'deleted')
