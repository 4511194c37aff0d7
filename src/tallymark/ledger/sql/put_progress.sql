-- put_progress: how far a run is now.
insert into run_progress (run_id, stage, stage_at_us, done, total, told_at_us)
values (:run_id, :stage, :stage_at_us, :done, :total, :now_us)
on conflict (run_id) do update
   set stage = excluded.stage, stage_at_us = excluded.stage_at_us, done = excluded.done, total = excluded.total,
       told_at_us = excluded.told_at_us
