-- put_chain_head: a chain of digests has grown.
update chain set length = :length, digest = :digest where name = :name
