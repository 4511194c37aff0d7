-- untagged: unbilled traces of a project without a billing tag, which tag filtering would miss. Bookmarked ones are
-- left alone: tagging would lose the bookmark, and the ledger knows them already.
select trace_id, timestamp_us, name, user_id, session_id, release, version, environment, public
  from trace
 where project_id = :project_id and trace_id > :after_trace_id and tags = '[]' and bookmarked = 0
   and outcome in ('billed', 'held') and mark_state in ('', 'waiting')
 order by trace_id
 limit :limit
