-- put_request: somebody asks for a run; nobody has it yet.
insert into run_request (request_id, kind, trace_id, from_us, to_us, dry_run, asked_at_us, asked_by, owner,
                         lease_until_us, attempt, problem)
values (:request_id, :kind, :trace_id, :from_us, :to_us, :dry_run, :asked_at_us, :asked_by, '', 0, 0, '')
