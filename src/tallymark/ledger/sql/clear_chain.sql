delete from chain
