-- sent_since_settled: whether a meter event was sent again after its doubt was settled.
select count(*) as times
  from decision as d
  join attempt as a on a.meter_event_id = d.subject and a.sent_at_us >= d.at_us
 where d.subject_kind = 'meter_event' and d.subject = :meter_event_id and d.verb = 'settle'
