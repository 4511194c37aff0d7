-- open_invoicing: the decision by which an invoice item for a meter event was begun, and Stripe has not refused it.
select d.decision_id, d.at_us, d.detail
  from decision as d
 where d.subject_kind = 'meter_event' and d.subject = :meter_event_id and d.verb = 'invoice_item'
   and not exists (select 1 from decision as r
                    where r.subject_kind = 'meter_event' and r.subject = d.subject and r.verb = 'refused'
                      and r.decision_id > d.decision_id)
 order by d.decision_id desc
 limit 1
