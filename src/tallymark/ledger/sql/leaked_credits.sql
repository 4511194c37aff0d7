-- leaked_credits: what was recorded before a moment and is neither sent nor held: lines without a meter event, and meter events
-- that do not leave. A meter event that is carried, or held, or in doubt, is told elsewhere.
select (select cast(coalesce(sum(amount_micros), 0) as bigint) from entry
         where meter_event_id is null and created_at_us < :before_us)
     + (select cast(coalesce(sum(entries_micros), 0) as bigint) from meter_event
         where state in ('pending', 'sending') and created_at_us < :before_us) as amount_micros
