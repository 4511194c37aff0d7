-- list_runs: what was run or asked for, the newest first, before a place. A request stands for its newest run.
select found.*, run_progress.stage, run_progress.stage_at_us, run_progress.done, run_progress.total,
       run_progress.told_at_us
  from (select *
          from (select run_id as id, run_id, verb as kind, cast(null as text) as trace_id,
                       cast(null as bigint) as from_us, cast(null as bigint) as to_us, 0 as dry_run,
                       started_at_us as at_us, asked_by, owner, started_at_us, finished_at_us, problem, summary,
                       0 as is_request
                  from run
                 where (started_at_us, run_id) < (:before_us, :before_id)
                   and not exists (select 1 from run_request where run_request.run_id = run.run_id)
                 order by started_at_us desc, run_id desc limit :limit) as runs
         union all
        select *
          from (select request_id as id, run_id, kind, trace_id, from_us, to_us, dry_run, asked_at_us as at_us,
                       asked_by, owner, started_at_us, finished_at_us, problem,
                       coalesce(summary, (select run.summary from run where run.run_id = run_request.run_id)) as summary,
                       1 as is_request
                  from run_request
                 where (asked_at_us, request_id) < (:before_us, :before_id)
                 order by asked_at_us desc, request_id desc limit :limit) as requests) as found
  left join run_progress on run_progress.run_id = found.run_id
 order by found.at_us desc, found.id desc
 limit :limit
