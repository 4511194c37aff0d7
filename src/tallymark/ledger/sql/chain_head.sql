-- chain_head: how long a chain of digests is, and its newest digest.
select length, digest from chain where name = :name
