insert into rate_card (digest, body, first_used_at_us) values (:digest, :body, :now_us) on conflict (digest) do nothing
