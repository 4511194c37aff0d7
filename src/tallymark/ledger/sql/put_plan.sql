-- put_plan: what several workers are to do.
insert into plan (plan_id, kind, stage, from_us, to_us, made_at_us, stage_at_us, card_digest, request, counts, problem)
values (:plan_id, :kind, :stage, :from_us, :to_us, :now_us, :now_us, :card_digest, :request, :counts, '')
