-- next_proof: when something that was streamed may be asked about next.
select min(next_attempt_at_us) as next_proof_at_us from meter_event where state = 'streamed'
