-- decision_sums: each decision with what the entries that it took back come to.
select d.decision_id, d.amount_micros, coalesce(e.entries, 0) as entries, coalesce(e.taken_back_micros, 0) as taken_back_micros
  from decision as d
  left join (select decision_id, count(*) as entries, cast(-sum(amount_micros) as bigint) as taken_back_micros
               from entry
              where decision_id is not null and kind in ('reversal', 'waiver', 'invoiced')
              group by decision_id) as e on e.decision_id = d.decision_id
 order by d.decision_id
