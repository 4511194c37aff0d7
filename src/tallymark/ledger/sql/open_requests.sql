select * from run_request where finished_at_us is null order by asked_at_us, request_id
