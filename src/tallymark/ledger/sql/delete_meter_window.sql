-- delete_meter_window: note that a meter counts every meter event.
delete from meter_window where meter = :meter
