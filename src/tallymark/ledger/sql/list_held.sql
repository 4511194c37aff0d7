-- list_held: traces that wait for a person, one reason or all.
select project_id, trace_id, timestamp_us, reason, detail, customer_id, user_id, amount_micros, read_at_us
  from (select project_id, trace_id, timestamp_us, reason, detail, customer_id, user_id, worth_micros as amount_micros, read_at_us
          from trace
         where reason <> '' and outcome = 'held'
         union all
        select project_id, trace_id, timestamp_us, reason, 'it is gone in Langfuse' as detail, customer_id, user_id,
               billed_micros as amount_micros, read_at_us
          from trace
         where reason <> '' and outcome = 'billed' and reason = 'deleted') as waiting
 where :reason = '' or reason = :reason
 order by reason, timestamp_us, project_id, trace_id
 limit :limit
