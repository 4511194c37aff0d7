-- put_meter_window: note that a meter counts only the last meter event of each of its windows.
insert into meter_window (meter, window_s)
values (:meter, :window_s)
on conflict (meter) do update set window_s = excluded.window_s
