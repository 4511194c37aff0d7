-- New usage is noted as stale once for a batch (put_stale_usage, put_stale_models), not by a trigger for each row: a tenth of
-- the time of storing. Changes of what is there are still noted by triggers.
drop trigger new_usage_is_stale;
drop trigger new_model_is_stale;
