-- put_plan_part: a part of a plan's stage, for one worker at a time.
insert into plan_part (plan_id, stage, number, source_key, from_us, to_us, after_trace_id, through_trace_id, state, tries,
                       problem, counts)
values (:plan_id, :stage, :number, :source_key, :from_us, :to_us, :after_trace_id, :through_trace_id, 'open', 0, '', '{}')
