-- rate_cards: every card that a run was rated by.
select digest, body from rate_card order by digest
