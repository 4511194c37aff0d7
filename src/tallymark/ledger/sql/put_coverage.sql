-- put_coverage: how far a source was read and settled, for one purpose.
insert into coverage (source_key, purpose, from_us, to_us) values (:source_key, :purpose, :from_us, :to_us)
on conflict (source_key, purpose) do update set from_us = excluded.from_us, to_us = excluded.to_us
