-- trace_sums: each trace with what its entries come to, how many are not settled, and how many of those above zero Stripe has
-- never accepted. What a decision has put into another bucket may come after a mark, and what Stripe took back was accepted.
select t.project_id, t.trace_id, t.mark_state, t.billed_micros, t.waived_micros, t.deleted_at_us,
       coalesce(e.entries_billed_micros, 0) as entries_billed_micros,
       coalesce(e.entries_waived_micros, 0) as entries_waived_micros, coalesce(e.unsettled, 0) as unsettled,
       coalesce(e.unaccepted, 0) as unaccepted
  from trace as t
  left join (select l.project_id, l.trace_id,
                    cast(sum(case when l.kind in ('waiver', 'invoiced') then 0 else l.amount_micros end) as bigint)
                      as entries_billed_micros,
                    cast(-sum(case when l.kind in ('waiver', 'invoiced') then l.amount_micros else 0 end) as bigint)
                      as entries_waived_micros,
                    sum(case when coalesce(m.state, 'open') in ('accepted', 'carried', 'cancelled') then 0 else 1 end) as unsettled,
                    sum(case when coalesce(m.state, 'open') in ('accepted', 'carried', 'cancelling', 'cancelled') then 0
                             when m.reported_at_us is not null or m.reissue > 0 or l.kind = 'rebooking' then 0
                             when l.amount_micros <= 0 then 0
                             else 1 end) as unaccepted
               from entry as l
               left join meter_event as m on m.meter_event_id = l.meter_event_id
              group by l.project_id, l.trace_id) as e on e.project_id = t.project_id and e.trace_id = t.trace_id
 order by t.project_id, t.trace_id
