select * from trace where trace_id = :trace_id order by project_id
