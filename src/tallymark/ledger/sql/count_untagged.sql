-- count_untagged: traces since a moment that came without a billing tag.
select count(*) as traces, max(timestamp_us) as newest_us from trace
 where project_id = :project_id and timestamp_us >= :since_us and tags = '[]' and reason <> 'future_timestamp'
